"""Installs what is missing into Slicer's own Python, only when the user asks, and changes nothing that is there."""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from MAESegmentLib.errors import Cancelled, MAESegmentError, WorkerError
from MAESegmentLib.processes.environment import Problem

from .dependencies import Dependencies, DependencyReport
from .session import Session

ReportLine = Callable[[str], None]
#: Called when an installation step is over, with its exit code or with None and the reason.
StepDone = Callable[[int | None, str], None]
Done = Callable[[DependencyReport, "MAESegmentError | None"], None]


class Installer:
    """Torch first, then the rest, then a check in a fresh process. Never opens anything at start-up."""

    def __init__(
        self,
        session: Session,
        dependencies: Dependencies,
        *,
        pip: SlicerPip | None = None,
        torch: PyTorchExtension | None = None,
    ) -> None:
        self._session = session
        self._dependencies = dependencies
        self._pip = pip or SlicerPip()
        self._torch = torch or PyTorchExtension()
        self.is_running = False

    def install(self, report: DependencyReport, progress: ReportLine, done: Done) -> None:
        """`progress(line)` as it goes; `done(new report, error or None)` once, also when nothing could be done."""
        if self.is_running:
            done(report, WorkerError(_("An installation is under way."), _("Wait until it has ended.")))
            return
        if not report.can_install:
            done(report, _cannot_install(report))
            return
        self.is_running = True

        def finish(error: MAESegmentError | None) -> None:
            progress(_("Checking the result..."))
            self._dependencies.check(lambda new: self._over(new, error, done), report.purpose)

        # Files of a running worker cannot be replaced on Windows.
        self._session.shutdown()
        self._session.loop.call_later(0, lambda: self._guarded(lambda: self._begin(report, progress, finish), finish))

    def _begin(
        self, report: DependencyReport, progress: ReportLine, finish: Callable[[MAESegmentError | None], None]
    ) -> None:
        constraints = self._write_constraints(report.problems)
        torch = next((problem for problem in report.problems if problem.is_torch), None)
        if torch is not None:
            progress(_("Installing torch with the PyTorch extension..."))
            if not self._torch.install(torch.requirement, torch.kind == "damaged", constraints):
                raise Cancelled(_("torch was not installed."), _("Nothing was changed; press the button to try again."))
        others = [problem for problem in report.problems if not problem.is_torch]
        if others:
            progress(_("Installing {names}...").format(names=", ".join(problem.name for problem in others)))
        self._run_pip(pip_calls(others), constraints, progress, finish)

    def _run_pip(
        self,
        calls: Sequence[Sequence[str]],
        constraints: Path,
        progress: ReportLine,
        finish: Callable[[MAESegmentError | None], None],
    ) -> None:
        if not calls:
            finish(None)
            return

        def step_done(code: int | None, reason: str) -> None:
            if code == 0:
                self._guarded(lambda: self._run_pip(calls[1:], constraints, progress, finish), finish)
                return
            finish(
                WorkerError(
                    _("The packages could not be installed: {reason}").format(reason=reason or f"exit code {code}"),
                    _("Check the internet connection (or proxy) and free disk space, then press the button again."),
                )
            )

        self._pip.install(calls[0], constraints, progress, step_done)

    def _write_constraints(self, problems: Sequence[Problem]) -> Path:
        folder = self._session.working_folder
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "constraints.txt"
        # torchvision goes with torch and is replaced with it.
        free = {problem.name for problem in problems} | {"torchvision"}
        path.write_text("\n".join(pins(free)) + "\n", encoding="utf-8")
        return path

    def _guarded(self, step: Callable[[], None], finish: Callable[[MAESegmentError | None], None]) -> None:
        try:
            step()
        except MAESegmentError as error:
            finish(error)
        except Exception as error:  # pip, the extension and the network fail in many ways; all end the same
            logging.exception("MAESegment: installing failed")
            finish(
                WorkerError(
                    _("The installation failed: {reason}").format(reason=str(error) or type(error).__name__),
                    _("See the log; press the button to try again."),
                )
            )

    def _over(self, report: DependencyReport, error: MAESegmentError | None, done: Done) -> None:
        self.is_running = False
        if report.ready:
            error = None
        elif error is None:
            error = report.failure or WorkerError(
                _("Still missing after the installation: {names}.").format(names=", ".join(report.missing)),
                " ".join(problem.message for problem in report.problems),
            )
        done(report, error)


