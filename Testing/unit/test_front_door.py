"""The `maesegment` command as a stranger meets it: quick to start, clear when something is wrong."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from MAESegmentLib.cli.main import COMMANDS, build_parser, main, report_failure

REPOSITORY = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "monai", "matplotlib", "SimpleITK")


def python(*words: str, **how: Any) -> subprocess.CompletedProcess[str]:
    how = {"stdout": subprocess.PIPE, **how}
    return subprocess.run(
        [sys.executable, *words], stderr=subprocess.PIPE, text=True, timeout=120, cwd=REPOSITORY, check=False, **how
    )


def loaded_after(statement: str) -> set[str]:
    code = f"import sys\nfrom MAESegmentLib.cli.main import *\n{statement}\nprint(*sys.modules, file=sys.stderr)"
    return set(python("-c", code).stderr.split())


def test_help_names_every_command_and_loads_no_heavy_package(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    printed = capsys.readouterr().out
    assert all(command.name in printed for command in COMMANDS)
    loaded = loaded_after("build_parser(None).format_help()")
    assert "MAESegmentLib.cli.main" in loaded
    assert loaded.isdisjoint({"numpy", "rich", *HEAVY})


def test_help_of_a_command_works_without_torch():
    loaded = loaded_after("for command in COMMANDS: build_parser(command.name).format_help()")
    assert loaded >= {f"MAESegmentLib.cli.{command.name}" for command in COMMANDS}
    assert loaded.isdisjoint(HEAVY)


def test_version_is_that_of_the_package():
    from MAESegmentLib import __version__

    assert python("-m", "MAESegmentLib.cli", "--version").stdout.split() == ["maesegment", __version__]


def test_unknown_command_suggests_the_nearest_one(capsys):
    assert main(["segmnt", "scan.nii"]) == 2
    printed = capsys.readouterr()
    assert "There is no command 'segmnt'" in printed.err
    assert "`maesegment segment`" in printed.err
    assert printed.out == ""


def test_no_command_shows_the_help_and_is_no_success(capsys):
    assert main([]) == 2
    assert "doctor" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["models", "cases"])
def test_a_command_of_actions_lists_them_and_is_no_success(capsys, command):
    assert main([command]) == 2
    assert "list " in capsys.readouterr().err


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """That of a command, and those of its actions."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_help_explains_every_option(command):
    (choices,) = (action.choices for action in build_parser(command)._actions if isinstance(action.choices, dict))
    for parser in parsers(choices[command]):
        assert parser.description.endswith(".")
        texts = {action.dest: action.help for action in parser._actions if not isinstance(action.choices, dict)}
        assert [name for name, text in texts.items() if not text or text.startswith("(")] == [], parser.prog


@pytest.mark.parametrize("words", [("models", "list", "--js"), ("models", "list", "twice"), ("doctor", "--json", "-x")])
def test_what_a_command_does_not_take_is_named(capsys, words):
    """A shortened option, too: what it means would change with the next option that is added."""
    assert main(words) == 2
    printed = capsys.readouterr()
    assert f"does not take {words[-1]!r}" in printed.err
    assert printed.out == ""


def test_expected_error_is_one_message_with_a_hint_and_its_traceback_only_with_debug(capsys, tmp_path):
    words = ["evaluate", "--predictions", str(tmp_path), "--data", str(tmp_path / "no"), "--out", str(tmp_path)]
    assert main(words) == 2
    first, *hint = capsys.readouterr().err.splitlines()
    assert first.startswith("error: ")
    assert hint
    assert "Traceback" not in " ".join(hint)
    for debug in (["--debug", *words], [*words, "--debug"]):
        assert main(debug) == 2
        assert "Traceback" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [("list",), ("list", "--json"), ("show", "hippocampus-mr")])
def test_a_stdout_that_is_full_is_not_told_as_a_full_disk(words, unbuffered):
    with Path("/dev/full").open("w") as full:
        environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
        result = python("-m", "MAESegmentLib.cli", "models", *words, stdout=full, env=environment)
    assert result.returncode == 2
    assert result.stderr.startswith("error: What is printed cannot be written where it was sent: No space left")
    assert len(result.stderr.splitlines()) == 2


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "Ctrl-C"),
        (PermissionError(13, "Permission denied", "/root/x"), 2, "/root/x: Permission denied"),
        (
            ModuleNotFoundError("No module named 'tensorboard'", name="tensorboard.compat"),
            2,
            "'tensorboard' is not installed",
        ),
        (MemoryError("Unable to allocate 9.1 GiB for an array"), 2, "ran out of memory: Unable to allocate 9.1 GiB"),
        (UnicodeEncodeError("latin-1", "CT \u6d77", 3, 4, ""), 2, "cannot be written as latin-1"),
        (ZeroDivisionError("division by zero"), 2, "defect"),
    ],
)
def test_each_kind_of_failure_is_told_in_words(capsys, error, code, said):
    assert report_failure(error) == code
    assert said in capsys.readouterr().err


def test_every_pin_satisfies_its_floor_and_every_dependency_is_pinned():
    pins = {}
    for line in (REPOSITORY / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, version = line.partition(";")[0].strip().split("==")
            pins.setdefault(canonicalize_name(name), []).append(version)
    for text in metadata.requires("maesegment") or []:
        floor = Requirement(text)
        if "trame" not in text:
            assert all(floor.specifier.contains(pin) for pin in pins[canonicalize_name(floor.name)]), text


def test_every_package_that_make_installs_is_pinned_with_all_that_it_brings():
    pins = {line.partition("==")[0] for line in (REPOSITORY / "constraints.txt").read_text().splitlines()}
    needed, waiting = set(), [Requirement("maesegment[train,demo,slicer,dev]")]
    while waiting:
        requirement = waiting.pop()
        for text in metadata.requires(requirement.name) or []:
            found = Requirement(text)
            wanted = any(
                found.marker is None or found.marker.evaluate({"extra": extra}) for extra in {"", *requirement.extras}
            )
            key = (canonicalize_name(found.name), frozenset(found.extras))
            # What torch brings for the GPU follows from torch's version and differs between its builds.
            if wanted and key not in needed and not key[0].startswith(("nvidia-", "cuda-", "triton")):
                needed.add(key)
                waiting.append(found)
    assert {name for name, _ in needed} - pins - {"maesegment"} == set()
