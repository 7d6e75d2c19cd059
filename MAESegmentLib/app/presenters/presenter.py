"""What the presenters of cases and versions have in common."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from ...errors import Cancelled
from ...jobs import EventLoop, Job, in_thread

S = TypeVar("S")
T = TypeVar("T")


class Host(Protocol):
    """The panel around: what is chosen in it, and what it does for all these parts."""

    @property
    def bundle(self) -> Any:
        """The chosen model, a `Bundle`; None if there is none."""

    @property
    def device(self) -> str: ...

    def failed(self, error: Exception) -> None:
        """Show what went wrong."""

    def refresh(self) -> None:
        """The stored cases may have changed: read them again."""

    def use_model(self, name: str) -> None:
        """Choose name@version in the panel, too."""

    def models_changed(self) -> None:
        """There is one more, or one less."""


class CaseHost(Host, Protocol):
    """What is done for cases, versions and the next case. Nodes are Slicer's."""

    @property
    def volume(self) -> Any: ...

    @property
    def scan(self) -> Any:
        """The volume, or the list of volumes of a model with several channels."""

    @property
    def segmentation(self) -> Any: ...

    @property
    def roi(self) -> Any: ...

    def set_storing(self, is_storing: bool) -> None:
        """Whether a case is being stored, during which none can be changed."""

    def case_removed(self, case: str) -> None:
        """The stored case with this id was deleted."""

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


class JobPresenter(Presenter[S]):
    """Of one job at a time, which its button cancels. The state has `is_running` and `fraction`."""

    #: A second press within this time is that of a double click, not of Cancel.
    double_click_s = 0.5
    _job: Any = None
    _begun_at = 0.0

    def cancel(self) -> None:
        if self._job is not None:
            self._job.cancel()

    def press_cancel(self) -> None:
        """The button that began it says Cancel now, under the pointer."""
        if time.monotonic() - self._begun_at >= self.double_click_s:
            self.cancel()

    def close(self) -> None:
        self.cancel()
        super().close()

    def _follow(self, begin: Callable[[], Any], **changes: Any) -> bool:
        """Show the job that `begin` returns; False, and the error is shown, if it cannot be begun."""
        try:
            job = begin()
        except Exception as error:
            self._host.failed(error)
            return False
        self._job, self._begun_at = job, time.monotonic()
        self._put(is_running=True, fraction=0.0, **changes)
        job.add_listener(self._on_job)
        self._on_job(job)
        return True

    def _on_job(self, job: Any) -> None:
        if job is not self._job or self._is_closed:
            return
        self._progressed(job)
        if not job.is_finished:
            return
        self._job = None
        self._put(is_running=False)
        if job.error is None:
            self._succeeded(job)
        elif not isinstance(job.error, Cancelled):
            self._host.failed(job.error)

    def _progressed(self, job: Any) -> None:
        """It is further, or has ended."""

    def _succeeded(self, job: Any) -> None:
        """It has a result."""


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
