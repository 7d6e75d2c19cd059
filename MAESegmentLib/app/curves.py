"""Learning curves as lines to draw: Dice on cases that are not trained on, and the loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..runs import Curves
from ..text import in_words
from ..translation import tr as _

Colour = tuple[int, ...]
#: With more labels, only the mean's past is drawn: lines that nobody can tell apart say nothing.
_MOST_DASHED = 3
_MEAN = "mean"
_BLACK: Colour = (40, 40, 40)
LOSS_COLOUR: Colour = (70, 110, 170)
#: Colours of labels that nobody gave one.
_SPARE: tuple[Colour, ...] = ((200, 90, 60), (60, 140, 90), (110, 90, 180), (190, 150, 40), (40, 150, 170))


@dataclass(frozen=True)
class Line:
    """One curve: `values` at the steps of its chart; NaN where there is none."""

    name: str
    values: tuple[float, ...]
    colour: Colour
    width: float = 2.0
    is_dashed: bool = False
    has_points: bool = False


def dice_lines(curves: Curves, colours: Mapping[str, Colour], last_step: int) -> tuple[tuple[int, ...], list[Line]]:
    """(steps, curves): every label and the mean, from what the base could do (step 0); that also dashed, all along."""
    if not curves.dice:
        return (), []
    before = curves.before or {}
    steps = (0, *(step for step, _values in curves.dice), max(last_step, curves.dice[-1][0]))
    names = list(dict.fromkeys(name for _step, values in curves.dice for name in values if name != _MEAN))
    lines = []
    for name, colour in [*((name, colour_of(name, names, colours)) for name in names), (_MEAN, _BLACK)]:
        if name == _MEAN and len(names) == 1:
            continue  # the same curve
        values = (before.get(name, math.nan), *(row.get(name, math.nan) for _step, row in curves.dice), math.nan)
        lines.append(Line(in_words(name), values, colour, 3.0 if name == _MEAN else 1.5, has_points=True))
        if name in before and (name == _MEAN or len(names) <= _MOST_DASHED):
            text = _("{label} before").format(label=in_words(name))
            lines.append(Line(text, (before[name],) * len(steps), colour, 1.0, is_dashed=True))
    return steps, lines


def colour_of(name: str, names: Sequence[str], colours: Mapping[str, Colour]) -> Colour:
    return colours.get(name) or _SPARE[list(names).index(name) % len(_SPARE)]


def loss_lines(curves: Curves, last_step: int) -> tuple[tuple[int, ...], list[Line]]:
    """(steps, curves), with a row without a value at the end: VTK complains about a line of one row."""
    at = (*(step for step, _value in curves.loss), last_step)
    values = (*(value for _step, value in curves.loss), math.nan)
    return at, [Line("loss", values, LOSS_COLOUR)] if curves.loss else []


def range_of(lines: Sequence[Line]) -> tuple[float, float]:
    """Of all curves, with room around them; at least 0.1, so that little does not look like much."""
    values = [value for line in lines for value in line.values if math.isfinite(value)]
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = max(0.08 * (high - low), (0.1 - (high - low)) / 2, 0.01)
    return max(0.0, low - room), high + room
