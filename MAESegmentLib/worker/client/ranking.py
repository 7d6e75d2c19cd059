"""Which scan to correct first, as jobs: a scan goes to the worker, how uncertain the model is about it comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ConfigurationError
from ...inference.ranking import Uncertainty, rank
from ..job import Job
from ..job_folder import JobFolder
from ..protocol import Rank
from .client import WorkerClient

if TYPE_CHECKING:
    from ...bundle import Bundle

__all__ = ["Uncertainty", "rank", "submit_ranking", "submit_scan_ranking"]


def submit_ranking(
    client: WorkerClient,
    channels: Sequence[np.ndarray],
    ijk_to_ras: np.ndarray,
    *,
    model: Bundle,
    settings: Mapping[str, Any],
    roi: Sequence[float] | None = None,
    working_folder: Path,
) -> Job[Uncertainty]:
    """Measure (K, J, I) `channels`, voxels of one grid; the other arguments as in `submit_segmentation`.

    `rank` puts the results of several scans in order.
    """
    bounds = _bounds(roi)
    folder = JobFolder.create(working_folder)
    try:
        request = Rank(client.new_id(), str(model.path), folder=str(folder.path), settings=dict(settings), roi=bounds)
        return client.submit(
            request,
            prepare=folder.write_volume(channels, ijk_to_ras),
            finish=Uncertainty.from_dict,
            cleanup=folder.remove,
        )
    except BaseException:
        folder.remove()
        raise


def submit_scan_ranking(
    client: WorkerClient, scan: Path, *, model: Bundle, settings: Mapping[str, Any], roi: Sequence[float] | None = None
) -> Job[Uncertainty]:
    """Measure a file or DICOM folder, which the worker reads itself."""
    request = Rank(
        client.new_id(), str(model.path), scan=str(scan.absolute()), settings=dict(settings), roi=_bounds(roi)
    )
    return client.submit(request, finish=Uncertainty.from_dict)


def _bounds(roi: Sequence[float] | None) -> tuple[float, ...] | None:
    if roi is None:
        return None
    bounds = tuple(float(bound) for bound in roi)
    if len(bounds) != 6:
        raise ConfigurationError(
            f"A region of interest has six bounds, not {len(bounds)}.", "Give R0, R1, A0, A1, S0, S1 in mm."
        )
    return bounds
