"""A logic without a worker: what the panels start, a test brings to its end itself."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from MAESegmentLib.bundle import ModelStore
from MAESegmentLib.bundle.library import without_locators
from MAESegmentLib.cases.mapping import LabelMatch
from MAESegmentLib.cases.records import CaseRecord
from MAESegmentLib.cases.submission import CaseIssue
from MAESegmentLib.errors import Cancelled, MAESegmentError
from MAESegmentLib.images.labels import Label
from MAESegmentLib.jobs import JobState
from MAESegmentLib.runs import Curves, RunRequest, RunResult, RunState, RunStatus
from MAESegmentLib.runs.records import CaseChange
from Testing.skips import REPOSITORY

GIB = 2**30
SHIPPED_MODELS = REPOSITORY / "Resources" / "Models"
_HEADNECK = ModelStore("nowhere", shipped_folder=SHIPPED_MODELS).find("headneck-ct")
HEADNECK = f"{_HEADNECK.name}@{_HEADNECK.version}"
RUNNING = RunStatus(
    RunState.RUNNING, "train", "Training, step 120 of 280", 0.43, 400.0, 120, 280, None, "cuda:0", "NVIDIA T4", 300.0
)


def case_record(number: int, role: str = "train", **changes: Any) -> CaseRecord:
    """A stored case of the shipped hippocampus model."""
    record = CaseRecord(
        id=f"case-{number:04d}",
        role=role,
        group=f"case-{number:04d}",
        labels=("anterior", "posterior"),
        unknown=(),
        partial=False,
        volumes_ml={"anterior": 1.2 + 0.1 * number, "posterior": 1.1 + 0.2 * number},
        channels=1,
        shape=(48, 64, 40),
        spacing=(1.0, 1.0, 1.0),
        image_hash=f"image{number}",
        label_hash=f"label{number}",
        model={"name": "hippocampus-mr", "version": "2.0.0", "hash": "h"},
        added="2026-11-24",
    )
    return replace(record, **changes)


def run_curves(steps: int) -> Curves:
    """Of a run of the hippocampus model that learns: loss at each step, Dice each twenty."""
    loss = tuple((n, 0.25 + 0.55 * math.exp(-n / 60) + 0.03 * math.sin(2.1 * n)) for n in range(1, steps + 1))
    dice = []
    for step in range(20, steps + 1, 20):
        gain = 0.13 * (1 - math.exp(-step / 70)) + 0.006 * math.sin(step / 11)
        values = {"anterior": 0.70 + gain, "posterior": 0.72 + 0.92 * gain}
        dice.append((step, {**values, "mean": sum(values.values()) / 2}))
    return Curves(loss, tuple(dice), {"anterior": 0.70, "posterior": 0.72, "mean": 0.71})


def run_result(**changes: Any) -> RunResult:
    """Better on the whole, worse for one case."""
    first = CaseChange(
        "case-0005", 0.70, 0.86, {"anterior": 0.69, "posterior": 0.71}, {"anterior": 0.85, "posterior": 0.87}
    )
    second = CaseChange("case-0006", 0.75, 0.73, {"anterior": 0.75}, {"anterior": 0.73})
    result = RunResult(
        model={"name": "hippocampus-mr", "version": "2.1.0", "hash": "new"},
        path="nowhere",
        parent={"name": "hippocampus-mr", "version": "2.0.0", "hash": "old"},
        cases=6,
        how="4 held-out cases",
        indicative_only=False,
        before={"anterior": 0.70, "posterior": 0.72},
        after={"anterior": 0.82, "posterior": 0.84},
        mean_before=0.71,
        mean_after=0.83,
        per_case=(first, second),
        seconds=700.0,
    )
    return replace(result, **changes)


def version_of(base: Any, version: str) -> Any:
    """A child of a model, as far as a panel looks at it."""
    parent = {"name": base.name, "version": base.version, "hash": base.content_hash}
    names = ("name", "metadata", "labels", "locator", "channels", "card", "path", "kind")
    return SimpleNamespace(
        **{name: getattr(base, name) for name in names}, version=version, content_hash="new", parent=parent
    )


@dataclass(frozen=True)
class Ranked:
    """A row of `nextCases`."""

    name: str
    source: Any
    score: float | None = None
    entropy: float | None = None
    position: tuple[float, float, float] | None = (0.0, 0.0, 0.0)
    error: MAESegmentError | None = None
    uncertainty: Any = None


@dataclass(frozen=True)
class Proposal:
    """What `proposeCase` returns."""

    choices: Sequence[LabelMatch] = (
        LabelMatch("anterior", "anterior", "same"),
        LabelMatch("posterior", "posterior", "same"),
    )
    findings: Sequence[CaseIssue] = ()
    duplicate: CaseRecord | None = None
    stored: CaseRecord | None = None
    isChanged: bool = False
    modelLabels: Sequence[str] = ("anterior", "posterior")


class Notifier:
    """Something with listeners."""

    def __init__(self, callback: Callable[[Any], None] | None = None, **arguments: Any) -> None:
        self.arguments = arguments
        self.cancel_requested = False
        self._listeners = [callback] if callback else []

    def add_listener(self, callback: Callable[[Any], None]) -> None:
        self._listeners.append(callback)

    def cancel(self) -> None:
        self.cancel_requested = True

    def notify(self) -> None:
        for listener in tuple(self._listeners):
            listener(self)


class FakeJob(Notifier):
    """`arguments` are those that it was started with."""

    name = "Scan"

    def __init__(self, callback: Callable[[Any], None] | None = None, **arguments: Any) -> None:
        super().__init__(callback, **arguments)
        self.state = JobState.PREPARING
        self.stage, self.fraction, self.eta_s, self.position = "", 0.0, None, 0
        self.error: MAESegmentError | None = None
        self.details: Mapping[str, Any] = {}
        self.summary: Any = None
        self.notes: list[str] = []
        self.rows: list[Any] = []
        self._value: Any = None

    @property
    def is_finished(self) -> bool:
        return self.state in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)

    def result(self) -> Any:
        assert self.is_finished
        if self.error is not None:
            raise self.error
        return self._value

    def go_on(self, stage: str, fraction: float, eta_s: float | None = None) -> None:
        self.state, self.stage, self.fraction, self.eta_s = JobState.RUNNING, stage, fraction, eta_s
        self.notify()

    def succeed(self, value: Any, summary: Any = None) -> None:
        self.state, self._value, self.summary = JobState.DONE, value, summary
        self.notify()

    def fail(self, error: MAESegmentError, details: Mapping[str, Any] | None = None) -> None:
        self.state = JobState.CANCELLED if isinstance(error, Cancelled) else JobState.FAILED
        self.error, self.details = error, details or {}
        self.notify()


class FakeDrawingJob(FakeJob):
    """An update of a scan, or scribbles that grow."""

    is_edited_since = False
    undone = 0

    def undo(self) -> bool:
        self.undone += 1
        return True


class FakeBatch(Notifier):
    """Several segmentations; `current` is one of them."""

    def __init__(self, names: Sequence[str], callback: Callable[[Any], None], **arguments: Any) -> None:
        super().__init__(callback, **arguments)
        state = {"state": JobState.QUEUED, "message": "", "segmentation": None, "summary": None}
        self.rows = [SimpleNamespace(name=name, **state) for name in names]
        self.index = 0
        self.current: FakeJob | None = FakeJob(lambda _job: self.notify())

    @property
    def is_finished(self) -> bool:
        return self.index >= len(self.rows)

    @property
    def succeeded(self) -> list[Any]:
        return [row for row in self.rows if row.state is JobState.DONE]

    def end_row(self, state: JobState, message: str = "", segmentation: Any = None, summary: Any = None) -> None:
        row = self.rows[self.index]
        row.state, row.message, row.segmentation, row.summary = state, message, segmentation, summary
        self.index += 1
        self.notify()


class FakeRun(Notifier):
    """A fine-tuning whose state and curves a test sets with `tell`."""

    def __init__(self, status: RunStatus | None = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.run = SimpleNamespace(id="run-1", request=RunRequest({"name": "hippocampus-mr"}, "", "", ("case-0001",)))
        self.status = status or RunStatus(RunState.WAITING, text="Starting ...")
        self.curves = Curves()
        self.decision = ""
        self.refusal: MAESegmentError | None = None
        self.asked: list[str] = []

    def tell(self, status: RunStatus | None = None, curves: Curves | None = None) -> None:
        self.status, self.curves = status or self.status, curves or self.curves
        self.notify()

    def finish(self, result: RunResult) -> None:
        self.tell(RunStatus(RunState.DONE, fraction=1.0, text=result.banner, result=result))

    def stopAndKeep(self) -> None:
        self._ask("stop", status=replace(self.status, stop_requested=True))

    def discard(self) -> None:
        self._ask("discard", status=replace(self.status, state=RunState.DISCARDED))

    def resume(self) -> None:
        self._ask("resume", status=replace(self.status, state=RunState.RUNNING))

    def accept(self) -> None:
        self._ask("accept", decision="accepted")

    def decline(self) -> None:
        self._ask("decline", decision="declined")

    def _ask(self, what: str, **changes: Any) -> None:
        refusal, self.refusal = self.refusal, None
        if refusal is not None:
            raise refusal
        self.asked.append(what)
        vars(self).update(changes)
        self.notify()


class FakeMemory:
    """What a user chose last."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    def chosen(self, name: str) -> str:
        return self.kept.get(name, "")

    def choose(self, name: str, value: str) -> None:
        self.kept[name] = value


