"""What the Python that runs the network lacks, found out in that Python, in one sentence."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from slicer.i18n import tr as _

from MAESegmentLib.errors import WorkerError
from MAESegmentLib.processes.environment import SEGMENT, TRAIN, Problem
from MAESegmentLib.processes.interpreter import Interpreter, module_launch
from MAESegmentLib.values import from_json

from .child_process import ChildProcess, ChildResult
from .session import Session, application_folder

_MODULE = "MAESegmentLib.processes.environment"


@dataclass(frozen=True)
class DependencyReport:
    """What is lacking for `purpose`, "segment" or "train" (which needs all that segmenting needs, too).

    `failure` is set when the interpreter could not even be started; `instead` where torch is missing, which is not the
    only package that would do to segment.
    """

    python: str
    origin: str = ""
    version: str = ""
    problems: tuple[Problem, ...] = ()
    packages: Mapping[str, str] | None = None
    is_foreign: bool = False
    failure: WorkerError | None = None
    purpose: str = SEGMENT
    instead: Problem | None = None

    @property
    def ready(self) -> bool:
        return self.failure is None and not self.problems

    @property
    def ready_to_segment(self) -> bool:
        """Whether nothing is lacking but, perhaps, what only training needs."""
        return self.failure is None and all(problem.purpose == TRAIN for problem in self.problems)

    @property
    def to_segment_only(self) -> DependencyReport:
        """The same with the other package in the place of torch."""
        problems = tuple(self.instead if one.is_torch and self.instead else one for one in self.problems)
        return replace(self, problems=problems, instead=None)

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the packages to install or repair."""
        return tuple(problem.name for problem in self.problems)

    @property
    def download_mb(self) -> float:
        return sum(problem.size_mb for problem in self.problems)

    @property
    def can_install(self) -> bool:
        """Whether the button may do it: a Python of the user's own is not touched."""
        return self.failure is None and bool(self.problems) and not self.is_foreign

    @property
    def command(self) -> str:
        """What the user types in a terminal for a Python of their own."""
        wanted = " ".join(f'"{problem.requirement}"' for problem in self.problems)
        return f'"{self.python}" -m pip install {wanted}' if wanted else ""

    @property
    def sentence(self) -> str:
        """For the first-run bar."""
        if self.failure is not None:
            return self.failure.message
        if not self.problems:
            return _("Ready: Python {version} with all packages.").format(version=self.version)
        names = ", ".join(self.missing)
        if self.instead is not None:
            torch = next(one.name for one in self.problems if one.is_torch)
            names = names.replace(torch, _("{one} or {other}").format(one=torch, other=self.instead.name))
        if self.is_foreign:
            return _("{python} lacks {names}.").format(python=self.python, names=names)
        if any(problem.kind != "missing" for problem in self.problems):
            text = _("Some packages that run the network need repair or are missing: {names} (about {size}).")
        elif self.ready_to_segment:
            text = _("To store cases and fine-tune, Slicer needs {names} (download: about {size}).")
            if all(problem.is_torch for problem in self.problems):
                text = _("To fine-tune, Slicer needs {names} (download: about {size}).")
        elif self.instead is not None:
            text = _(
                "To run the network, Slicer needs {names}. OpenVINO (download: about {least}) segments on the "
                "processor with the models that ship. PyTorch (about {size}, more for a GPU) runs every model, and "
                "fine-tunes."
            )
        else:
            text = _("To run the network, Slicer needs {names} (download: about {size}).")
        least = size_text(self.to_segment_only.download_mb)
        return text.format(names=names, size=size_text(self.download_mb), least=least)


class Dependencies:
    """Asks the session's interpreter; a check takes a second or two and never blocks."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._children: dict[str, ChildProcess] = {}

    def check(self, callback: Callable[[DependencyReport], None], purpose: str = SEGMENT) -> None:
        """`callback(report)` from the event loop; it replaces one for the same purpose that is under way."""
        self._stop(purpose)
        try:
            interpreter = self._session.interpreter()
        except WorkerError as error:
            report = DependencyReport(self._session.chosen_python, failure=error, purpose=purpose)
            self._session.loop.call_later(0, lambda: callback(report))
            return

        def done(result: ChildResult) -> None:
            if result.reason != "stopped":
                self._children.pop(purpose, None)
                callback(report_of(interpreter, result, purpose))

        launch = module_launch(interpreter, self._session.environment(), _MODULE, (purpose,))
        self._children[purpose] = ChildProcess(self._session.loop, self._session.transport_factory(), launch, done)

    def stop(self) -> None:
        """Cancel checks under way; their callbacks are not called."""
        for purpose in (*self._children,):
            self._stop(purpose)

    def _stop(self, purpose: str) -> None:
        child = self._children.pop(purpose, None)
        if child is not None:
            child.stop()

    def check_now(self, purpose: str = SEGMENT) -> DependencyReport:
        """The report, waited for while Slicer stays alive; for scripts."""
        reports: list[DependencyReport] = []
        self.check(reports.append, purpose)
        self._session.loop.wait_until(lambda: bool(reports))
        return reports[0]


def report_of(interpreter: Interpreter, result: ChildResult, purpose: str = SEGMENT) -> DependencyReport:
    """What the child said, or what is wrong if it said nothing of use."""
    path = str(interpreter.path)
    foreign = is_foreign(interpreter)
    try:
        said = json.loads(result.output.strip().splitlines()[-1])
        problems = tuple(from_json(Problem, entry) for entry in said["problems"])
        packages, instead = dict(said["packages"]), said.get("instead")
        return DependencyReport(
            path,
            interpreter.origin,
            str(said["version"]),
            problems,
            packages,
            foreign,
            purpose=purpose,
            instead=None if instead is None else from_json(Problem, instead),
        )
    except (ValueError, IndexError, KeyError, TypeError):
        failure = WorkerError(
            _("{python} cannot be used: {reason}").format(python=path, reason=result.last_words),
            _("Choose another Python under Advanced, or leave it empty to use Slicer's own."),
        )
        return DependencyReport(path, interpreter.origin, is_foreign=foreign, failure=failure, purpose=purpose)


def is_foreign(interpreter: Interpreter) -> bool:
    """Whether this is not Slicer's own PythonSlicer, so that Slicer's installer does not reach it."""
    path = Path(interpreter.path)
    beside = path.parent.resolve() == application_folder().resolve()
    return path.stem != "PythonSlicer" or not (beside or str(path) == sys.executable)


def size_text(megabytes: float) -> str:
    return f"{megabytes / 1024:.1f} GB" if megabytes >= 1000 else f"{max(round(megabytes, -1), 10):.0f} MB"
