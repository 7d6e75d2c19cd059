"""The learning half of a fake logic: cases, fine-tuning, versions; a test brings everything to its end itself."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from MAESegmentLib.cases.mapping import LabelMatch
from MAESegmentLib.cases.records import CaseRecord
from MAESegmentLib.cases.submission import CaseIssue
from MAESegmentLib.errors import MAESegmentError
from MAESegmentLib.images.labels import Label
from MAESegmentLib.runs import Curves, RunRequest, RunResult, RunState, RunStatus
from MAESegmentLib.runs.records import CaseChange

GIB = 2**30


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
        model={"name": "hippocampus-mr", "version": "1.2.1", "hash": "h"},
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
        model={"name": "hippocampus-mr", "version": "1.3.0", "hash": "new"},
        path="nowhere",
        parent={"name": "hippocampus-mr", "version": "1.2.1", "hash": "old"},
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
    """What `proposeCase` answers."""

    choices: Sequence[LabelMatch] = (
        LabelMatch("anterior", "anterior", "same"),
        LabelMatch("posterior", "posterior", "same"),
    )
    findings: Sequence[CaseIssue] = ()
    duplicate: CaseRecord | None = None
    stored: CaseRecord | None = None
    isChanged: bool = False
    modelLabels: Sequence[str] = ("anterior", "posterior")


class Answered:
    """A job that is over when a test says so."""

    def __init__(self, callback: Callable[[Any], None] | None = None, **arguments: Any) -> None:
        self.arguments = arguments
        self.error: MAESegmentError | None = None
        self.is_finished = False
        self.cancel_requested = False
        self.stage, self.fraction, self.eta_s = "", 0.0, None
        self.notes: list[str] = []
        self.rows: list[Any] = []
        self._value: Any = None
        self._listeners = [callback] if callback else []

    def add_listener(self, callback: Callable[[Any], None]) -> None:
        self._listeners.append(callback)

    def cancel(self) -> None:
        self.cancel_requested = True

    def go_on(self, stage: str, fraction: float, eta_s: float | None = None) -> None:
        self.stage, self.fraction, self.eta_s = stage, fraction, eta_s
        self._tell()

    def succeed(self, value: Any) -> None:
        self.is_finished, self._value = True, value
        self._tell()

    def fail(self, error: MAESegmentError) -> None:
        self.is_finished, self.error = True, error
        self._tell()

    def result(self) -> Any:
        assert self.is_finished
        if self.error is not None:
            raise self.error
        return self._value

    def _tell(self) -> None:
        for listener in tuple(self._listeners):
            listener(self)


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


class FakeRun:
    """A `FineTuneJob` whose state and curves a test sets with `tell`."""

    def __init__(self, callback: Callable[[Any], None] | None = None, **arguments: Any) -> None:
        self.arguments = arguments
        self.run = SimpleNamespace(id="run-1", request=RunRequest({"name": "hippocampus-mr"}, "", "", ("case-0001",)))
        self.status = RunStatus(RunState.WAITING, text="Starting ...")
        self.curves = Curves()
        self.decision = ""
        self.refusal: MAESegmentError | None = None
        self.asked: list[str] = []
        self._listeners = [callback] if callback else []

    def add_listener(self, callback: Callable[[Any], None]) -> None:
        self._listeners.append(callback)

    def tell(self, status: RunStatus | None = None, curves: Curves | None = None) -> None:
        self.status, self.curves = status or self.status, curves or self.curves
        for listener in tuple(self._listeners):
            listener(self)

    def finish(self, result: RunResult) -> None:
        self.tell(RunStatus(RunState.DONE, fraction=1.0, text=result.banner, result=result))

    def stopAndKeep(self) -> None:
        self._ask("stop")
        self.tell(replace(self.status, stop_requested=True))

    def discard(self) -> None:
        self._ask("discard")
        self.tell(replace(self.status, state=RunState.DISCARDED))

    def resume(self) -> None:
        self._ask("resume")
        self.tell(replace(self.status, state=RunState.RUNNING))

    def accept(self) -> Any:
        self._ask("accept")
        self.decision = "accepted"
        self.tell()

    def decline(self) -> None:
        self._ask("decline")
        self.decision = "declined"
        self.tell()

    def _ask(self, what: str) -> None:
        refusal, self.refusal = self.refusal, None
        if refusal is not None:
            raise refusal
        self.asked.append(what)


class FakeLearning:
    """`jobs_of[name]` are the jobs that the panel started by calling `name`; `refusals[name]` is raised, once."""

    def __init__(self) -> None:
        self.store = FakeStore(Path(tempfile.gettempdir()) / "no-such-store")
        self.proposal = Proposal()
        self.identify: Callable[[], None] = lambda: None
        self.changed: list[tuple[Any, CaseRecord]] = []
        self.runs: list[FakeRun] = []
        self.jobs_of: dict[str, list[Any]] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.refusals: dict[str, MAESegmentError] = {}
        self.opened: tuple[Any, Any] = (None, None)
        self.meant: dict[str, str] = {}
        self.kept = {"1.2.1": "It comes with MAESegment."}

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

    def addCase(self, volume: Any, segmentation: Any, model: Any = None, *, wait: bool, **how: Any) -> Any:
        assert not wait
        self._begin("addCase", volume, segmentation, how)
        return self._job("addCase", None, volume=volume, segmentation=segmentation, model=model, **how)

    def changedCases(self, model: Any = None) -> list[tuple[Any, CaseRecord]]:
        self._begin("changedCases", model)
        return self.changed

    def openCase(self, case: str, model: Any = None) -> tuple[Any, Any]:
        self._begin("openCase", case, model)
        return self.opened

    def removeCase(self, case: str, model: Any = None) -> None:
        self._begin("removeCase", case, model)
        self.store.records = [record for record in self.store.records if record.id != case]

    def setCaseRole(self, case: str, role: str, model: Any = None) -> None:
        self._begin("setCaseRole", case, role, model)
        self.store.records = [replace(r, role=role) if r.id == case else r for r in self.store.records]

    def estimateFineTune(self, cases: Any = None, baseModel: Any = None, *, wait: bool, **settings: Any) -> Answered:
        assert not wait
        self._begin("estimateFineTune", baseModel, cases, settings)
        return self._job("estimateFineTune", None, model=baseModel, **settings)

    def fineTune(self, cases: Any = None, baseModel: Any = None, *, wait: bool, **settings: Any) -> FakeRun:
        assert not wait
        self._begin("fineTune", cases, baseModel, settings)
        self.runs.append(FakeRun(None, cases=cases, model=baseModel, **settings))
        return self.runs[-1]

    def fineTuneRuns(self) -> list[FakeRun]:
        self._begin("fineTuneRuns")
        return [run for run in self.runs if not run.decision and "discard" not in run.asked]

    def removableReason(self, model: Any) -> str:
        return self.kept.get(model.version, "")

    def selectedModel(self, name: str) -> Any:
        versions = [bundle for bundle in self.models() if bundle.name == name]
        return next(
            (one for one in versions if one.version == self.meant.get(name)), versions[-1] if versions else None
        )

    def useVersion(self, model: Any) -> None:
        self._begin("useVersion", model)
        self.meant[model.name] = model.version

    def removeVersion(self, model: Any) -> None:
        self._begin("removeVersion", model)
        self.bundles = [bundle for bundle in self.bundles if bundle is not model]

    def compare(self, scan: Any, first: Any, second: Any, *, roi: Any, device: str, wait: bool) -> Answered:
        assert not wait
        self._begin("compare", scan, first, second, roi)
        return self._job("compare", device=device)

    def nextCases(self, scans: Any, model: Any = None, *, wait: bool, roi: Any, device: str) -> Answered:
        assert not wait
        self._begin("nextCases", scans, model, roi)
        return self._job("nextCases", device=device)

    def last(self, name: str) -> Any:
        """The job that was started last by `name`."""
        return self.jobs_of[name][-1]

    def called(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of all calls of `name`."""
        return [arguments for what, *arguments in self.calls if what == name]

    def _begin(self, name: str, *arguments: Any) -> None:
        self.calls.append((name, *arguments))
        refusal = self.refusals.pop(name, None)
        if refusal is not None:
            raise refusal

    def _job(self, name: str, callback: Any = None, **arguments: Mapping[str, Any]) -> Answered:
        job = Answered(callback, **arguments)
        self.jobs_of.setdefault(name, []).append(job)
        return job
