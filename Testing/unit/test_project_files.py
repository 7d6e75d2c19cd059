"""The files about the project say what pyproject.toml says."""

from __future__ import annotations

import re

from MAESegmentLib.version import __version__
from Testing.documentation import REPOSITORY


def text(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def test_every_python_that_is_promised_is_tested() -> None:
    promised = re.findall(r"Python :: (3\.\d+)", text("pyproject.toml"))
    (matrix,) = re.findall(r"python: \[(.+)\]", text(".github/workflows/tests.yml"))
    assert re.findall(r"3\.\d+", matrix) == promised
    assert f"Python {promised[0]} to {promised[-1]}" in text("README.md")


def test_the_changelog_begins_with_this_version() -> None:
    (newest, *_) = re.findall(r"^## ([\d.]+)", text("CHANGELOG.md"), re.MULTILINE)
    assert newest == __version__


def test_the_hooks_are_what_make_lint_runs() -> None:
    lint = text("Makefile").partition("\nlint:")[2].partition("\n\n")[0]
    hooks = re.findall(r"entry: \.venv/bin/(\w+)", text(".pre-commit-config.yaml"))
    assert hooks == re.findall(r"\$\(BIN\)/(\w+)", lint)
    (types,) = re.findall(r"\$\(BIN\)/(mypy .+)", lint)
    assert f"entry: .venv/bin/{types}\n" in text(".pre-commit-config.yaml")
