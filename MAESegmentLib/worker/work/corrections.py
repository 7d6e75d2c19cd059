"""What the worker does for learning: it stores corrected cases, writes scans, and measures how long it would take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...cases.snapshot import stored_image
from ...cases.store import CaseStore
from ...cases.submission import CaseIssue, CaseSubmission
from ...errors import Cancelled
from ...images.writing import write_volume
from ...runs.records import RunRequest
from ..job_folder import JobFolder
from ..protocol import AddCase, Estimate, Message, Progress, Result, WriteScan

Send = Callable[[Message], None]


def add_case(request: AddCase, send: Send, should_cancel: Callable[[], bool]) -> Result:
    """`data` is {"case": the record, "notes": what is worth a second look}. Cancelled until the store takes it."""
    folder = JobFolder(Path(request.folder))
    submission = CaseSubmission.from_dict(request.details)
    send(Progress(request.id, "load", 0.0))
    warnings: list[CaseIssue] = []
    volume = folder.read_volume()
    label_map = folder.read_label_map(volume)
    if should_cancel():
        raise Cancelled()
    send(Progress(request.id, "write", 0.0))
    record = CaseStore(Path(request.store)).add(volume, label_map, submission, warnings.append)
    return Result(request.id, {"case": record.to_dict(), "notes": [warning.message for warning in warnings]})


def write_scan(request: WriteScan, send: Send, should_cancel: Callable[[], bool]) -> Result:
    """`DatasetError` for a scan that could not be a case's. `data` is empty."""
    send(Progress(request.id, "load", 0.0))
    image = stored_image(JobFolder(Path(request.folder)).read_volume())
    if should_cancel():
        raise Cancelled()
    send(Progress(request.id, "write", 0.0))
    write_volume(request.file, image)
    return Result(request.id, {})


def estimate(request: Estimate, send: Send, should_cancel: Callable[[], bool]) -> Result:
    """`data` is {"estimate": a `FineTuneEstimate` as a dictionary}."""
    from ...runs.estimate import estimate_run  # training with it, which storing a case does not need

    def report(fraction: float) -> None:
        send(Progress(request.id, "measure", fraction))

    found = estimate_run(RunRequest.from_dict(request.run), report, should_cancel)
    return Result(request.id, {"estimate": found.to_dict()})
