"""What work on a scene needs of the program that it runs in: its worker, its event loop, its folders."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ..jobs import EventLoop
from ..processes.interpreter import Interpreter
from ..worker.client.client import WorkerClient
from .log_buffer import LogBuffer
from .run_watch import RunWatch


class SceneSession(Protocol):
    """Slicer has one of these, and each user of the browser."""

    @property
    def client(self) -> WorkerClient:
        """The warm worker."""

    @property
    def loop(self) -> EventLoop:
        """What callbacks and jobs run on."""

    @property
    def log(self) -> LogBuffer: ...

    @property
    def watch(self) -> RunWatch:
        """Polls fine-tunings, which are processes of their own."""

    @property
    def working_folder(self) -> Path:
        """Where volumes are handed over."""

    @property
    def case_root(self) -> Path:
        """Where corrected cases are kept, a folder below it for each model."""

    def set_case_root(self, path: str) -> None:
        """ "" for the default."""

    def interpreter(self) -> Interpreter:
        """The Python that runs the network."""

    def environment(self) -> dict[str, str]:
        """Environment of processes that the session starts."""
