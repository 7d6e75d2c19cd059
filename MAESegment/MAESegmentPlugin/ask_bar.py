"""A sentence with up to three buttons beside what it is about, instead of a window that pops up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from MAESegmentLib.app.texts.messages import breakable, tooltip

from .qt_connection import connect


@dataclass(frozen=True)
class Answer:
    """A button: what it says, what it does, and what that means at length."""

    text: str
    act: Callable[[], None]
    tip: str = ""


class AskBar:
    """The frame `<prefix>Frame` of the .ui file; hidden while there is nothing to say."""

    def __init__(self, ui: Any, prefix: str) -> None:
        self._frame = getattr(ui, f"{prefix}Frame")
        self._label = getattr(ui, f"{prefix}Label")
        names = [f"{prefix}{number}Button" for number in (1, 2, 3)]
        self._buttons = [getattr(ui, name) for name in names if hasattr(ui, name)]
        self._answers: tuple[Answer, ...] = ()
        self._shown: tuple[str, ...] = ()
        for number, button in enumerate(self._buttons):
            connect(button, "clicked()", lambda number=number: self._clicked(number))
        self.clear()

    def show(self, text: str, *answers: Answer) -> None:
        """Nothing changes, and the focus stays, if it is shown already; a click hides it before it acts."""
        self._answers = answers
        shown = (text, *(answer.text for answer in answers))
        if shown == self._shown:
            return
        self._shown = shown
        self._label.text = breakable(text)
        for button in self._buttons:
            button.visible = False
        for button, answer in zip(self._buttons, answers, strict=False):
            button.text, button.toolTip, button.visible = answer.text, tooltip(answer.tip), True
        self._frame.visible = True

    def clear(self) -> None:
        self._answers = self._shown = ()
        self._label.text = ""
        self._frame.visible = False

    def _clicked(self, number: int) -> None:
        if number < len(self._answers):
            act = self._answers[number].act
            self.clear()
            act()
