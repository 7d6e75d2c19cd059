"""Learning curves as a picture for the page: no script, no library, every text escaped."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence

from ...app.curves import Colour, Line, dice_lines, loss_lines, range_of
from ...runs import Curves

_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 346, 36, 8, 18, 20


def curves_svg(curves: Curves, steps: int, colours: Mapping[str, Colour]) -> str:
    """Dice on cases that are not trained on above, the loss below; "" as long as there is nothing to draw."""
    at, dice = dice_lines(curves, colours, steps)
    loss_at, loss = loss_lines(curves, steps)
    charts = []
    if dice:
        charts.append(_chart("Dice (dashed: before)", at, dice, max(steps, *at, 1), 150))
    if loss:
        charts.append(_chart("Loss", loss_at, loss, max(*loss_at, 1), 110))
    return "".join(charts)


def _chart(title: str, steps: Sequence[int], lines: Sequence[Line], last_step: int, height: int) -> str:
    low, high = range_of(lines)

    def x(step: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * step / last_step

    def y(value: float) -> float:
        return height - _BOTTOM - (height - _TOP - _BOTTOM) * (value - low) / (high - low)

    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {height}" width="100%" role="img" aria-label="{html.escape(title)}" '
        'style="font: 11px sans-serif; display: block">',
        f'<text x="{_LEFT}" y="12" font-weight="600">{html.escape(title)}</text>',
        f'<path d="M{_LEFT} {_TOP}V{height - _BOTTOM}H{_WIDTH - _RIGHT}" fill="none" stroke="#777"/>',
    ]
    parts += [
        f'<text x="{_LEFT - 4}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.2f}</text>'
        for value in (low, (low + high) / 2, high)
    ]
    for step in (0, last_step):
        anchor = "start" if step == 0 else "end"
        parts.append(f'<text x="{x(step):.1f}" y="{height - 6}" text-anchor="{anchor}">{step}</text>')
    parts += [_line(line, steps, x, y) for line in lines]
    return "".join([*parts, "</svg>"])


def _line(line: Line, steps: Sequence[int], x: Callable[[float], float], y: Callable[[float], float]) -> str:
    points = [(x(step), y(value)) for step, value in zip(steps, line.values, strict=True) if math.isfinite(value)]
    colour = "rgb({},{},{})".format(*line.colour[:3])
    dash = ' stroke-dasharray="5 4"' if line.is_dashed else ""
    path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
    drawn = f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{line.width}"{dash}/>'
    if line.has_points:
        drawn += "".join(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="2.5" fill="{colour}"/>' for px, py in points)
    return f"<g><title>{html.escape(line.name)}</title>{drawn}</g>"
