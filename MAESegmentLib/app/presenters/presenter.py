"""What the presenters of cases and versions have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from ...jobs import EventLoop, Job, in_thread

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True)
class Option:
    """One of several that may be chosen; the view hands `key` back."""

    key: str
    text: str
    tip: str = ""


class CaseHost(Protocol):
    """The panel around: what is chosen in it, and what it does for these parts. Nodes are Slicer's."""

    @property
    def bundle(self) -> Any:
        """The chosen model, a `Bundle`; None if there is none."""

    @property
    def volume(self) -> Any: ...

    @property
    def scan(self) -> Any:
        """The volume, or the list of volumes of a model with several channels."""

    @property
    def segmentation(self) -> Any: ...

    @property
    def roi(self) -> Any: ...

    @property
    def device(self) -> str: ...

    def failed(self, error: Exception) -> None:
        """Show what went wrong."""


class Presenter(Generic[S]):
    """`state`, a frozen dataclass, is replaced as a whole; `changed` is called after every change of it."""

    def __init__(self, state: S, changed: Callable[[], None]) -> None:
        self.state = state
        self._state_changed = changed
        self._is_closed = False

    def close(self) -> None:
        """The view goes: nothing is shown any more."""
        self._is_closed = True

    def _put(self, **changes: Any) -> None:
        state: S = replace(self.state, **changes)  # type: ignore[type-var]
        if state != self.state and not self._is_closed:
            self.state = state
            self._state_changed()


def in_background(loop: EventLoop, work: Callable[[], T], done: Callable[[Job[T]], None]) -> None:
    """Do `work`, which touches neither widgets nor the scene, in a thread; then call `done(job)`."""
    job: Job[T] = Job(loop)
    job.add_listener(lambda job: done(job) if job.is_finished else None)
    job.run(in_thread(work))
