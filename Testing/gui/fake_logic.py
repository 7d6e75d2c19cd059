"""A logic whose segmentations a test brings to their end itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from MAESegmentLib.bundle import ModelStore
from MAESegmentLib.errors import Cancelled, MAESegmentError
from MAESegmentLib.jobs import JobState
from MAESegmentLib.worker.client.client import WorkerState
from Testing.gui.fake_learning import FakeLearning

SHIPPED_MODELS = Path(__file__).resolve().parents[2] / "Resources" / "Models"


class FakeJob:
    """A segmentation, as far as the panel looks at it."""

    name = "Scan"

    def __init__(self, arguments: Mapping[str, Any], callback: Callable[[FakeJob], None] | None) -> None:
        self.arguments = arguments
        self.state = JobState.PREPARING
        self.stage, self.fraction, self.eta_s, self.position = "", 0.0, None, 0
        self.error: MAESegmentError | None = None
        self.details: Mapping[str, Any] = {}
        self.summary: Any = None
        self.cancel_requested = False
        self._node: Any = None
        self._callback = callback

    @property
    def is_finished(self) -> bool:
        return self.state in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)

    def cancel(self) -> None:
        self.cancel_requested = True

    def result(self) -> Any:
        assert self.state is JobState.DONE
        return self._node

    def go_on(self, stage: str, fraction: float, eta_s: float | None = None) -> None:
        self.state, self.stage, self.fraction, self.eta_s = JobState.RUNNING, stage, fraction, eta_s
        self._tell()

    def succeed(self, node: Any, summary: Any) -> None:
        self.state, self._node, self.summary = JobState.DONE, node, summary
        self._tell()

    def fail(self, error: MAESegmentError, details: Mapping[str, Any] | None = None) -> None:
        self.state, self.error, self.details = JobState.FAILED, error, details or {}
        self._tell()

    def end_cancelled(self) -> None:
        self.state, self.error = JobState.CANCELLED, Cancelled()
        self._tell()

    def _tell(self) -> None:
        if self._callback is not None:
            self._callback(self)


@dataclass
class FakeRow:
    name: str
    state: JobState = JobState.QUEUED
    message: str = ""
    segmentation: Any = None
    summary: Any = None


class FakeBatch:
    """Several segmentations; `current` is one of them."""

    def __init__(self, names: list[str], callback: Callable[[FakeBatch], None]) -> None:
        self.rows = [FakeRow(name) for name in names]
        self.index = 0
        self.current: FakeJob | None = FakeJob({}, lambda _job: callback(self))
        self.cancel_requested = False
        self._callback = callback

    @property
    def is_finished(self) -> bool:
        return self.index >= len(self.rows)

    @property
    def succeeded(self) -> list[FakeRow]:
        return [row for row in self.rows if row.state is JobState.DONE]

    def cancel(self) -> None:
        self.cancel_requested = True

    def end_row(self, state: JobState, message: str = "", segmentation: Any = None, summary: Any = None) -> None:
        row = self.rows[self.index]
        row.state, row.message, row.segmentation, row.summary = state, message, segmentation, summary
        self.index += 1
        self._callback(self)


class FakeClient:
    """The worker as the panel sees it."""

    def __init__(self) -> None:
        self.state = WorkerState.IDLE
        self.devices_known: tuple[Mapping[str, Any], ...] = ()
        self.asked: list[Callable[[Any], None]] = []
        self._listeners: list[Callable[[Any], None]] = []

    def add_listener(self, callback: Callable[[Any], None]) -> None:
        self._listeners.append(callback)

    def devices(self) -> Any:
        return SimpleNamespace(add_listener=self.asked.append)

    def answer_devices(self, devices: list[Mapping[str, Any]]) -> None:
        job = SimpleNamespace(is_finished=True, error=None, result=lambda: devices)
        for callback in self.asked:
            callback(job)
        self.asked.clear()

    def become_ready(self, devices: tuple[Mapping[str, Any], ...]) -> None:
        self.devices_known = devices
        for callback in self._listeners:
            callback(self)


class FakeDependencies:
    """`report` answers a check at once, `training` one of what learning needs; None leaves it open."""

    def __init__(self, report: Any) -> None:
        self.report = self.training = report
        self.checks = 0
        self.purposes: list[str] = []

    def check(self, callback: Callable[[Any], None], purpose: str = "segment") -> None:
        self.purposes.append(purpose)
        self.checks += purpose == "segment"
        report = self.report if purpose == "segment" else self.training
        if report is not None:
            callback(report)

    def stop(self) -> None:
        pass


@dataclass
class FakeSession:
    """Turns of the event loop are real."""

    log: Any
    loop: Any
    client: FakeClient = field(default_factory=FakeClient)
    chosen_python: str = ""
    chosen_folder: str = ""
    chosen_case_root: str = ""

    def set_python(self, path: str) -> None:
        self.chosen_python = path

    def set_working_folder(self, path: str) -> None:
        self.chosen_folder = path


class FakeLogic(FakeLearning):
    """`jobs` and `batches` are what the panel started; `refusal` is raised instead, once."""

    def __init__(self, session: FakeSession, dependencies: FakeDependencies) -> None:
        super().__init__()
        self.session = session
        self.dependencies = dependencies
        self.jobs: list[FakeJob] = []
        self.batches: list[FakeBatch] = []
        self.batch_arguments: Any = None
        self.refusal: Exception | None = None
        self.bundles = ModelStore("nowhere", shipped_folder=SHIPPED_MODELS).list()
        self.imported: Any = None

    def models(self) -> list[Any]:
        return [bundle for bundle in self.bundles if bundle.metadata["maesegment"]["kind"] == "segmentation"]

    def defaultModel(self) -> Any:
        return next(iter(self.models()), None)

    def importModel(self, path: str) -> Any:
        if isinstance(self.imported, Exception):
            raise self.imported
        assert path
        self.bundles = [*self.bundles, self.imported]
        return self.imported

    def diagnostics(self, report: Any = None) -> str:
        return f"diagnostics of a test, {report}"

    def process(self, volume: Any, model: Any, device: str, *, wait: bool, callback: Any, **options: Any) -> FakeJob:
        assert not wait
        self._maybe_refuse()
        self.jobs.append(FakeJob({"volume": volume, "model": model, "device": device, **options}, callback))
        return self.jobs[-1]

    def processBatch(self, volumes: Any, model: Any, device: str, *, wait: bool, callback: Any, **options: Any) -> Any:
        assert not wait
        self._maybe_refuse()
        self.batch_arguments = {"volumes": volumes, "model": model, "device": device, **options}
        self.batches.append(FakeBatch([volume.GetName() for volume in volumes], callback))
        return self.batches[-1]

    def processSequence(self, node: Any, model: Any, device: str, *, wait: bool, callback: Any, **options: Any) -> Any:
        assert not wait
        self.batch_arguments = {"volume": node, "model": model, "device": device, **options}
        self.batches.append(FakeBatch(["frame 1", "frame 2"], callback))
        return self.batches[-1]

    def _maybe_refuse(self) -> None:
        refusal, self.refusal = self.refusal, None
        if refusal is not None:
            raise refusal
