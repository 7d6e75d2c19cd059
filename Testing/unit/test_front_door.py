"""The `maesegment` command as a stranger meets it: quick to start, clear when something is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from MAESegmentLib.cli.main import COMMANDS, main, report_failure

REPOSITORY = Path(__file__).resolve().parents[2]
HEAVY = ("numpy", "torch", "monai", "matplotlib", "SimpleITK", "nibabel", "rich")


def maesegment(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "MAESegmentLib.cli", *words]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, cwd=REPOSITORY, env=os.environ | environment
    )


def modules_loaded_by(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sorted(sys.modules), file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=REPOSITORY)
    return set(result.stderr.split())


def test_help_names_every_command_and_loads_no_heavy_package():
    loaded = modules_loaded_by(
        "from MAESegmentLib.cli.main import build_parser\nprint(build_parser(None).format_help())"
    )
    assert "MAESegmentLib.cli.main" in loaded
    assert loaded.isdisjoint(HEAVY)
    printed = maesegment("--help").stdout
    assert all(command.name in printed for command in COMMANDS)


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_help_of_a_command_works_without_torch(command):
    loaded = modules_loaded_by(
        "from MAESegmentLib.cli.main import main\n"
        f"try:\n    main([{command!r}, '--help'])\n"
        "except SystemExit as end:\n    assert end.code == 0"
    )
    assert f"MAESegmentLib.cli.{command}" in loaded
    assert loaded.isdisjoint({"torch", "monai", "matplotlib", "SimpleITK"})


def test_version_is_that_of_the_package():
    from MAESegmentLib import __version__

    assert maesegment("--version").stdout.split() == ["maesegment", __version__]


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


@pytest.mark.parametrize("words", [("models", "list", "--js"), ("models", "list", "twice"), ("doctor", "--json", "-x")])
def test_what_a_command_does_not_take_is_named(capsys, words):
    """A shortened option, too: what it means would change with the next option that is added."""
    assert main(words) == 2
    printed = capsys.readouterr()
    assert f"does not take {words[-1]!r}" in printed.err
    assert printed.out == ""


def test_expected_error_is_one_message_with_a_hint_and_no_traceback(tmp_path):
    result = maesegment(
        "evaluate", "--predictions", str(tmp_path), "--data", str(tmp_path / "no"), "--out", str(tmp_path)
    )
    assert result.returncode == 2
    first, *rest = result.stderr.splitlines()
    assert first.startswith("error: There is no dataset at ")
    assert rest, "the hint is missing"
    assert "Traceback" not in result.stderr


def test_debug_shows_the_traceback_wherever_the_flag_stands(tmp_path):
    words = ("evaluate", "--predictions", str(tmp_path), "--data", str(tmp_path / "no"), "--out", str(tmp_path))
    for result in (maesegment("--debug", *words), maesegment(*words, "--debug")):
        assert result.returncode == 2
        assert "Traceback" in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "words", [("models", "list"), ("models", "list", "--json"), ("models", "show", "hippocampus-mr")]
)
def test_a_stdout_that_is_full_is_not_told_as_a_full_disk(words, unbuffered):
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "MAESegmentLib.cli", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            cwd=REPOSITORY,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        )
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
    floors = [line.partition(";")[0].strip() for line in metadata.requires("maesegment") or [] if "trame" not in line]
    pins = {}
    for line in (REPOSITORY / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, version = line.partition(";")[0].strip().split("==")
            pins.setdefault(name, []).append(version)
    for requirement in floors:
        name, floor = requirement.split(">=")
        assert name.lower() in pins, f"{name} is not in constraints.txt"
        assert all(_numbers(pin) >= _numbers(floor) for pin in pins[name.lower()]), requirement


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


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
