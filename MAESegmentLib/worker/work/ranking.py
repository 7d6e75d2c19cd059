"""How uncertain the model is about a scan, for a client that asks which scan to correct first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...bundle import open_bundle
from ...errors import DeviceMemoryError
from ...images.reading import read_volume
from ...images.volume import Volume
from ...inference.fallback import is_out_of_memory
from ...inference.uncertainty import uncertainty_of
from ..job_folder import JobFolder
from ..protocol import Message, Rank, Result
from .segmenting import SegmentationWork, roi_of
from .stage_clock import StageClock


def perform(
    request: Rank, work: SegmentationWork, send: Callable[[Message], None], should_cancel: Callable[[], bool]
) -> Result:
    """An `Uncertainty` as a dictionary."""
    clock = StageClock(request.id, send)
    clock.enter("load")
    predictor = work.predictor(open_bundle(request.model), request.settings)
    try:
        found = uncertainty_of(predictor, _read(request), roi_of(request.roi), clock.report, should_cancel)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceMemoryError(
            "The computer ran out of memory while this scan was measured.",
            "Close other programs, or give a region of interest.",
        ) from error
    return Result(request.id, found.to_dict())


def _read(request: Rank) -> Volume:
    if request.folder:
        return JobFolder(request.folder).read_volume()
    return read_volume(Path(request.scan))
