"""A sentence with up to three answers beside what it is about, instead of a window that pops up."""

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
        self._text = ""
        for number, button in enumerate(self._buttons):
            connect(button, "clicked()", lambda number=number: self._clicked(number))
        self.clear()

    @property
    def text(self) -> str:
        """What is said, or ""."""
        return self._text

    @property
    def answers(self) -> tuple[str, ...]:
        """What the buttons say."""
        return tuple(answer.text for answer in self._answers)

    def show(self, text: str, *answers: Answer) -> None:
        """Say `text`. Nothing changes, and the focus stays, if it is said already; a click hides it before it acts."""
        said = (self._text, self.answers)
        self._answers = answers[: len(self._buttons)]
        if said == (text, self.answers):
            return
        self._text = text
        self._label.text = breakable(text)
        for number, button in enumerate(self._buttons):
            answer = self._answers[number] if number < len(self._answers) else None
            button.visible = answer is not None
            button.text = answer.text if answer is not None else ""
            button.toolTip = tooltip(answer.tip) if answer is not None else ""
        self._frame.visible = True

    def clear(self) -> None:
        self._answers = ()
        self._text = self._label.text = ""
        self._frame.visible = False

    def _clicked(self, number: int) -> None:
        if number < len(self._answers):
            act = self._answers[number].act
            self.clear()
            act()
