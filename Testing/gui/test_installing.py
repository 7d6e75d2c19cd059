"""Installing happens when the user asks, changes nothing of Slicer's, and ends in a check."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest


class FakeDependencies:
    """Answers each check with the next report."""

    def __init__(self, *reports) -> None:
        self.reports = list(reports)
        self.purposes: list[str] = []

    def check(self, callback: Callable, purpose: str) -> None:
        self.purposes.append(purpose)
        callback(self.reports.pop(0))


class FakePip:
    def __init__(self, code: int | None = 0, reason: str = "", error: Exception | None = None) -> None:
        self.calls: list[list[str]] = []
        self.constraints = ""
        self._code, self._reason, self._error = code, reason, error

    def install(self, requirements, constraints, progress, done) -> None:
        self.calls.append(list(requirements))
        self.constraints = constraints.read_text(encoding="utf-8")
        if self._error is not None:
            raise self._error
        progress("Collecting monai")
        done(self._code, self._reason)


class FakeTorch:
    def __init__(self, accepted: bool = True) -> None:
        self.calls: list[tuple[str, bool]] = []
        self._accepted = accepted

    def install(self, requirement, repair, constraints) -> bool:
        assert constraints.is_file()
        self.calls.append((requirement, repair))
        return self._accepted


@pytest.fixture
def installing(plugin):
    return plugin("installing")


@pytest.fixture
def report_with(plugin):
    dependencies = plugin("dependencies")

    def make(*problems, foreign: bool = False, purpose: str = "segment"):
        return dependencies.DependencyReport("python", "", "3.12", problems, is_foreign=foreign, purpose=purpose)

    return make


@pytest.fixture
def problem(plugin):
    dependencies = plugin("dependencies")

    def make(name: str, kind: str = "missing", *, is_torch: bool = False):
        return dependencies.Problem(name, kind, f"{name} is {kind}.", f"{name}>=1.4", 5.0, is_torch)

    return make


@pytest.fixture
def install(installing, session, report_with, process_events_until):
    """Install what `report` lacks; returns (report, error, lines of progress) once it was checked again."""

    def run(report, *, pip=None, torch=None, after=None):
        dependencies = FakeDependencies(after if after is not None else report_with())
        installer = installing.Installer(session, dependencies, pip=pip or FakePip(), torch=torch or FakeTorch())
        lines, ends = [], []
        installer.install(report, lines.append, lambda *end: ends.append(end))
        process_events_until(lambda: ends, 10.0)
        assert not installer.is_running
        assert dependencies.purposes == [report.purpose] * report.can_install
        return *ends[0], lines

    return run


@pytest.mark.parametrize("kind", ["missing", "damaged"])
def test_torch_comes_first_and_from_the_extension_which_removes_a_damaged_one(install, report_with, problem, kind):
    pip, torch = FakePip(), FakeTorch()
    missing = report_with(problem("monai"), problem("torch", kind, is_torch=True))
    report, error, lines = install(missing, pip=pip, torch=torch)
    assert (report.ready, error) == (True, None)
    assert torch.calls == [("torch>=1.4", kind == "damaged")]
    assert pip.calls == [["monai>=1.4"]]
    assert "Collecting monai" in lines


def test_nothing_of_slicers_is_changed(install, report_with, problem):
    pip = FakePip()
    install(report_with(problem("monai")), pip=pip)
    import numpy

    pinned = pip.constraints.splitlines()
    assert f"numpy=={numpy.__version__}" in pinned
    assert not any(line.lower().startswith("monai==") for line in pinned)


def test_damaged_package_is_replaced_without_what_it_depends_on(install, report_with, problem):
    pip = FakePip()
    install(report_with(problem("monai", "damaged"), problem("nibabel"), purpose="train"), pip=pip)
    assert pip.calls == [["--force-reinstall", "--no-deps", "monai>=1.4"], ["monai>=1.4", "nibabel>=1.4"]]


def test_declining_torch_installs_nothing_and_says_so(install, report_with, problem):
    pip = FakePip()
    missing = report_with(problem("torch", is_torch=True), problem("monai"))
    report, error, _lines = install(missing, pip=pip, torch=FakeTorch(accepted=False), after=missing)
    assert pip.calls == []
    assert not report.ready
    assert error.code == "cancelled"


@pytest.mark.parametrize("pip", [FakePip(1, "No space left"), FakePip(error=OSError("No space left"))])
def test_failed_pip_is_said_with_its_last_words(install, report_with, problem, pip):
    missing = report_with(problem("monai"))
    _report, error, _lines = install(missing, pip=pip, after=missing)
    assert "No space left" in error.message
    assert error.hint


def test_success_that_leaves_something_missing_is_an_error(install, report_with, problem):
    missing = report_with(problem("monai"))
    report, error, _lines = install(missing, after=missing)
    assert not report.ready
    assert "monai" in error.message


def test_foreign_python_gets_a_command_and_no_installation(install, report_with, problem):
    pip = FakePip()
    _report, error, _lines = install(report_with(problem("monai"), foreign=True), pip=pip)
    assert pip.calls == []
    assert "-m pip install" in error.hint


def test_missing_pytorch_extension_says_how_to_get_it(installing, tmp_path):
    constraints = tmp_path / "constraints.txt"
    constraints.touch()
    with pytest.raises(Exception, match="extension PyTorch") as caught:
        installing.PyTorchExtension().install("torch>=2.6", False, constraints)
    assert "Extensions Manager" in caught.value.hint


def test_a_slicer_without_packaging_says_which_is_needed(installing, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    with pytest.raises(Exception, match=r"slicer\.packaging") as caught:
        installing.SlicerPip().install(["monai"], tmp_path / "constraints.txt", print, print)
    assert "5.12" in caught.value.hint
