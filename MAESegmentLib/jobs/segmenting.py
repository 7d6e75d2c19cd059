"""What the worker does with a request: the models it keeps warm, the segmentation, the devices there are."""

from __future__ import annotations

import platform
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil
import torch

from ..bundle import Bundle, open_bundle
from ..errors import ConfigurationError, DeviceMemoryError
from ..images.volume import LabelMap, Volume
from ..inference.fallback import is_out_of_memory
from ..inference.predictor import Predictor
from ..inference.roi import Roi
from ..inference.settings import InferenceSettings
from ..inference.volumetry import volumes_ml
from .job_folder import JobFolder
from .protocol import Devices, Message, Progress, Ready, Result, Segment

#: Networks that stay on the device; more would crowd a small GPU.
_KEPT = 2
#: No more messages a second than a person can see.
_REPORT_EVERY_S = 0.1

#: Requests that have a module of their own, with `answer(request, work, send, should_cancel) -> Result`.
_ELSEWHERE = {"add_case": "adding", "estimate": "estimating", "rank": "ranking"}

Send = Callable[[Message], None]


class SegmentationWork:
    """Runs requests; keeps the last models loaded."""

    def __init__(self) -> None:
        self._begun = time.perf_counter()
        self._predictors: OrderedDict[tuple[str, InferenceSettings], Predictor] = OrderedDict()

    def ready(self) -> Ready:
        """What there is to work with, the device that "auto" means first."""
        seconds = time.perf_counter() - self._begun
        return Ready(str(torch.__version__), tuple(devices()), round(seconds, 3))

    def run(self, request: Message, send: Send, should_cancel: Callable[[], bool]) -> Result:
        if isinstance(request, Devices):
            return Result(request.id, {"devices": devices()})
        if isinstance(request, Segment):
            return self._segment(request, send, should_cancel)
        home = _ELSEWHERE.get(request.type)
        if home is not None:
            # Imported when first asked for: they need packages that segmenting does not.
            answer: Result = import_module(f".{home}", __package__).answer(request, self, send, should_cancel)
            return answer
        raise ConfigurationError(f"The worker does not do {request.type!r}.")

    def _segment(self, request: Segment, send: Send, should_cancel: Callable[[], bool]) -> Result:
        clock = _Clock(request.id, send)
        folder = JobFolder(Path(request.folder))
        roi = _roi(request.roi)
        clock.enter("load")
        bundle = open_bundle(request.model)
        predictor = self.predictor(bundle, request.settings)
        try:
            volume = folder.read_volume()
            prediction = predictor.predict(volume, roi=roi, progress=clock.report, should_cancel=should_cancel)
        except DeviceMemoryError as error:
            self._predictors.clear()
            error.details = _offer(predictor, volume, roi)
            raise
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self._predictors.clear()
            raise DeviceMemoryError(
                f"The computer ran out of memory: {_first_line(error)}",
                "Close other programs, or segment only a region of interest.",
            ) from error
        clock.enter("write")
        labels = folder.write_labels(prediction.label_map)
        # Every label lies in what was written, which is smaller than the volume.
        block, _origin = folder.read_labels(labels)
        volumes = volumes_ml(LabelMap(block.T, volume.ijk_to_ras), bundle.labels)
        clock.end()
        data = {
            "labels": labels,
            "seconds": round(clock.total, 4),
            "network_seconds": round(clock.seconds.get("segment", 0.0), 4),
            "device": prediction.device,
            "device_title": device_title(torch.device(prediction.device)),
            "warnings": list(prediction.warnings),
            "volumes_ml": {str(value): round(ml, 4) for value, ml in volumes.items()},
            "model": bundle.reference,
            "timings": {stage: round(seconds, 4) for stage, seconds in clock.seconds.items()},
        }
        return Result(request.id, data)

    def predictor(self, bundle: Bundle, chosen: Mapping[str, Any]) -> Predictor:
        """The predictor of a model with the chosen settings; kept for the next request."""
        settings = InferenceSettings.of_model(bundle.spec.inference, **_as_settings(chosen))
        key = (bundle.content_hash, settings)
        predictor = self._predictors.pop(key, None)
        if predictor is None:
            while len(self._predictors) >= _KEPT:
                self._predictors.popitem(last=False)
            predictor = Predictor(bundle, settings)
        self._predictors[key] = predictor
        return predictor