def pins(except_for: set[str]) -> list[str]:
    """A constraint for each package that Slicer has, so that pip leaves all of them as they are."""
    importlib.invalidate_caches()
    free = {_canonical(name) for name in except_for}
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name, version = distribution.metadata["Name"], distribution.version
        if name and version and _canonical(name) not in free:
            found.setdefault(_canonical(name), f"{name}=={version}")
    return [found[name] for name in sorted(found)]


def pip_calls(problems: Sequence[Problem]) -> list[list[str]]:
    """What pip is told, call after call. A damaged package looks installed to pip: it is replaced by force, alone,
    because force would replace what it depends on too."""
    damaged = [problem.requirement for problem in problems if problem.kind == "damaged"]
    calls = [["--force-reinstall", "--no-deps", *damaged]] if damaged else []
    return [*calls, [problem.requirement for problem in problems]] if problems else []


def _canonical(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def _cannot_install(report: DependencyReport) -> MAESegmentError | None:
    if report.ready:
        return None
    if report.failure is not None:
        return report.failure
    return WorkerError(
        _("{python} is not Slicer's own Python; nothing is installed into it from here.").format(python=report.python),
        _("In a terminal: {command}").format(command=report.command),
    )


class SlicerPip:
    """`slicer.packaging` without its dialog: its log goes to the panel, and Slicer stays alive. Not its `pip_ensure`,
    which asks once more, blocks, and takes a damaged package for an installed one."""

    def install(self, requirements: Sequence[str], constraints: Path, progress: ReportLine, done: StepDone) -> None:
        try:
            packaging = importlib.import_module("slicer.packaging")
        except ModuleNotFoundError:
            raise WorkerError(
                _("This Slicer is too old to install packages: it has no slicer.packaging."),
                _("Install Slicer 5.12 or newer, or choose a Python under Advanced that has the packages."),
            ) from None
        if slicer.app.testingEnabled():
            # There it installs at once and calls nobody back.
            packaging.pip_install(list(requirements), constraints=str(constraints))
            done(0, "")
            return
        last: list[str] = []

        def line(text: str) -> None:
            last[:] = [text.strip() or (last[0] if last else "")]
            progress(text.rstrip())

        packaging.pip_install(
            list(requirements),
            constraints=str(constraints),
            blocking=False,
            show_progress=False,
            requester="MAESegment",
            logCallback=line,
            completedCallback=lambda code: done(int(code), last[0] if last else ""),
        )


class PyTorchExtension:
    """The extension that knows which torch fits the driver; it asks the user before it downloads."""

    def install(self, requirement: str, repair: bool, constraints: Path) -> bool:
        """Whether it is there now: False if the user declined."""
        try:
            utils = importlib.import_module("PyTorchUtils")
        except ModuleNotFoundError:
            raise WorkerError(
                _("torch comes with the extension PyTorch, which is not installed."),
                _("Open the Extensions Manager, install PyTorch, restart Slicer, and press the button again."),
            ) from None
        logic = utils.PyTorchUtilsLogic()
        if repair:
            logic.uninstallTorch()
        version = requirement[len("torch") :]
        # The extension takes no constraints; the pip that it starts does.
        before = os.environ.get("PIP_CONSTRAINT")
        os.environ["PIP_CONSTRAINT"] = str(constraints)
        try:
            return logic.installTorch(askConfirmation=True, torchVersionRequirement=version) is not None
        finally:
            if before is None:
                del os.environ["PIP_CONSTRAINT"]
            else:
                os.environ["PIP_CONSTRAINT"] = before
