"""What the sections of the panel have in common."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from ..app.texts.messages import error_text, expected
from ..errors import MAESegmentError

if TYPE_CHECKING:
    from .application import Application


class Panel:
    """A section: `build` makes its widgets once, methods do what they ask for. State names begin with `prefix`."""

    prefix = ""

    def __init__(self, app: Application) -> None:
        self.app = app
        self.workspace = app.workspace
        self.logic = app.logic
        self.session = app.session
        self._tasks: set[asyncio.Task[Any]] = set()

    def name(self, key: str) -> str:
        """Of a value in the state that the page shares."""
        return f"{self.prefix}_{key}"

    def get(self, key: str) -> Any:
        return self.app.state[self.name(key)]

    def put(self, **values: Any) -> None:
        """Set values and send them to the browser now."""
        with self.app.state as state:
            for key, value in values.items():
                state[self.name(key)] = value

    def on_change(self, key: str, callback: Callable[[Any], Any]) -> None:
        """`callback(value)` when the person or the program changes a value."""
        name = self.name(key)
        self.app.state.change(name)(lambda **state: callback(state[name]))

    def run(self, work: Coroutine[Any, Any, Any]) -> None:
        """Begin something that takes time; what goes wrong is said in the panel."""

        async def guarded() -> None:
            try:
                await work
            except Exception as error:
                self.failed(error)

        task = asyncio.ensure_future(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def guarded(self, act: Callable[..., Any]) -> Callable[..., Any]:
        """For `click`: as `act`, but what goes wrong is said in the panel."""

        def call(*arguments: Any) -> None:
            try:
                outcome = act(*arguments)
            except Exception as error:
                self.failed(error)
                return
            if isinstance(outcome, Awaitable):
                self.run(outcome)  # type: ignore[arg-type]

        return call

    def failed(self, error: Exception) -> None:
        """Sentence and advice; one that nobody foresaw goes to the log, too."""
        known = error if isinstance(error, MAESegmentError) else expected(error)
        logging.info("MAESegment: %s", known)
        self.app.say(error_text(known), kind="error")
