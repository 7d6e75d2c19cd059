"""What the presenters of cases and versions have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from ...jobs import EventLoop, Job, in_thread

S = TypeVar("S")
T = TypeVar("T")


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

    def refresh(self) -> None:
        """The stored cases may have changed: read them again."""

    def set_storing(self, is_storing: bool) -> None:
        """Whether a case is being stored, during which none can be changed."""

    def case_removed(self, case: str) -> None:
        """The stored case with this id was deleted."""

    def use_model(self, name: str) -> None:
        """Choose name@version in the panel, too."""

    def models_changed(self) -> None:
        """There is one more, or one less."""

    def show_case(self, scan: Any, segmentation: Any) -> None:
        """Choose these nodes: a volume (or a list of them) and its segmentation."""

    def show_comparison(self, segmentation: Any) -> None:
        """Where two versions differ was put into the scene as `segmentation`."""

    def scans(self, source: str, folder: str) -> Sequence[Any]:
        """What `nextCases` gets: volumes of the scene, those that the user chose or that are not stored as cases; or
        the scans of a folder, as its path or theirs. Empty if there are none."""

    def show_scan(self, source: Any, position: tuple[float, float, float]) -> None:
        """Choose a scan, a node or a file that is to be loaded, and go to a point of it (RAS, mm)."""


class Presenter(Generic[S]):
    """`state`, a frozen dataclass, is replaced as a whole; `changed` is called after every change of it.

    `logic` is a `MAESegmentLogic`.
    """

    def __init__(self, logic: Any, host: CaseHost, state: S, changed: Callable[[], None]) -> None:
        self.state = state
        self._logic = logic
        self._host = host
        self._state_changed = changed
        self._is_closed = False

    def close(self) -> None:
        """The view goes: nothing is shown any more."""
        self._is_closed = True

    def act(self, key: str) -> None:
        """Do what an option under the state's question says: each is a method. A page may send anything."""
        asks = getattr(self.state, "asks", None)
        if asks is not None and any(option.key == key for option in asks.options):
            getattr(self, key)()

    def _put(self, **changes: Any) -> None:
        state: S = replace(self.state, **changes)  # type: ignore[type-var]
        if state != self.state and not self._is_closed:
            self.state = state
            self._state_changed()


def plain(state: Any) -> Any:
    """Fields and properties of a state as JSON has them, for a view that is not in this process."""
    if is_dataclass(state):
        names = [one.name for one in fields(state)]
        names += [name for name, value in vars(type(state)).items() if isinstance(value, property)]
        return {name: plain(getattr(state, name)) for name in names}
    if isinstance(state, tuple):
        return [plain(one) for one in state]
    if isinstance(state, Enum):
        return state.value
    return str(state) if isinstance(state, Path) else state


def in_background(loop: EventLoop, work: Callable[[], T], done: Callable[[Job[T]], None]) -> None:
    """Do `work`, which touches neither widgets nor the scene, in a thread; then call `done(job)`."""
    job: Job[T] = Job(loop)
    job.add_listener(lambda job: done(job) if job.is_finished else None)
    job.run(in_thread(work))
