"""How the rest of a structure was made, and why so, in the user's words."""

from __future__ import annotations

from collections.abc import Sequence

from ..translation import tr as _

#: What the slices between were made by.
INTERPOLATION, REFINED, CORRECTION = "interpolation", "interpolation and grey values", "correction"


def why(method: str, dice: Sequence[float] | None = None) -> str:
    """`dice` (REFINED): of drawn slices that were not learnt from, with grey values and by outlines alone."""
    if method == CORRECTION:
        return _("what was corrected on the slice was carried over to its neighbours, less with every slice")
    if method == INTERPOLATION or dice is None:
        return _("its outline was interpolated between the drawn slices")
    text = _(
        "its outline was interpolated between the drawn slices and moved to where grey values change as on those "
        "(drawn slices that it did not see: Dice {with_it:.2f}, {alone:.2f} by outlines alone)"
    )
    return text.format(with_it=dice[0], alone=dice[1])
