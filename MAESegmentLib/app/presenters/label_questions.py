"""What is asked about each segment before it is stored: which label it is, or whether an empty one is absent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...cases.mapping import LabelMatch
from ...text import in_words
from ...translation import tr as _
from .elements import Option

#: Answers that are no label; those that are begin with `_LABEL`.
OPEN, NEW, LEFT_OUT, NOT_ANNOTATED, ABSENT = "", "new", "left out", "not annotated", "absent"
_LABEL = "label:"


@dataclass(frozen=True)
class LabelQuestion:
    """Which label a segment is, or whether an empty label (`is_empty`) is absent; `answer` is an option's key."""

    name: str
    options: tuple[Option, ...]
    answer: str
    is_empty: bool = False
    tip: str = ""

    @property
    def title(self) -> str:
        return _("{label} (empty)").format(label=in_words(self.name)) if self.is_empty else self.name

    @property
    def label(self) -> str | None:
        """What the segment is stored as; None: it is not."""
        if self.answer == NEW:
            return self.name
        return self.answer.removeprefix(_LABEL) if self.answer.startswith(_LABEL) else None


def segment_question(match: LabelMatch, labels: Sequence[str]) -> LabelQuestion:
    is_open = match.label is None and match.kind != "left out"
    options = [Option(OPEN, _("Choose..."))] if is_open else []
    options += [Option(_LABEL + label, in_words(label)) for label in labels]
    if match.segment not in labels:
        tip = _("The model learns it as a further structure. Rename the segment first for another name.")
        options.append(Option(NEW, _("New label: {name}").format(name=match.segment), tip))
    options.append(Option(LEFT_OUT, _("Leave out (not annotated)")))
    answer = OPEN if is_open else LEFT_OUT if match.label is None else _LABEL + match.label
    tip = _("Which of the labels this segment is. It is remembered for segments of this name.")
    return LabelQuestion(match.segment, tuple(options), answer, tip=tip)


def empty_question(label: str) -> LabelQuestion:
    tip = _("Nothing is drawn as {label}. If it was looked for and is not there, the model may learn that.")
    options = (Option(NOT_ANNOTATED, _("Not annotated")), Option(ABSENT, _("Not in this scan")))
    return LabelQuestion(label, options, NOT_ANNOTATED, is_empty=True, tip=tip.format(label=in_words(label)))
