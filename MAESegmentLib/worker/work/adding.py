"""What the worker does with a case: check it, put it into the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...cases.store import CaseStore
from ...cases.submission import CaseIssue, CaseSubmission
from ...errors import Cancelled, DeviceMemoryError
from ..job_folder import JobFolder
from ..protocol import AddCase, Message, Progress, Result


def perform(request: AddCase, _work: Any, send: Callable[[Message], None], should_cancel: Callable[[], bool]) -> Result:
    """`data` is {"case": the record, "notes": what is worth a second look}. Cancelled until the store takes it."""
    folder = JobFolder(Path(request.folder))
    submission = CaseSubmission.from_dict(request.details)
    send(Progress(request.id, "load", 0.0))
    warnings: list[CaseIssue] = []
    try:
        volume = folder.read_volume()
        label_map = folder.read_label_map(volume)
        if should_cancel():
            raise Cancelled()
        send(Progress(request.id, "write", 0.0))
        record = CaseStore(Path(request.store)).add(volume, label_map, submission, warnings.append)
    except MemoryError as error:
        raise DeviceMemoryError(
            "The computer ran out of memory while the case was stored.", "Close other programs, then try again."
        ) from error
    return Result(request.id, {"case": record.to_dict(), "notes": [warning.message for warning in warnings]})
