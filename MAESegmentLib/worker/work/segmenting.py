"""What the worker does with a request: the models it keeps warm, the segmentation, the devices there are."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import psutil

from ...bundle import Bundle, open_bundle
from ...device import device_title, has_torch, the_processor
from ...errors import DeviceMemoryError, WorkerError, is_out_of_memory
from ...images.roi import Roi
from ...images.segment_statistics import measure
from ...images.volume import LabelMap, Volume
from ...images.volumetry import volumes_ml
from ...inference.locating import locating, locator_settings
from ...inference.predictor import Predictor
from ...inference.settings import InferenceSettings
from ...processes.environment import TRAIN, complaint
from ...values import check_known
from ..job_folder import JobFolder
from ..protocol import (
    AddCase,
    Devices,
    Estimate,
    GrowScribbles,
    Message,
    Rank,
    Ready,
    Result,
    Segment,
    UpdateScan,
    WriteScan,
)
from .converting import Conversions
from .stage_clock import StageClock

#: Networks that stay on the device; more would crowd a small GPU.
_KEPT = 2

Send = Callable[[Message], None]


class SegmentationWork:
    """Runs requests; keeps the last models loaded."""

    def __init__(self) -> None:
        self._begun = time.perf_counter()
        self._predictors: OrderedDict[tuple[str, InferenceSettings], Predictor] = OrderedDict()
        self._conversions = Conversions()

    def ready(self) -> Ready:
        """What there is to work with, the device that "auto" means first."""
        seconds = time.perf_counter() - self._begun
        return Ready(str(_torch().__version__) if has_torch() else "", tuple(devices()), round(seconds, 3))

    def run(self, request: Message, send: Send, should_cancel: Callable[[], bool]) -> Result:
        if isinstance(request, Devices):
            return Result(request.id, {"devices": devices()})
        if isinstance(request, Segment):
            return self._segment(request, send, should_cancel)
        if isinstance(request, Rank):
            return self._rank(request, send, should_cancel)
        try:
            # Imported when first asked for: they need packages that segmenting does not.
            from . import corrections, following

            if isinstance(request, UpdateScan):
                return following.update(request, send, should_cancel)
            if isinstance(request, GrowScribbles):
                return following.grow(request, send, should_cancel, self.predictor)
            if isinstance(request, AddCase):
                return corrections.add_case(request, send, should_cancel)
            if isinstance(request, WriteScan):
                return corrections.write_scan(request, send, should_cancel)
            self.forget_models()  # their memory will be free, too, when it is needed
            return corrections.estimate(cast(Estimate, request), send, should_cancel)
        except ModuleNotFoundError as error:
            trouble = complaint(TRAIN)
            raise (WorkerError(*trouble) if trouble is not None else error) from error

    def _segment(self, request: Segment, send: Send, should_cancel: Callable[[], bool]) -> Result:
        clock = StageClock(request.id, send)
        folder = JobFolder(Path(request.folder))
        roi = roi_of(request.roi)
        clock.enter("load")
        bundle = open_bundle(request.model)
        predictor = self.predictor(bundle, request.settings)
        locator = None
        if request.locator:
            locator = self._loaded(open_bundle(request.locator), locator_settings(predictor.settings))
        segmenter = locating(predictor, locator, ask_for_box=request.ask_for_box)
        try:
            volume = folder.read_volume()
            prediction = segmenter.predict(volume, roi=roi, progress=clock.report, should_cancel=should_cancel)
        except DeviceMemoryError as error:
            self._predictors.clear()
            error.details = _offer(locator or predictor, volume, roi)
            raise
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                self._predictors.clear()
            raise
        clock.enter("write")
        labels = folder.write_labels(prediction.label_map)
        # Every label lies in what was written, which is smaller than the volume.
        block, origin = folder.read_labels(labels)
        volumes = volumes_ml(LabelMap(block.T, volume.ijk_to_ras), prediction.labels)
        values = [label.value for label in prediction.labels]
        measured = measure(block.T, values, volume.array, volume.ijk_to_ras, origin)
        clock.end()
        network_seconds = clock.seconds.get("segment", 0.0)
        self._conversions.note(bundle, predictor.settings, prediction, network_seconds)
        data = {
            "labels": labels,
            "seconds": round(clock.total, 4),
            "network_seconds": round(network_seconds, 4),
            "device": prediction.device,
            "device_title": prediction.ran_on(device_title(prediction.device)),
            "warnings": list(prediction.warnings),
            "volumes_ml": {str(value): round(ml, 4) for value, ml in volumes.items()},
            "statistics": {str(value): asdict(one) for value, one in measured.items()},
            "model": bundle.reference,
            "cleaned": {name: found.to_dict() for name, found in prediction.cleaned.items()},
            "timings": {stage: round(seconds, 4) for stage, seconds in clock.seconds.items()},
            "segments": [label.to_dict() for label in prediction.labels],
            "located_by": prediction.located_by,
        }
        return Result(request.id, data)

    def _rank(self, request: Rank, send: Send, should_cancel: Callable[[], bool]) -> Result:
        """`data` is an `Uncertainty` as a dictionary."""
        from ...images.reading import read_volume  # both not before the worker is ready
        from ...inference.uncertainty import uncertainty_of

        clock = StageClock(request.id, send)
        clock.enter("load")
        predictor = self.predictor(open_bundle(request.model), request.settings)
        volume = JobFolder(request.folder).read_volume() if request.folder else read_volume(Path(request.scan))
        found = uncertainty_of(predictor, volume, roi_of(request.roi), clock.report, should_cancel)
        return Result(request.id, found.to_dict())

    def forget_models(self) -> None:
        """Give their memory back."""
        self._predictors.clear()
        _free_gpu()

    def predictor(self, bundle: Bundle, chosen: Mapping[str, Any]) -> Predictor:
        """The predictor of a model with the chosen settings; kept for the next request."""
        return self._loaded(bundle, InferenceSettings.of_model(bundle.spec.inference, **_as_settings(chosen)))

    def _loaded(self, bundle: Bundle, settings: InferenceSettings) -> Predictor:
        key = (bundle.content_hash, settings)
        predictor = self._predictors.pop(key, None)
        if predictor is None:
            while len(self._predictors) >= _KEPT:
                self._predictors.popitem(last=False)
            predictor = Predictor(bundle, settings)
        self._predictors[key] = predictor
        return predictor


def _offer(predictor: Predictor, volume: Volume, roi: Roi | None) -> dict[str, float]:
    """What the user may weigh up: memory that is free now, and how long the processor would take."""
    if predictor.device.type == "cpu":
        return {"free_bytes": float(psutil.virtual_memory().available)}
    _free_gpu()
    free, _total = _torch().cuda.mem_get_info(predictor.device)
    offer = {"free_bytes": float(free)}
    with suppress(RuntimeError, MemoryError):  # the processor may have too little memory as well
        offer["cpu_seconds"] = round(predictor.estimate_seconds(volume, roi, the_processor()), 1)
    return offer


def devices() -> list[dict[str, Any]]:
    """Name, title and memory in bytes of every device, the one that "auto" means first."""
    found: list[tuple[str, int, int]] = []
    cuda: Any = _torch().cuda if has_torch() else None
    for index in range(cuda.device_count() if cuda is not None and cuda.is_available() else 0):
        with suppress(RuntimeError):  # it is there, but does not work
            found.append((f"cuda:{index}", *cuda.mem_get_info(index)))
    memory = psutil.virtual_memory()
    found.append(("cpu", memory.available, memory.total))
    return [
        {"name": device, "title": device_title(device), "free_bytes": free, "total_bytes": total}
        for device, free, total in found
    ]


def _torch() -> Any:
    import torch

    return torch


def _free_gpu() -> None:
    if has_torch() and _torch().cuda.is_available():
        _torch().cuda.empty_cache()


def _as_settings(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has lists where settings have tuples."""
    values = dict(chosen)
    if isinstance(values.get("mirroring"), list):
        values["mirroring"] = tuple(values["mirroring"])
    check_known(InferenceSettings, values, "settings")
    return values


def roi_of(bounds: Sequence[float] | None) -> Roi | None:
    """From the bounds (R0, R1, A0, A1, S0, S1) of a request, mm."""
    if bounds is None:
        return None
    r0, r1, a0, a1, s0, s1 = bounds
    return Roi((r0, a0, s0), (r1, a1, s1))
