"""What a user drew into a segmentation, as far as it can be told before anything follows from it."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import DrawingError


@dataclass(frozen=True)
class Understood:
    """Slices of a `plane` ("axial"): so many of a result were `corrected`, where structures called `names` changed, and
    `structures` (name, slices) were drawn on some slices only.

    `problem` says why the rest of the scan cannot follow; `is_ambiguous`: because the plane is not clear.
    `has_strokes`: whether anything was drawn that could grow.
    """

    plane: str = ""
    corrected: int = 0
    names: tuple[str, ...] = ()
    structures: tuple[tuple[str, int], ...] = ()
    problem: DrawingError | None = None
    is_ambiguous: bool = False
    has_strokes: bool = False
