"""One `Job` for everything that takes a while, and the event loop that it runs on. Needs only the standard library."""

from __future__ import annotations

from .event_loop import AsyncioLoop, EventLoop, QueueLoop
from .listeners import Listeners
from .runner import Job, JobProgress, JobState, Promise, in_thread

__all__ = [
    "AsyncioLoop",
    "EventLoop",
    "Job",
    "JobProgress",
    "JobState",
    "Listeners",
    "Promise",
    "QueueLoop",
    "in_thread",
]
