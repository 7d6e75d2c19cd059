"""Fine-tuning in a process of its own that continues when its client ends. All but `trainer` needs no torch.

A run is a folder: the request goes in, where it stands and what came of it are read from its files.
"""

from __future__ import annotations

from .launching import start
from .records import Curves, FineTuneEstimate, RunRequest, RunResult, RunState, RunStatus
from .run_folder import FineTuneRun, create_run, list_runs

__all__ = [
    "Curves",
    "FineTuneEstimate",
    "FineTuneRun",
    "RunRequest",
    "RunResult",
    "RunState",
    "RunStatus",
    "create_run",
    "list_runs",
    "start",
]