def _offer(predictor: Predictor, volume: Volume, roi: Roi | None) -> dict[str, float]:
    """What the person may weigh up: memory that is free now, and how long the processor would take."""
    if predictor.device.type == "cpu":
        return {"free_bytes": float(psutil.virtual_memory().available)}
    torch.cuda.empty_cache()
    free, _total = torch.cuda.mem_get_info(predictor.device)
    offer = {"free_bytes": float(free)}
    with suppress(RuntimeError, MemoryError):  # the processor may have too little memory as well
        offer["cpu_seconds"] = round(predictor.estimate_seconds(volume, roi, torch.device("cpu")), 1)
    return offer


def devices() -> list[dict[str, Any]]:
    """Name, title and memory in bytes of every device, the one that "auto" means first."""
    found = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        device = torch.device("cuda", index)
        try:
            free, total = torch.cuda.mem_get_info(device)
        except RuntimeError:
            continue  # it is there, but does not work
        entry = {"name": str(device), "title": device_title(device), "free_bytes": free, "total_bytes": total}
        found.append(entry)
    memory = psutil.virtual_memory()
    cpu = torch.device("cpu")
    found.append(
        {"name": "cpu", "title": device_title(cpu), "free_bytes": memory.available, "total_bytes": memory.total}
    )
    return found


@lru_cache
def device_title(device: torch.device) -> str:
    """What people call the device, e.g. the name of the GPU or of the processor."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "CPU"


@dataclass(frozen=True)
class _Step:
    stage: str
    begun: float


class _Clock:
    """Times the stages of one request and reports them, with the time left once the network runs."""

    def __init__(self, request_id: str, send: Send) -> None:
        self.seconds: dict[str, float] = {}
        self._id = request_id
        self._send = send
        self._begun = time.perf_counter()
        self._step = _Step("", self._begun)
        self._last_report = 0.0

    @property
    def total(self) -> float:
        return time.perf_counter() - self._begun

    def enter(self, stage: str) -> None:
        self.report(stage, 0.0)

    def end(self) -> None:
        self._close(time.perf_counter())

    def report(self, stage: str, fraction: float) -> None:
        """As `inference.settings.Progress`."""
        now = time.perf_counter()
        is_new = stage != self._step.stage
        if is_new:
            self._close(now)
            self._step = _Step(stage, now)
        if is_new or fraction >= 1.0 or now - self._last_report >= _REPORT_EVERY_S:
            self._last_report = now
            self._send(Progress(self._id, stage, round(min(max(fraction, 0.0), 1.0), 4), self._left(fraction, now)))

    def _left(self, fraction: float, now: float) -> float | None:
        """Only the network takes long enough to be foretold, and only after its first windows."""
        if self._step.stage != "segment" or fraction <= 0.0:
            return None
        return round((now - self._step.begun) * (1.0 - fraction) / fraction, 2)

    def _close(self, now: float) -> None:
        if self._step.stage:
            self.seconds[self._step.stage] = self.seconds.get(self._step.stage, 0.0) + now - self._step.begun


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]


def _as_settings(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has lists where settings have tuples."""
    values = dict(chosen)
    if isinstance(values.get("mirroring"), list):
        values["mirroring"] = tuple(values["mirroring"])
    unknown = sorted(set(values) - set(InferenceSettings.__dataclass_fields__))
    if unknown:
        raise ConfigurationError(f"There is no setting called {', '.join(unknown)}.")
    return values


def _roi(bounds: tuple[float, ...] | None) -> Roi | None:
    if bounds is None:
        return None
    r0, r1, a0, a1, s0, s1 = bounds
    return Roi((r0, a0, s0), (r1, a1, s1))
