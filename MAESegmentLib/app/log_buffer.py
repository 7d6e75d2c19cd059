"""The latest lines of what the worker and the module have to tell, for the log view and for diagnostics."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class LogBuffer:
    """Keeps `limit` lines and tells listeners about each new one; warnings and errors also go to Slicer's own log."""

    def __init__(self, limit: int = 2000) -> None:
        self._lines: deque[str] = deque(maxlen=limit)
        self._listeners: list[Callable[[str], None]] = []

    def add(self, level: str, text: str) -> None:
        number = _LEVELS.get(level, logging.INFO)
        for line in text.rstrip().splitlines():
            stamped = f"{time.strftime('%H:%M:%S')} {level:<7} {line}"
            self._lines.append(stamped)
            for listener in tuple(self._listeners):
                _tell(listener, stamped)
        if number > logging.INFO:
            logging.log(number, "MAESegment: %s", text.rstrip())

    def text(self, last: int | None = None) -> str:
        """The kept lines, or the `last` of them."""
        lines = list(self._lines)
        return "\n".join(lines if last is None else lines[-last:])

    def clear(self) -> None:
        self._lines.clear()

    def add_listener(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """`callback(line)` after each line; the answer takes it off again."""
        self._listeners.append(callback)

        def remove() -> None:
            if callback in self._listeners:
                self._listeners.remove(callback)

        return remove


def _tell(listener: Callable[[str], None], line: str) -> None:
    try:
        listener(line)
    except Exception:
        logging.exception("MAESegment: a listener of the log failed")
