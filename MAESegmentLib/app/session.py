"""What work on a scene needs of the program that it runs in: its worker, its event loop, its folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from ..processes.interpreter import Interpreter
from ..worker.client.client import WorkerClient
from .log_buffer import LogBuffer
from .run_watch import RunWatch

T = TypeVar("T")


class SceneSession(Protocol):
    """Slicer has one of these, and each person in the browser."""

    @property
    def client(self) -> WorkerClient:
        """The warm worker."""

    @property
    def log(self) -> LogBuffer: ...

    @property
    def watch(self) -> RunWatch:
        """Looks at fine-tunings, which are processes of their own."""

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

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        """In a later turn of the event loop; call the returned function to cancel it."""

    def pump(self, seconds: float) -> None:
        """Let events happen for at most this long; for callers that wait."""

    def call_aside(self, function: Callable[[], T]) -> T:
        """The result of `function`, run in a thread while the event loop goes on; for callers that wait."""
