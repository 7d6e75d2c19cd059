"""The worker process that runs the network, and its client. Nothing here knows of Qt; the client needs no torch.

Names are imported when first used, so that the worker can start in a Python that lacks everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import importing

if TYPE_CHECKING:
    from .client import WorkerClient, WorkerState
    from .console import Console, SegmentedVolume
    from .job import Job, JobProgress, JobState
    from .segmentation import submit_segmentation
    from .transport import SubprocessTransport

_HOME = {
    "Console": "console",
    "Job": "job",
    "JobProgress": "job",
    "JobState": "job",
    "SegmentedVolume": "console",
    "SubprocessTransport": "transport",
    "WorkerClient": "client",
    "WorkerState": "client",
    "submit_segmentation": "segmentation",
}

__all__ = [
    "Console",
    "Job",
    "JobProgress",
    "JobState",
    "SegmentedVolume",
    "SubprocessTransport",
    "WorkerClient",
    "WorkerState",
    "submit_segmentation",
]

__getattr__ = importing(__name__, _HOME)
