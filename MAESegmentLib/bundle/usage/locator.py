"""Which other model places the boxes of one that is made for a box, and what its structures are called on each side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...errors import ConfigurationError
from ...images.labels import Code, Label, loose_name
from ...values import Stored
from ..plain_text import name_problem

#: Of a spec's `inference`: `Locator.to_dict()`. Models of versions before have none.
KEY = "locator"
LEFT, RIGHT = "left", "right"
_MODIFIERS = {LEFT: Code("SCT", "7771000", "Left"), RIGHT: Code("SCT", "24028007", "Right")}
_MOST_STRUCTURES = 64


@dataclass(frozen=True)
class PlacedBox(Stored):
    """A box around the largest piece of `structures`, by their names in the locator; `side` is "left", "right" or "",
    where the model's own names stay."""

    structures: tuple[str, ...]
    side: str = ""


@dataclass(frozen=True)
class Locator(Stored):
    """`model` is another model's name. A box reaches `margin_mm` beyond what it is placed around; what is smaller than
    `smallest_ml` counts as not found. `naming` makes a label's name of {side} and {label}, the model's own name.
    `largest_mm` is the size of what the model was made for, along the axes of its orientation, by default that of its
    training scans: a model that is fine-tuned on whole scans is still one for a box."""

    model: str
    boxes: tuple[PlacedBox, ...]
    margin_mm: float = 6.0
    smallest_ml: float = 0.5
    naming: str = "{side} {label}"
    largest_mm: tuple[float, float, float] | None = None

    def labels(self, box: PlacedBox, own: Sequence[Label]) -> tuple[Label, ...]:
        """What the model's `own` labels are in a box, one for each. No two of a model have a value or name in common,
        its own among them: what a value means does not depend on how a scan was segmented."""
        if not box.side:
            return tuple(own)
        step = (1 + self.boxes.index(box)) * max(label.value for label in own)
        return tuple(
            replace(
                label,
                value=label.value + step,
                name=self.naming.replace("{side}", box.side).replace("{label}", label.name),
                colour=_darker(label.colour) if box.side == RIGHT else label.colour,
                terminology=replace(label.terminology, modifier=_MODIFIERS[box.side]),
            )
            for label in own
        )

    def all_labels(self, own: Sequence[Label]) -> tuple[Label, ...]:
        """Of all boxes."""
        return tuple(label for box in self.boxes for label in self.labels(box, own))

    def pairs(self, own: Sequence[Label]) -> tuple[tuple[Label, Label], ...]:
        """Each label of a box that has a side, and the model's own that it is."""
        boxes = (box for box in self.boxes if box.side)
        return tuple(pair for box in boxes for pair in zip(self.labels(box, own), own, strict=True))


def locator_of(inference: Mapping[str, Any], own: Sequence[Label]) -> Locator | None:
    """From a spec's `inference`, of a model with the labels `own`; `ConfigurationError` for what is none."""
    stored = inference.get(KEY)
    if stored is None:
        return None
    try:
        found = Locator.from_dict(stored)
    except ValueError as error:
        raise ConfigurationError(f"{str(error)[:200]}.") from None
    _check(found)
    if not own:
        raise ConfigurationError("The model has no labels.")
    names = [label.name for label in own] if any(box.side for box in found.boxes) else []
    for label in found.all_labels(own):  # a `Label` checks its value
        if name_problem(label.name):
            raise ConfigurationError(f"The name {label.name[:80]!r} {name_problem(label.name)}.")
        names.append(label.name)
    if len({loose_name(name) for name in names}) < len(names):
        raise ConfigurationError("Two of its labels have one name.")
    return found


def _darker(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """So that the sides can be told apart in 3D."""
    red, green, blue = colour
    return round(0.7 * red), round(0.7 * green), round(0.7 * blue)


def _check(locator: Locator) -> None:
    if name_problem(locator.model) or not locator.model.strip():
        raise ConfigurationError("It names no model.")
    if not locator.boxes:
        raise ConfigurationError("It places no box.")
    for box in locator.boxes:
        if box.side not in ("", *_MODIFIERS):
            raise ConfigurationError(f"The side {box.side[:40]!r} is neither {LEFT!r} nor {RIGHT!r}.")
        if not 1 <= len(box.structures) <= _MOST_STRUCTURES or any(map(name_problem, box.structures)):
            raise ConfigurationError("A box names no structures.")
    sides = [box.side for box in locator.boxes]
    if len(set(sides)) < len(sides):
        raise ConfigurationError("Two boxes are of one side.")
    if not 0 <= locator.margin_mm <= 1000 or not 0 <= locator.smallest_ml <= 1e6:
        raise ConfigurationError("Its margin or its smallest volume is not a number from 0.")
    if locator.largest_mm is not None and not all(0 < length <= 1e4 for length in locator.largest_mm):
        raise ConfigurationError("Its largest size is not three lengths.")
    if name_problem(locator.naming) or "{side}" not in locator.naming or "{label}" not in locator.naming:
        raise ConfigurationError("Its naming does not have {side} and {label}.")
