"""A sentence with up to three buttons, in the panel instead of a window that pops up."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from MAESegmentLib.app.texts.messages import Offer, Remedy, breakable

from .qt_connection import connect


class MessageBar:
    """Hidden while there is nothing to say."""

    def __init__(self, ui, act: Callable[[Remedy], None]) -> None:
        self._ui = ui
        self._act = act
        self._buttons = (ui.action1Button, ui.action2Button, ui.action3Button)
        self._offers: Sequence[Offer] = ()
        self._text = ""
        for number, button in enumerate(self._buttons):
            connect(button, "clicked()", lambda number=number: self._clicked(number))
        self.clear()

    @property
    def text(self) -> str:
        """What is shown, or ""."""
        return self._text

    @property
    def offers(self) -> Sequence[Offer]:
        return self._offers

    def show(self, text: str, offers: Sequence[Offer] = ()) -> None:
        """Say `text`; each offer is a button."""
        self._offers = tuple(offers)[: len(self._buttons)]
        self._text = text
        self._ui.messageLabel.text = breakable(text)
        for number, button in enumerate(self._buttons):
            button.visible = number < len(self._offers)
            button.text = self._offers[number].text if number < len(self._offers) else ""
        self._ui.messageFrame.visible = True

    def clear(self) -> None:
        self._offers = ()
        self._text = self._ui.messageLabel.text = ""
        self._ui.messageFrame.visible = False

    def _clicked(self, number: int) -> None:
        if number < len(self._offers):
            remedy = self._offers[number].remedy
            self.clear()
            self._act(remedy)
