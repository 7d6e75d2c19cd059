"""The script that sees to the system libraries of the Qt and VTK tests, with stand-ins for `apt-get` and `id`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "system_packages.sh"


@pytest.fixture
def machine(tmp_path):
    """Runs the script on a machine whose libraries are absent until `apt-get install` brings them."""
    libraries, installed = tmp_path / "libraries", tmp_path / "installed"
    programs = tmp_path / "bin"
    programs.mkdir()

    def program(name: str, body: str) -> Path:
        path = programs / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path

    def run(*, root: bool, present: bool = False, repairable: bool = True) -> tuple[subprocess.CompletedProcess, str]:
        if present:
            libraries.touch()
        python = program("python", f"test -e {libraries} || {{ echo libEGL.so.1: cannot open; exit 1; }}")
        program("id", f"echo {0 if root else 1000}")
        program("uname", "echo Linux")
        brings = f"touch {libraries}" if repairable else "true"
        program("apt-get", f'echo "$@" >> {installed}; case "$*" in *install*) {brings};; esac')
        environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
        command = ["bash", str(SCRIPT), str(python), "views", "panel"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
        return result, installed.read_text() if installed.exists() else ""

    return run


def test_nothing_is_installed_where_everything_loads(machine):
    result, installed = machine(root=True, present=True)
    assert (result.returncode, result.stdout, result.stderr, installed) == (0, "", "", "")


def test_root_gets_what_is_missing(machine):
    result, installed = machine(root=True)
    assert result.returncode == 0, result.stderr
    assert "libEGL.so.1" in result.stdout
    assert "libegl1" in installed


def test_anyone_else_is_told_what_to_run(machine):
    result, installed = machine(root=False)
    assert result.returncode == 1
    assert "libEGL.so.1" in result.stderr
    assert "sudo apt-get install libegl1" in result.stderr
    assert installed == ""


def test_an_installation_that_did_not_help_is_no_success(machine):
    result, _ = machine(root=True, repairable=False)
    assert result.returncode == 1
    assert "Still not to be had (views): libEGL.so.1" in result.stderr
