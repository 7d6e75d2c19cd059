"""A job together with what the client needs to carry it out."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import MAESegmentError, refusal_by_system
from ..job import Job, JobState
from .stepping import Steps

Finish = Callable[[Mapping[str, Any]], Any]


@dataclass(eq=False)
class Task:
    """`line` is the request on the wire. How far it is with the present process: sent, accepted, started, answered."""

    job: Job[Any]
    line: bytes
    finish: Finish | None
    cleanup: Callable[[], None] | None
    steps: Steps | None = None
    is_prepared: bool = True
    is_sent: bool = False
    is_accepted: bool = False
    is_started: bool = False
    is_answered: bool = False
    forget_timer: Callable[[], None] = lambda: None

    @property
    def is_ready_to_send(self) -> bool:
        return self.is_prepared and not self.is_sent and not self.job.is_finished

    @property
    def needs_worker(self) -> bool:
        return not self.is_answered and not self.job.is_finished

    @property
    def state(self) -> JobState:
        """Of the job, while it is not finished."""
        if not self.is_prepared:
            return JobState.PREPARING
        return JobState.RUNNING if self.is_started else JobState.QUEUED

    def forget_process(self) -> None:
        """As if it had never been sent."""
        self.forget_timer()
        self.is_sent = self.is_accepted = self.is_started = False

    def finishing(self, data: Mapping[str, Any]) -> Generator[Any, None, Any]:
        """Steps that make the job's result of the worker's answer."""
        value = self.finish(data) if self.finish is not None else data
        if inspect.isgenerator(value):
            value = yield from value
        return value


def expected_error(error: Exception, log: Callable[[str, str], None]) -> MAESegmentError:
    """`error` as one that a person may meet."""
    if isinstance(error, MAESegmentError):
        return error
    text = f"{type(error).__name__}: {error}"
    log("error", text)
    refusal = refusal_by_system(error)
    if refusal is not None:
        return refusal
    expected = MAESegmentError(f"Something went wrong that was not foreseen: {text}", "Send the log.")
    expected.__cause__ = error
    return expected


def share(value: Any) -> float:
    """A number from another process as a share from 0 to 1."""
    number = float(value)
    return min(max(number, 0.0), 1.0) if math.isfinite(number) else 0.0