@dataclass
class FakeStore:
    """A folder of cases in memory; pictures may lie below `folder`."""

    folder: Path
    records: list[CaseRecord] = field(default_factory=list)
    problems: list[tuple[Path, MAESegmentError]] = field(default_factory=list)
    reads: int = 0

    def labels(self) -> tuple[Label, ...]:
        return ()

    def scan(self) -> tuple[list[CaseRecord], list[tuple[Path, MAESegmentError]]]:
        self.reads += 1
        return list(self.records), list(self.problems)


class FakeLogic:
    """`jobs_of[name]` are the jobs that a panel started by calling `name`; `refusals[name]` is raised, once."""

    def __init__(self, session: Any = None, dependencies: Any = None) -> None:
        self.session, self.dependencies = session or FakeMemory(), dependencies
        self.bundles: Sequence[Any] = ModelStore("nowhere", shipped_folder=SHIPPED_MODELS).list()
        self.imported: Any = None
        self.store = FakeStore(Path(tempfile.gettempdir()) / "no-such-store")
        self.proposal = Proposal()
        #: What `findDrawn` finds at once; None: a test answers.
        self.drawn: Any = None
        self.identify: Callable[[], None] = lambda: None
        self.changed: list[tuple[Any, CaseRecord]] = []
        self.runs: list[FakeRun] = []
        self.jobs_of: dict[str, list[Any]] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.refusals: dict[str, Exception] = {}
        self.opened: tuple[Any, Any] = (None, None)
        self.meant: dict[str, str] = {}
        self.own_output: Callable[[Any], Any] = lambda chosen: chosen
        self.scan_names: dict[str, str] = {}
        #: (volume, name of a model) that do not fit.
        self.misfits: set[tuple[Any, str]] = set()
        self.kept = {"2.0.0": "It comes with MAESegment."}

    def last(self, name: str) -> Any:
        """The job that was started last by `name`."""
        return self.jobs_of[name][-1]

    def called(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of all calls of `name`."""
        return [arguments for what, *arguments in self.calls if what == name]

    @property
    def jobs(self) -> list[FakeJob]:
        """The segmentations."""
        return self.jobs_of.get("process", [])

    # Segmenting -------------------------------------------------------------------------------------------------------

    def models(self) -> list[Any]:
        return [bundle for bundle in self.bundles if bundle.metadata["maesegment"]["kind"] == "segmentation"]

    def defaultModel(self, volume: Any = None) -> Any:
        known = without_locators(self.models())
        return next((one for one in known if volume is None or self.canFit(volume, one)), None)

    def canFit(self, volume: Any, model: Any) -> bool:
        return (volume, model.name) not in self.misfits

    def preferModel(self, volume: Any, model: Any) -> None:
        self._begin("preferModel", (volume, model.name))

    def importModel(self, path: str) -> Any:
        self._begin("importModel", path)
        self.bundles = [*self.bundles, self.imported]
        return self.imported

    def diagnostics(self, report: Any = None) -> str:
        return f"diagnostics of a test, {report}"

    def process(self, volume: Any, model: Any, device: str, *, wait: bool, callback: Any, **options: Any) -> FakeJob:
        self._begin("process", volume)
        return self._keep("process", FakeJob(callback, volume=volume, model=model, device=device, **options), wait)

    def processBatch(self, volumes: Any, model: Any, device: str, *, wait: bool, callback: Any, **options: Any) -> Any:
        self._begin("processBatch", volumes)
        names, arguments = [volume.GetName() for volume in volumes], {"volumes": volumes, "model": model, **options}
        return self._keep("batch", FakeBatch(names, callback, device=device, **arguments), wait)

    def processSequence(self, node: Any, model: Any, device: str, *, wait: bool, callback: Any, **options: Any) -> Any:
        arguments = {"volume": node, "model": model, "device": device, **options}
        return self._keep("batch", FakeBatch(["frame 1", "frame 2"], callback, **arguments), wait)

    def outputFor(self, segmentation: Any, _volume: Any, _model: Any = None, _roi: Any = None) -> Any:
        return self.own_output(segmentation)

    # Cases ------------------------------------------------------------------------------------------------------------

    def setCaseFolder(self, path: str) -> None:
        self._begin("setCaseFolder", path)

    def caseStore(self, _model: Any = None) -> FakeStore:
        return self.store

    def proposeCase(self, volume: Any, segmentation: Any, model: Any = None) -> Proposal:
        self._begin("proposeCase", volume, segmentation, model)
        return self.proposal

    def identifyScan(self, volume: Any, segmentation: Any, model: Any = None) -> Callable[[], None]:
        self._begin("identifyScan", volume, segmentation, model)
        return self.identify

    def addCase(self, volume: Any, segmentation: Any, model: Any = None, *, wait: bool, **how: Any) -> FakeJob:
        self._begin("addCase", volume, segmentation, how)
        return self._keep("addCase", FakeJob(volume=volume, segmentation=segmentation, model=model, **how), wait)

    def changedCases(self, model: Any = None) -> list[tuple[Any, CaseRecord]]:
        self._begin("changedCases", model)
        return self.changed

    def scanOf(self, segmentation: Any) -> Any:
        return segmentation.GetNodeReference(segmentation.GetReferenceImageGeometryReferenceRole())

    def scanNames(self) -> dict[str, str]:
        return self.scan_names

    def openCase(self, case: str, model: Any = None) -> tuple[Any, Any]:
        self._begin("openCase", case, model)
        return self.opened

    def removeCase(self, case: str, model: Any = None) -> None:
        self._begin("removeCase", case, model)
        self.store.records = [record for record in self.store.records if record.id != case]

    def setCaseRole(self, case: str, role: str, model: Any = None) -> None:
        self._begin("setCaseRole", case, role, model)
        self.store.records = [replace(r, role=role) if r.id == case else r for r in self.store.records]

    # What was drawn ---------------------------------------------------------------------------------------------------

    def findDrawn(self, volume: Any, segmentation: Any, *, plane: str = "", wait: bool) -> FakeJob:
        self._begin("findDrawn", volume, segmentation, plane)
        job = self._keep("findDrawn", FakeJob(volume=volume, segmentation=segmentation, plane=plane), wait)
        if self.drawn is not None:
            job.succeed(self.drawn)
        return job

    def updateScan(self, volume: Any, segmentation: Any, *, wait: bool, **how: Any) -> FakeDrawingJob:
        self._begin("updateScan", volume, segmentation)
        return self._keep("updateScan", FakeDrawingJob(volume=volume, segmentation=segmentation, **how), wait)

    def growScribbles(self, volume: Any, segmentation: Any, *, wait: bool, **how: Any) -> FakeDrawingJob:
        self._begin("growScribbles", volume, segmentation)
        return self._keep("growScribbles", FakeDrawingJob(volume=volume, segmentation=segmentation, **how), wait)

    def addBackground(self, segmentation: Any) -> None:
        self._begin("addBackground", segmentation)

    def removeBackground(self, segmentation: Any) -> None:
        self._begin("removeBackground", segmentation)

    # Learning ---------------------------------------------------------------------------------------------------------

    def estimateFineTune(self, cases: Any = None, baseModel: Any = None, *, wait: bool, **settings: Any) -> FakeJob:
        self._begin("estimateFineTune", baseModel, cases, settings)
        return self._keep("estimateFineTune", FakeJob(model=baseModel, **settings), wait)

    def fineTune(self, cases: Any = None, baseModel: Any = None, *, wait: bool, **settings: Any) -> FakeRun:
        assert not wait
        self._begin("fineTune", cases, baseModel, settings)
        self.runs.append(FakeRun(cases=cases, model=baseModel, **settings))
        return self.runs[-1]

    def fineTuneRuns(self) -> list[FakeRun]:
        return [run for run in self.runs if not run.decision and "discard" not in run.asked]

    def nextCases(self, scans: Any, model: Any = None, *, wait: bool, roi: Any, device: str) -> FakeJob:
        self._begin("nextCases", scans, model, roi)
        return self._keep("nextCases", FakeJob(device=device), wait)

    # Versions ---------------------------------------------------------------------------------------------------------

    def removableReason(self, model: Any) -> str:
        return self.kept.get(model.version, "")

    def selectedModel(self, name: str) -> Any:
        versions = {bundle.version: bundle for bundle in self.models() if bundle.name == name}
        return versions.get(self.meant.get(name, ""), next(reversed(versions.values()), None))

    def useVersion(self, model: Any) -> None:
        self._begin("useVersion", model)
        self.meant[model.name] = model.version

    def removeVersion(self, model: Any) -> None:
        self._begin("removeVersion", model)
        self.bundles = [bundle for bundle in self.bundles if bundle is not model]

    def compare(self, scan: Any, first: Any, second: Any, *, roi: Any, device: str, wait: bool) -> FakeJob:
        self._begin("compare", scan, first, second, roi)
        return self._keep("compare", FakeJob(device=device), wait)

    def _begin(self, name: str, *arguments: Any) -> None:
        self.calls.append((name, *arguments))
        refusal = self.refusals.pop(name, None)
        if refusal is not None:
            raise refusal

    def _keep(self, name: str, job: Any, wait: bool) -> Any:
        assert not wait
        self.jobs_of.setdefault(name, []).append(job)
        return job
