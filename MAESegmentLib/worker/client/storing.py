"""Storing a corrected case as one job: scan and label map go to a job folder, the worker puts them into the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...cases.records import CaseRecord
from ...cases.submission import CaseSubmission
from ...errors import ConfigurationError
from ..job import Job
from ..job_folder import JobFolder
from ..protocol import AddCase
from .client import WorkerClient


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

    The arrays are read step by step while events go on. `DuplicateCase` ends the job if the scan is there already.
    `noted` is told what is worth a second look.
    """
    if label_array.dtype not in (np.uint8, np.uint16):
        raise ConfigurationError(f"A label map has whole numbers up to 65535, not {label_array.dtype}.")
    if any(channel.shape != label_array.shape for channel in channels):
        raise ConfigurationError("The label map has not the size of the scan.", "Export it on the scan's grid.")

    def finish(data: Mapping[str, Any]) -> CaseRecord:
        noted([str(note) for note in data.get("notes", ())])
        return CaseRecord.from_dict(data["case"])

    folder = JobFolder.create(working_folder)
    request = AddCase(client.new_id(), str(folder.path), str(store.absolute()), submission.to_dict())
    try:
        return client.submit(
            request,
            prepare=_write(folder, channels, ijk_to_ras, label_array),
            finish=finish,
            cleanup=folder.remove,
        )
    except BaseException:
        folder.remove()
        raise


def _write(
    folder: JobFolder, channels: Sequence[np.ndarray], ijk_to_ras: np.ndarray, label_array: np.ndarray
) -> Iterator[float]:
    """Yields the share done of both."""
    share = label_array.nbytes / (label_array.nbytes + sum(channel.nbytes for channel in channels) or 1)
    for fraction in folder.write_label_map(label_array):
        yield share * fraction
    for fraction in folder.write_volume(channels, ijk_to_ras):
        yield share + (1 - share) * fraction
