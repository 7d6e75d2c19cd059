"""How long a fine-tuning would take here, for a client that asks before it starts one."""

from __future__ import annotations

from collections.abc import Callable

from ...runs.estimate import estimate_run
from ...runs.records import RunRequest
from ..protocol import Estimate, Message, Progress, Result
from .segmenting import SegmentationWork


def perform(
    request: Estimate, work: SegmentationWork, send: Callable[[Message], None], should_cancel: Callable[[], bool]
) -> Result:
    """`data` is {"estimate": a `FineTuneEstimate` as a dictionary}."""
    work.forget_models()  # their memory will be free, too, when it is needed

    def report(fraction: float) -> None:
        send(Progress(request.id, "measure", fraction))

    estimate = estimate_run(RunRequest.from_dict(request.run), report, should_cancel)
    return Result(request.id, {"estimate": estimate.to_dict()})
