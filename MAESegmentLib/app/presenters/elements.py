"""What a panel is made of, as plain values that a view of any toolkit can draw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...errors import MAESegmentError, refusal_by_system


@dataclass(frozen=True)
class Control:
    """A button or a field: `tip` says what it does, or why it cannot be used."""

    text: str
    tip: str = ""
    is_enabled: bool = True

    @classmethod
    def unless(cls, reason: str, text: str, tip: str) -> Control:
        """Enabled unless there is a reason why not, which then is the tip."""
        return cls(text, reason or tip, not reason)


@dataclass(frozen=True)
class Option:
    """One of several that may be chosen; the view hands `key` back."""

    key: str
    text: str
    tip: str = ""


@dataclass(frozen=True)
class Question:
    """A sentence with the buttons under it, the recommended one first."""

    text: str = ""
    options: tuple[Option, ...] = ()


@dataclass(frozen=True)
class Message(Question):
    """What the message bar shows. `kind` is info, success, warning or error."""

    kind: str = "info"


def attempt(act: Callable[[], object], failed: Callable[[MAESegmentError], None]) -> bool:
    """Call `act`; True if it worked. An expected error goes to `failed`, as does a refusal by the operating system."""
    try:
        act()
    except MAESegmentError as error:
        failed(error)
    except OSError as error:
        failed(refusal_by_system(error) or MAESegmentError(str(error)))
    else:
        return True
    return False
