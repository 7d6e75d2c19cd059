"""A sentence with up to three buttons, in the panel instead of a window that pops up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from MAESegmentLib.app.presenters.elements import Question
from MAESegmentLib.app.texts.messages import breakable, tooltip

from .widgets import connect


class AskBar:
    """The frame `<prefix>Frame` of the .ui file; hidden while there is nothing to say.

    `act(key)` does what the option of a button says.
    """

    def __init__(self, ui: Any, prefix: str, act: Callable[[str], Any], *, buttons: str = "") -> None:
        """`buttons` is the prefix of the buttons' names, if it is another one."""
        self._act = act
        self._frame = getattr(ui, f"{prefix}Frame")
        self._label = getattr(ui, f"{prefix}Label")
        names = [f"{buttons or prefix}{number}Button" for number in (1, 2, 3)]
        self._buttons = [getattr(ui, name) for name in names if hasattr(ui, name)]
        self._shown: Question | None = Question("?")
        for number, button in enumerate(self._buttons):
            connect(button, "clicked()", lambda number=number: self._clicked(number))
        self.show(None)

    @property
    def text(self) -> str:
        """What is shown, or ""."""
        return self._shown.text if self._shown is not None else ""

    def show(self, question: Question | None) -> None:
        """Nothing changes, and the focus stays, if it is shown already; a click hides it before it acts."""
        if question == self._shown:
            return
        self._shown = question
        shown = question or Question()
        self._label.text = breakable(shown.text)
        for button in self._buttons:
            button.visible = False
        for button, option in zip(self._buttons, shown.options, strict=False):
            button.text, button.toolTip, button.visible = option.text, tooltip(option.tip), True
        self._frame.visible = bool(shown.text)

    def _clicked(self, number: int) -> None:
        options = self._shown.options if self._shown is not None else ()
        if number < len(options):
            self.show(None)
            self._act(options[number].key)
