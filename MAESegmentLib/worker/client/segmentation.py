"""A segmentation as one job: the volume goes to a job folder, the request to the worker, the labels come back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ConfigurationError
from ..job import Job
from ..job_folder import JobFolder
from ..protocol import Segment
from .client import WorkerClient

if TYPE_CHECKING:
    from ...bundle import Bundle


def submit_segmentation(
    client: WorkerClient,
    channels: Sequence[np.ndarray],
    ijk_to_ras: np.ndarray,
    *,
    model: Bundle,
    settings: Mapping[str, Any],
    roi: Sequence[float] | None = None,
    working_folder: Path,
    finish: Callable[[Mapping[str, Any], JobFolder], Any],
) -> Job[Any]:
    """Segment (K, J, I) `channels`, voxels of one grid, which are read step by step while events go on.

    `settings` are the chosen fields of `InferenceSettings`. `finish(data, folder)` makes the job's result, from the
    worker's answer and the labels in `folder` (which is removed afterwards); it may be a generator (see `submit`).
    """
    request_roi = None
    if roi is not None:
        request_roi = tuple(float(bound) for bound in roi)
        if len(request_roi) != 6:
            raise ConfigurationError(
                f"A region of interest has six bounds, not {len(request_roi)}.", "Give R0, R1, A0, A1, S0, S1 in mm."
            )
    folder = JobFolder.create(working_folder)
    request = Segment(client.new_id(), str(folder.path), str(model.path), dict(settings), request_roi)
    try:
        return client.submit(
            request,
            prepare=folder.write_volume(channels, ijk_to_ras),
            finish=lambda data: finish(data, folder),
            cleanup=folder.remove,
        )
    except BaseException:
        folder.remove()
        raise
