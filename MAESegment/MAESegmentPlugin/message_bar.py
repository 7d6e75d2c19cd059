"""A sentence with up to three buttons, in the panel instead of a window that pops up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from MAESegmentLib.app.presenters.elements import Message
from MAESegmentLib.app.texts.messages import Remedy, breakable

from .qt_connection import connect


class MessageBar:
    """Hidden while there is nothing to say; `act(remedy)` does what a button offers."""

    def __init__(self, ui: Any, act: Callable[[Remedy], None]) -> None:
        self._ui = ui
        self._act = act
        self._buttons = (ui.action1Button, ui.action2Button, ui.action3Button)
        self._message = Message()
        for number, button in enumerate(self._buttons):
            connect(button, "clicked()", lambda number=number: self._clicked(number))
        self.show(self._message)

    @property
    def text(self) -> str:
        """What is shown, or ""."""
        return self._message.text

    def show(self, message: Message) -> None:
        """Each offer is a button; a message without a text hides the bar."""
        self._message = message
        self._ui.messageLabel.text = breakable(message.text)
        offers = message.offers[: len(self._buttons)]
        for number, button in enumerate(self._buttons):
            button.visible = number < len(offers)
            button.text = offers[number].text if number < len(offers) else ""
        self._ui.messageFrame.visible = bool(message.text)

    def _clicked(self, number: int) -> None:
        if number < len(self._message.offers):
            self._act(self._message.offers[number].remedy)
