"""What the examination of a Python finds, in processes whose packages are made up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from MAESegmentLib.processes.environment import (
    INSTEAD_OF_TORCH,
    LEAST_PYTHON,
    REQUIREMENTS,
    SEGMENT,
    TRAIN,
    examine,
    requirements_for,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[3]
MODULE = "MAESegmentLib.processes.environment"


class Packages:
    """A folder of packages, good ones to begin with; `-S` hides those that are really installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for requirement in REQUIREMENTS:
            self.install(requirement.name, requirement.floor)

    def install(self, name: str, version: str | None, code: str | None = "") -> None:
        """`version` None leaves the metadata out, `code` None the module."""
        self.remove(name)
        if code is not None:
            (self.folder / f"{name}.py").write_text(code)
        if version is not None:
            information = self.folder / f"{name}-{version}.dist-info"
            information.mkdir()
            (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")

    def remove(self, name: str) -> None:
        for file in self.folder.glob(f"{name}-*.dist-info/METADATA"):
            file.unlink()
            file.parent.rmdir()
        (self.folder / f"{name}.py").unlink(missing_ok=True)

    def run(self, module: str = MODULE, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": f"{self.folder}{os.pathsep}{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
        environment.pop("PYTHONUNBUFFERED", None)
        stdin, kept_open = os.pipe()
        try:
            return subprocess.run(
                [sys.executable, "-S", "-m", module, *arguments],
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
                stdin=stdin,
            )
        finally:
            os.close(stdin)
            os.close(kept_open)

    def report(self, *arguments: str) -> Mapping[str, Any]:
        answer = self.run(MODULE, *arguments)
        assert answer.returncode == 0, answer.stderr
        assert answer.stdout.count("\n") == 1
        return json.loads(answer.stdout)

    def problem(self) -> Mapping[str, Any]:
        (problem,) = self.report()["problems"]
        assert "\n" not in problem["message"] + problem["advice"]
        return problem


@pytest.fixture
def packages(tmp_path) -> Packages:
    return Packages(tmp_path)


def test_floors_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=" + ".".join(map(str, LEAST_PYTHON))
    extras = project["optional-dependencies"]
    assert {one.text for one in REQUIREMENTS} <= {*project["dependencies"], *extras["train"]}
    assert INSTEAD_OF_TORCH.text in extras["openvino"]


def test_good_python(packages):
    report = packages.report()
    assert report["problems"] == []
    assert report["python"] == sys.executable
    assert report["version"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
    assert report["packages"] == {one.name: one.floor for one in requirements_for(SEGMENT)}


def test_python_of_these_tests_is_good():
    assert examine(TRAIN) == []


def test_missing_package(packages):
    packages.remove("torch")
    problem = packages.problem()
    assert (problem["name"], problem["kind"], problem["is_torch"]) == ("torch", "missing", True)
    assert problem["message"] == "torch is not installed (runs the network)."
    assert problem["advice"] == 'python -m pip install "torch>=2.6"'
    assert problem["requirement"] == "torch>=2.6"
    assert problem["size_mb"] > 100
    report = packages.report()
    assert (report["instead"]["name"], report["instead"]["kind"]) == ("openvino", "missing")
    assert packages.report(TRAIN)["instead"] is None


def test_whoever_segments_needs_no_torch_where_openvino_is(packages):
    packages.remove("torch")
    packages.install("openvino", "2026.4", "import sys\nassert sys.modules['openvino_telemetry'] is None\n")
    report = packages.report()
    assert report["problems"] == []
    assert report["packages"]["openvino"] == "2026.4"
    assert [(one["name"], one["purpose"]) for one in packages.report(TRAIN)["problems"]] == [("torch", TRAIN)]
    packages.install("torch", "2.6", "1 / 0")  # half installed: that is reported
    assert packages.problem()["kind"] == "damaged"


def test_everything_is_missing(packages):
    for requirement in REQUIREMENTS:
        packages.remove(requirement.name)
    report = packages.report(TRAIN)
    assert [problem["name"] for problem in report["problems"]] == [requirement.name for requirement in REQUIREMENTS]
    assert report["packages"] == {}


def test_whoever_segments_is_not_asked_for_what_only_training_needs(packages):
    for name in ("scipy", "nibabel", "matplotlib"):
        packages.remove(name)
    assert packages.report(SEGMENT)["problems"] == packages.report()["problems"] == []
    problems = packages.report(TRAIN)["problems"]
    assert [problem["name"] for problem in problems] == ["scipy", "nibabel", "matplotlib"]
    assert {problem["purpose"] for problem in problems} == {TRAIN}


def test_whoever_trains_is_asked_for_all(packages):
    packages.remove("psutil")
    packages.install("nibabel", "5.1")
    problems = packages.report(TRAIN)["problems"]
    assert [(one["name"], one["kind"], one["purpose"]) for one in problems] == [
        ("psutil", "missing", SEGMENT),
        ("nibabel", "old", TRAIN),
    ]


@pytest.mark.parametrize("version", ["2.5.1", "2.5.9+cu124", "1.13", "2"])
def test_old_package(packages, version):
    packages.install("torch", version)
    problem = packages.problem()
    assert (problem["kind"], problem["message"]) == ("old", f"torch {version} is older than 2.6.")


@pytest.mark.parametrize("version", ["2.6", "2.6.0+cpu", "2.10.1", "3.0rc1", "2.13.0a0+git12ab"])
def test_new_enough_package(packages, version):
    packages.install("torch", version)
    assert packages.report()["problems"] == []


def test_package_without_metadata_tells_its_version_itself(packages):
    packages.install("psutil", None, "__version__ = '5.8.0'")
    assert packages.problem()["kind"] == "old"
    packages.install("psutil", None, "__version__ = '6.0'")
    assert packages.report()["problems"] == []


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (None, "No module named 'psutil'"),
        ("raise OSError('libfoo.so: cannot open\\nmore')", "libfoo.so: cannot open"),
        ("import not_there", "No module named 'not_there'"),
        ("raise ValueError", "ValueError"),
        ("this is not a Python", "invalid syntax"),
        ("import sys; sys.exit('no licence')", "no licence"),
    ],
    ids=["no module", "library", "requirement", "silent", "syntax", "exit"],
)
def test_damaged_package(packages, code, reason):
    packages.install("psutil", "6.0", code)
    problem = packages.problem()
    assert problem["kind"] == "damaged"
    assert problem["message"].startswith("psutil is installed but does not load: ")
    assert reason in problem["message"]
    assert problem["advice"] == 'python -m pip install --force-reinstall "psutil>=5.9"'


def test_module_that_fails_and_has_no_metadata_is_damaged_too(packages):
    packages.install("psutil", None, "raise ImportError('half of it is gone')")
    assert packages.problem()["kind"] == "damaged"


def test_empty_folder_left_by_an_uninstallation_is_nothing(packages):
    packages.remove("psutil")
    (packages.folder / "psutil").mkdir()
    assert packages.problem()["kind"] == "missing"


def test_metadata_without_a_word_in_it(packages):
    (packages.folder / "psutil-5.9.dist-info" / "METADATA").write_text("")
    report = packages.report()
    assert report["problems"] == []
    assert "psutil" not in report["packages"]


PRINTS = """
import ctypes, os, sys
print("welcome to torch")
os.write(1, b"written past Python\\n")
ctypes.CDLL(None).puts(b"kept in C's own buffer until the process ends")
sys.stderr.write("a warning\\n")
"""


def test_what_packages_print_stays_out_of_the_answer(packages):
    packages.install("torch", "2.7", PRINTS)
    assert packages.report()["problems"] == []
    said = packages.run().stderr
    assert "welcome to torch" in said
    assert "written past Python" in said


def test_the_worker_says_what_is_missing_and_ends(packages):
    packages.remove("psutil")
    packages.install("torch", "2.7", PRINTS)
    answer = packages.run("MAESegmentLib.worker")
    assert answer.returncode == 3
    hello, error = map(json.loads, answer.stdout.splitlines())
    assert hello["type"] == "hello"
    assert (error["type"], error["id"], error["code"]) == ("error", None, "worker")
    assert "psutil is not installed" in error["message"]
    assert "\n" not in error["message"]
    assert error["hint"] == 'Install the missing packages in that Python: "psutil>=5.9"'
