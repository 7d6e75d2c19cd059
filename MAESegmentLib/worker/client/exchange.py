"""A request to the worker together with the job that waits for its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ...jobs import Job, JobState, Promise


@dataclass(eq=False)
class Exchange:
    """`line` is the request on the wire. How far it is with the present process: sent, accepted, started, answered."""

    job: Job[Any]
    line: bytes
    cleanup: Callable[[], None] | None
    is_prepared: bool
    answer: Promise[Any] = field(default_factory=Promise)
    is_sent: bool = False
    is_accepted: bool = False
    is_started: bool = False
    is_answered: bool = False
    cancel_timer: Callable[[], None] = lambda: None

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
        self.cancel_timer()
        self.is_sent = self.is_accepted = self.is_started = False
