"""The latest lines of the worker and the module, for the log view and for diagnostics."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

from ..jobs import Listeners

_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class LogBuffer:
    """Keeps `limit` lines and notifies listeners of each new one; warnings and errors also go to Slicer's own log."""

    def __init__(self, limit: int = 2000) -> None:
        self._lines: deque[str] = deque(maxlen=limit)
        self._listeners: Listeners[str] = Listeners()

    def add(self, level: str, text: str) -> None:
        number = _LEVELS.get(level, logging.INFO)
        for line in text.rstrip().splitlines():
            stamped = f"{time.strftime('%H:%M:%S')} {level:<7} {line}"
            self._lines.append(stamped)
            self._listeners.notify(stamped)
        if number > logging.INFO:
            logging.log(number, "MAESegment: %s", text.rstrip())

    def text(self, last: int | None = None) -> str:
        """The kept lines, or the `last` of them."""
        lines = list(self._lines)
        return "\n".join(lines if last is None else lines[-last:])

    def clear(self) -> None:
        self._lines.clear()

    def add_listener(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """`callback(line)` after each line; what is returned removes it."""
        return self._listeners.add(callback)
