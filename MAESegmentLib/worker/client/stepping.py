"""Work that is done in small steps, one in each turn of the event loop, so that a window stays alive meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

CallLater = Callable[[float, Callable[[], None]], Callable[[], None]]


@dataclass(eq=False)
class Steps:
    """One piece of work: `advanced` gets what a step yields, `done` what the generator returns, `failed` its exception.

    None of them is called after `close`.
    """

    iterator: Iterator[Any]
    advanced: Callable[[Any], None]
    done: Callable[[Any], None]
    failed: Callable[[Exception], None]
    is_closed: bool = False
    is_running: bool = False

    def close(self) -> None:
        """No further step; lets the generator clean up, at once or after the step that is calling this."""
        self.is_closed = True
        if not self.is_running and isinstance(self.iterator, Generator):
            self.iterator.close()

    def step(self) -> bool:
        """Whether there is more to do."""
        self.is_running = True
        try:
            value = next(self.iterator)
        except StopIteration as stop:
            self._tell(self.done, stop.value)
            return False
        except Exception as error:
            self._tell(self.failed, error)
            return False
        finally:
            self.is_running = False
        self._tell(self.advanced, value)
        if self.is_closed:
            self.close()
        return not self.is_closed

    def _tell(self, callback: Callable[[Any], None], value: Any) -> None:
        if not self.is_closed:
            callback(value)


class Stepper:
    """Does its work in order, one piece after the other."""

    def __init__(self, call_later: CallLater) -> None:
        self._call_later = call_later
        self._waiting: deque[Steps] = deque()
        self._is_scheduled = False

    def add(self, steps: Steps, *, urgent: bool = False) -> None:
        """`urgent` goes before everything that waits."""
        if urgent:
            self._waiting.appendleft(steps)
        else:
            self._waiting.append(steps)
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled and self._waiting:
            self._is_scheduled = True
            self._call_later(0.0, self._turn)

    def _turn(self) -> None:
        self._is_scheduled = False
        while self._waiting and self._waiting[0].is_closed:
            self._waiting.popleft()
        if self._waiting:
            steps = self._waiting.popleft()
            # Taken out meanwhile: a step may pump events, and with them the next turn.
            if steps.step():
                self._waiting.appendleft(steps)
        self._schedule()
