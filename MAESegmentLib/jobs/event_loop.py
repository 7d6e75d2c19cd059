"""Where callbacks run, one after the other: the port, and the loops of programs without Qt."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import asyncio

R = TypeVar("R")

#: A caller that waits checks its condition at least this often.
_SLICE_S = 0.05
#: The same for a thread; and how long it is given, where the event loop keeps Python's lock (in Slicer).
NAP_S = 0.005


class EventLoop(ABC):
    """All callbacks run on the thread of the loop. Slicer has a loop of its own (in the plugin)."""

    def __init__(self) -> None:
        self._steps: deque[Callable[[], bool]] = deque()
        self._is_turn_due = False

    @abstractmethod
    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Call from the loop after `seconds` (0: in its next turn); what is returned cancels the call."""

    @abstractmethod
    def pump(self, seconds: float) -> None:
        """Process events until something was called, for at most `seconds`; for callers that wait."""

    def wait_until(
        self, is_over: Callable[[], bool], timeout_s: float | None = None, *, every_s: float = _SLICE_S
    ) -> bool:
        """Process events until `is_over()`; False if that is not so after `timeout_s`."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while not is_over():
            left = every_s if end is None else end - time.monotonic()
            if left <= 0:
                return False
            self.pump(min(left, every_s))
        return True

    def call_aside(self, function: Callable[[], R]) -> R:
        """The result of `function`, run in a thread while events are processed; for callers that wait.

        `function` must touch neither Qt nor the scene.
        """
        future = in_daemon_thread(function)
        self.wait_until(future.done, every_s=NAP_S)
        return future.result()

    def add_steps(self, step: Callable[[], bool], *, urgent: bool = False) -> None:
        """Call `step` once a turn until it returns False; `urgent` goes before all that waits for its turn."""
        if urgent:
            self._steps.appendleft(step)
        else:
            self._steps.append(step)
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_turn_due and self._steps:
            self._is_turn_due = True
            self.call_later(0.0, self._turn)

    def _turn(self) -> None:
        self._is_turn_due = False
        if not self._steps:
            return
        step = self._steps.popleft()
        # Taken out and scheduled before: the step may process events, and with them the next turn.
        self._schedule()
        if step():
            self._steps.appendleft(step)
            self._schedule()


def in_daemon_thread(function: Callable[[], R]) -> Future[R]:
    """What becomes of `function`, in a thread that does not keep the process alive, as those of an executor would."""
    future: Future[R] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="MAESegment aside", daemon=True).start()
    return future


class QueueLoop(EventLoop):
    """The event loop of a program that has none: what threads post and what is due happens in `pump`."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()
        self._posted: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, _Timer]] = []
        self._numbers = itertools.count()

    def post(self, callback: Callable[[], None]) -> None:
        """From any thread."""
        with self._changed:
            self._posted.append(callback)
            self._changed.notify()

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        timer = _Timer(callback)
        with self._changed:
            heapq.heappush(self._timers, (time.monotonic() + max(seconds, 0.0), next(self._numbers), timer))
            self._changed.notify()
        return timer.cancel

    def pump(self, seconds: float) -> None:
        """Wait until there is something to do, for at most `seconds`, and do all that is there by then."""
        end = time.monotonic() + seconds
        with self._changed:
            self._collect()
            while not self._posted and (left := min(end, self._next_due()) - time.monotonic()) > 0:
                self._changed.wait(left)
                self._collect()
            self._collect()
            count = len(self._posted)
        # Taken one by one: a callback may pump, or fail, and none may be lost by that.
        for _ in range(count):
            if self._posted:
                self._posted.popleft()()

    def _next_due(self) -> float:
        return self._timers[0][0] if self._timers else float("inf")

    def _collect(self) -> None:
        now = time.monotonic()
        while self._timers and (self._timers[0][0] <= now or self._timers[0][2].callback is None):
            self._posted.append(heapq.heappop(self._timers)[2].ring)


class _Timer:
    """Something to do once, unless it is cancelled before; then it keeps nothing alive."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None

    def ring(self) -> None:
        callback, self.callback = self.callback, None
        if callback is not None:
            callback()


class AsyncioLoop(EventLoop):
    """An asyncio loop, by default the running one. Nobody may wait within it: jobs are awaited."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        import asyncio

        super().__init__()
        self._loop = loop or asyncio.get_running_loop()

    def post(self, callback: Callable[[], None]) -> None:
        """From any thread; `RuntimeError` if the loop is closed."""
        self._loop.call_soon_threadsafe(callback)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        return self._loop.call_later(seconds, callback).cancel

    def pump(self, seconds: float) -> None:
        raise RuntimeError(f"An asyncio loop cannot be waited for ({seconds:g} s) from within: await the job instead.")

    def call_aside(self, function: Callable[[], R]) -> R:
        """At once: callers hand such work to threads themselves, and await it."""
        return function()
