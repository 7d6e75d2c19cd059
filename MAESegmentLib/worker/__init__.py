"""The worker process that runs the network, and its client. Nothing here knows of Qt; the client needs no torch.

Names are imported when first used, so that the worker can start in a Python that lacks everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import importing

if TYPE_CHECKING:
    from .client.client import WorkerClient, WorkerState
    from .client.segmentation import submit_segmentation
    from .client.transport import SubprocessTransport
    from .job import Job, JobProgress, JobState

_HOME = {
    "Job": "job",
    "JobProgress": "job",
    "JobState": "job",
    "SubprocessTransport": "client.transport",
    "WorkerClient": "client.client",
    "WorkerState": "client.client",
    "submit_segmentation": "client.segmentation",
}

__all__ = [
    "Job",
    "JobProgress",
    "JobState",
    "SubprocessTransport",
    "WorkerClient",
    "WorkerState",
    "submit_segmentation",
]

__getattr__ = importing(__name__, _HOME)
