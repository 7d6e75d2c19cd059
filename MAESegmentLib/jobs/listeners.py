"""Callbacks that are notified of changes; the one place that does it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, TypeVar

S = TypeVar("S")


class Listeners(Generic[S]):
    """Notified in the order in which they were added. What one raises is logged and does not reach the others."""

    def __init__(self, *listeners: Callable[[S], object] | None) -> None:
        self._listeners = [one for one in listeners if one is not None]

    def add(self, listener: Callable[[S], object]) -> Callable[[], None]:
        """Returns what removes it again."""
        self._listeners.append(listener)

        def remove() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return remove

    def notify(self, subject: S) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(subject)
            except Exception:
                logging.getLogger(__name__).exception("MAESegment: a callback failed")

    def clear(self) -> None:
        self._listeners.clear()
