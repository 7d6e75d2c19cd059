"""The requests to the worker, as jobs. Volumes go to a job folder, a few MiB in each turn of the event loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...cases.records import CaseRecord
from ...cases.submission import CaseSubmission
from ...errors import ConfigurationError
from ...inference.ranking import Uncertainty
from ...jobs import Job
from ...runs.records import FineTuneEstimate, RunRequest
from ..job_folder import JobFolder
from ..protocol import AddCase, Estimate, GrowScribbles, Message, Rank, Segment, UpdateScan, WriteScan
from .client import WorkerClient

if TYPE_CHECKING:
    from ...bundle import Bundle


@dataclass(frozen=True, eq=False)
class Drawing:
    """Label maps (K, J, I), uint8 or uint16, on a scan's grid: as the user left it, and the result `before` it was
    corrected. `names` by value; `plane` and `earlier` as in `protocol.UpdateScan`."""

    array: np.ndarray
    names: Mapping[int, str]
    before: np.ndarray | None = None
    plane: str = ""
    earlier: Mapping[str, Any] = field(default_factory=dict)


def submit_segmentation(
    client: WorkerClient,
    channels: Sequence[np.ndarray],
    ijk_to_ras: np.ndarray,
    *,
    model: Bundle,
    settings: Mapping[str, Any],
    roi: Sequence[float] | None = None,
    locator: Bundle | None = None,
    ask_for_box: bool = False,
    working_folder: Path,
    finish: Callable[[Mapping[str, Any], JobFolder], Any],
    job: Job[Any] | None = None,
) -> Job[Any]:
    """Segment (K, J, I) `channels`, voxels of one grid, which are read turn by turn of the event loop.

    `settings` are the chosen fields of `InferenceSettings`. `finish(data, folder)` makes the job's result, from the
    worker's answer and the labels in `folder` (which is removed afterwards); it may be a generator (see `submit`).
    `locator` and `ask_for_box` are as in `protocol.Segment`. `job` is carried out instead of a new one.
    """
    bounds = _bounds(roi)
    found_by = str(locator.path) if locator is not None else ""
    return _submit_with_folder(
        client,
        working_folder,
        lambda folder: Segment(
            client.new_id(), str(folder.path), str(model.path), dict(settings), bounds, found_by, ask_for_box
        ),
        lambda folder: folder.write_volume(channels, ijk_to_ras),
        finish,
        job,
    )


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
    """How uncertain `model` is about a scan; the arguments as in `submit_segmentation`.

    `inference.ranking.rank` puts the results of several scans in order.
    """
    bounds = _bounds(roi)
    return _submit_with_folder(
        client,
        working_folder,
        lambda folder: Rank(
            client.new_id(), str(model.path), folder=str(folder.path), settings=dict(settings), roi=bounds
        ),
        lambda folder: folder.write_volume(channels, ijk_to_ras),
        lambda data, _folder: Uncertainty.from_dict(data),
    )


def submit_scan_ranking(
    client: WorkerClient, scan: Path, *, model: Bundle, settings: Mapping[str, Any], roi: Sequence[float] | None = None
) -> Job[Uncertainty]:
    """As `submit_ranking`, of a file or DICOM folder, which the worker reads itself."""
    request = Rank(
        client.new_id(), str(model.path), scan=str(scan.absolute()), settings=dict(settings), roi=_bounds(roi)
    )
    return client.submit(request, finish=Uncertainty.from_dict)


def submit_case(
    client: WorkerClient,
    channels: Sequence[np.ndarray],
    ijk_to_ras: np.ndarray,
    label_array: np.ndarray,
    *,
    store: Path,
    submission: CaseSubmission,
    working_folder: Path,
    noted: Callable[[Sequence[str]], None] = lambda _notes: None,
) -> Job[CaseRecord]:
    """Store (K, J, I) `channels` with `label_array` of the same grid, uint8 or uint16, in the folder `store`.

    The arrays are read turn by turn of the event loop. `DuplicateCase` ends the job if the scan is stored already.
    `noted` gets what should be checked again.
    """
    _check_label_maps([label_array], channels)

    def prepare(folder: JobFolder) -> Iterator[float]:
        share = label_array.nbytes / (label_array.nbytes + sum(channel.nbytes for channel in channels) or 1)
        for fraction in folder.write_label_map(label_array):
            yield share * fraction
        for fraction in folder.write_volume(channels, ijk_to_ras):
            yield share + (1 - share) * fraction

    def finish(data: Mapping[str, Any], _folder: JobFolder) -> CaseRecord:
        noted([str(note) for note in data.get("notes", ())])
        return CaseRecord.from_dict(data["case"])

    return _submit_with_folder(
        client,
        working_folder,
        lambda folder: AddCase(client.new_id(), str(folder.path), str(store.absolute()), submission.to_dict()),
        prepare,
        finish,
    )


def submit_drawing(
    client: WorkerClient,
    channels: Sequence[np.ndarray],
    ijk_to_ras: np.ndarray,
    drawing: Drawing,
    *,
    scribbles: bool = False,
    model: Bundle | None = None,
    settings: Mapping[str, Any],
    roi: Sequence[float] | None = None,
    working_folder: Path,
    finish: Callable[[Mapping[str, Any], JobFolder], Any],
    job: Job[Any] | None = None,
) -> Job[Any]:
    """Let the scan follow from a drawing, or grow its scribbles, guided by `model`; the rest as in
    `submit_segmentation`."""
    arrays = [drawing.array, *([] if drawing.before is None else [drawing.before])]
    _check_label_maps(arrays, channels)
    bounds = _bounds(roi)

    def request(folder: JobFolder) -> Message:
        names = {str(value): name for value, name in drawing.names.items()}
        where = (client.new_id(), str(folder.path), names, drawing.before is not None)
        earlier = dict(drawing.earlier)
        if scribbles:
            return GrowScribbles(*where, str(model.path) if model else "", dict(settings), bounds, earlier)
        return UpdateScan(*where, drawing.plane, earlier, bounds)

    def prepare(folder: JobFolder) -> Iterator[float]:
        for number, array in enumerate(arrays):
            yield from _part_of(folder.write_label_map(array, before=number > 0), number, len(arrays) + 1)
        yield from _part_of(folder.write_volume(channels, ijk_to_ras), len(arrays), len(arrays) + 1)

    return _submit_with_folder(client, working_folder, request, prepare, finish, job)


def submit_scan_file(
    client: WorkerClient,
    channels: Sequence[np.ndarray],
    ijk_to_ras: np.ndarray,
    *,
    file: Path,
    working_folder: Path,
) -> Job[Path]:
    """Write (K, J, I) `channels` to the image file `file`, whose path is the result; `DatasetError` if nobody could
    learn from them. The arrays are read turn by turn of the event loop."""
    return _submit_with_folder(
        client,
        working_folder,
        lambda folder: WriteScan(client.new_id(), str(folder.path), str(file)),
        lambda folder: folder.write_volume(channels, ijk_to_ras),
        lambda _data, _folder: file,
    )


def submit_estimate(client: WorkerClient, request: RunRequest) -> Job[FineTuneEstimate]:
    """How long a fine-tuning would take here: some seconds, during which the worker does nothing else."""
    return client.submit(
        Estimate(client.new_id(), request.to_dict()), finish=lambda data: FineTuneEstimate.from_dict(data["estimate"])
    )


def _submit_with_folder(
    client: WorkerClient,
    working_folder: Path,
    request: Callable[[JobFolder], Message],
    prepare: Callable[[JobFolder], Iterator[float]],
    finish: Callable[[Mapping[str, Any], JobFolder], Any],
    job: Job[Any] | None = None,
) -> Job[Any]:
    """A job with a folder of its own, which is removed when neither side needs it any more."""
    folder = JobFolder.create(working_folder)
    try:
        return client.submit(
            request(folder),
            prepare=prepare(folder),
            finish=lambda data: finish(data, folder),
            cleanup=folder.remove,
            job=job,
        )
    except BaseException:
        folder.remove()
        raise


def _check_label_maps(arrays: Sequence[np.ndarray], channels: Sequence[np.ndarray]) -> None:
    for array in arrays:
        if array.dtype not in (np.uint8, np.uint16):
            raise ConfigurationError(f"A label map has whole numbers up to 65535, not {array.dtype}.")
        if any(channel.shape != array.shape for channel in channels):
            raise ConfigurationError("The label map has not the size of the scan.", "Export it on the scan's grid.")


def _part_of(fractions: Iterator[float], number: int, count: int) -> Iterator[float]:
    for fraction in fractions:
        yield (number + fraction) / count


def _bounds(roi: Sequence[float] | None) -> tuple[float, ...] | None:
    if roi is None:
        return None
    bounds = tuple(float(bound) for bound in roi)
    if len(bounds) != 6:
        raise ConfigurationError(
            f"A region of interest has six bounds, not {len(bounds)}.", "Give R0, R1, A0, A1, S0, S1 in mm."
        )
    return bounds
