"""What a user drew: on which slices of a scan a result was corrected, or a new structure is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import DrawingError
from ..images.orientation import axis_codes
from ..translation import tr as _

#: What planes are called, and the directions across them.
PLANES = {"sagittal": "RL", "coronal": "AP", "axial": "SI"}
#: A structure that was drawn on some slices only is so many slices thick at most where it was drawn.
_THICKEST = 2
#: So many slices are corrected at once.
FEW = 3
#: The advice where only the plane is not clear.
CHOOSE_PLANE = _("Say in which plane it was drawn: axial, coronal or sagittal.")


@dataclass(frozen=True)
class Drawn:
    """Slices across `axis` (0..2: I, J, K). All of a `corrected` slice counts as drawn; `structures` are those drawn on
    some slices only, by label value. `also` is what was drawn at once in other planes."""

    axis: int = -1
    corrected: tuple[int, ...] = ()
    structures: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    also: tuple[Drawn, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `from_dict` reads it back."""
        structures = {str(value): list(slices) for value, slices in self.structures.items()}
        also = {"also": [one.to_dict() for one in self.also]} if self.also else {}
        return {"axis": self.axis, "corrected": list(self.corrected), "structures": structures, **also}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Drawn:
        """`ValueError`, `TypeError` or `KeyError` for what is not that."""
        structures = {int(value): _slices(slices) for value, slices in dict(data["structures"]).items()}
        axis = int(data["axis"])
        if not -1 <= axis <= 2:
            raise ValueError(f"there is no axis {axis}")
        also = tuple(cls.from_dict({**one, "also": ()}) for one in data.get("also", ()))
        return cls(axis, _slices(data["corrected"]), structures, also)


def axis_of_plane(plane: str, ijk_to_ras: np.ndarray) -> int:
    """Across which voxel axis (0..2) the slices of a plane ("axial") lie, or those across "I", "J" or "K"."""
    if plane.upper() in ("I", "J", "K"):
        return "IJK".index(plane.upper())
    directions = PLANES.get(plane.lower())
    if directions is None:
        raise DrawingError(
            _("{plane} is not a plane.").format(plane=repr(plane)), _("Choose axial, coronal or sagittal.")
        )
    return next(axis for axis, code in enumerate(axis_codes(ijk_to_ras)) if code in directions)


def plane_of(axis: int, ijk_to_ras: np.ndarray) -> str:
    """What the slices across a voxel axis are called, by the nearest plane."""
    code = axis_codes(ijk_to_ras)[axis]
    return next(plane for plane, directions in PLANES.items() if code in directions)


def find_drawn(
    now: np.ndarray,
    before: np.ndarray | None,
    names: Mapping[int, str],
    *,
    axis: int | None = None,
    earlier: Drawn | None = None,
) -> Drawn:
    """What was drawn in `now` (I, J, K), given the result `before` it was corrected, and what was drawn `earlier`.

    `DrawingError` if nothing was, or the plane is ambiguous and no `axis` is given.
    """
    earlier = earlier or Drawn()
    if axis is None and earlier.axis >= 0:
        axis = earlier.axis
    if axis != earlier.axis and (earlier.corrected or earlier.structures):
        raise _other_plane()
    sparse = {value: sparse_axes(now, before, value, axis) for value in names if value not in earlier.structures}
    sparse = {value: axes for value, axes in sparse.items() if axes}
    axis = _common_axis(sparse, names) if axis is None else axis
    structures: dict[int, tuple[int, ...]] = {}
    changed = np.zeros_like(now, bool) if before is None else now != before
    for value in sparse:
        changed &= (now != value) if before is None else (now != value) & (before != value)
    gone = [value for value in names if before is not None and not (now == value).any()]
    if before is not None and gone:
        # Nothing follows from a structure that was removed altogether; it stays so.
        changed &= (now != 0) | ~np.isin(before, gone)
    if axis is None and changed.any():
        axis = _flat_axis(changed)
    if axis is None:
        raise _nothing(now, names)
    for value in sparse:
        structures[value] = occupied(now == value, axis)
    if earlier.axis >= 0 and changed.any():
        counts = [len(occupied(changed, one)) for one in range(3)]
        if min(counts) <= FEW and 3 * min(counts) <= counts[axis]:
            raise _other_plane()
    there = range(now.shape[axis])
    for value in set(earlier.structures) - set(gone):
        touched = () if before is None else occupied((now == value) != (before == value), axis)
        structures[value] = _joined(set(earlier.structures[value]) & set(there), touched)
        changed &= (now != value) if before is None else (now != value) & (before != value)
    corrected = _joined(set(earlier.corrected) & set(there), occupied(changed, axis))
    if not corrected and not structures:
        raise _nothing(now, names)
    return Drawn(axis, corrected, structures)


def sparse_axes(now: np.ndarray, before: np.ndarray | None, value: int, axis: int | None) -> list[int]:
    """Across which axes a structure is drawn on some slices only; with a given `axis` any gap of a new one counts."""
    axes = range(3) if axis is None else (axis,)
    mask = now == value
    had = None if before is None else before == value
    if had is None or not had.any():
        return [one for one in axes if has_gaps(occupied(mask, one), any_thickness=axis is not None)]
    # A result may have gaps by itself, and a slice that was erased from it, or added beyond its end, is a correction.
    if any(has_gaps(occupied(had, one), any_thickness=axis is not None) for one in axes):
        return []
    return [one for one in axes if _is_redrawn(occupied(mask, one))]


def has_gaps(slices: Sequence[int], *, any_thickness: bool) -> bool:
    if len(slices) < 2 or slices[-1] - slices[0] + 1 == len(slices):
        return False
    runs = np.diff(np.flatnonzero(np.diff([-2, *slices, slices[-1] + 2]) > 1))
    return any_thickness or int(runs.max()) <= _THICKEST


def _is_redrawn(slices: Sequence[int]) -> bool:
    """Whether at least every second slice is left out between three or more."""
    left_out = slices[-1] - slices[0] + 1 - len(slices) if slices else 0
    return len(slices) > 2 and left_out >= len(slices) - 1 and has_gaps(slices, any_thickness=False)


def _common_axis(sparse: Mapping[int, Sequence[int]], names: Mapping[int, str]) -> int | None:
    """The one axis across which all of them have gaps; None if there are none."""
    if not sparse:
        return None
    common = set.intersection(*(set(axes) for axes in sparse.values()))
    if len(common) == 1:
        return common.pop()
    which = ", ".join(names[value] for value in sparse)
    text = _("It is not clear in which plane {which} was drawn: there are gaps in several.")
    raise DrawingError(text.format(which=which), CHOOSE_PLANE)


def _flat_axis(changed: np.ndarray) -> int:
    """Across which axis the changes touch fewest slices."""
    counts = [len(occupied(changed, axis)) for axis in range(3)]
    first, second = np.argsort(counts, kind="stable")[:2]
    if 3 * counts[first] > 2 * counts[second]:
        text = _(
            "It is not clear in which plane the corrections were drawn: they touch {size} slices along the three axes "
            "of the scan."
        )
        raise DrawingError(text.format(size=" x ".join(map(str, counts))), CHOOSE_PLANE)
    return int(first)


def _other_plane() -> DrawingError:
    """Slices of two planes cannot both be kept and followed."""
    return DrawingError(
        _("The slices that an update before followed from were drawn in another plane."),
        _("Draw in the same plane as before, and choose no other."),
    )


def _nothing(now: np.ndarray, names: Mapping[int, str]) -> DrawingError:
    if not any((now == value).any() for value in names):
        return DrawingError(_("Nothing is drawn."), _("Draw a structure on some slices, or correct a result, first."))
    return DrawingError(
        _(
            "There is nothing for the rest of the scan to follow from: no structure is drawn with slices left out, and "
            "no correction of a result is known."
        ),
        _(
            "Correct a slice of a result, or draw a structure on every fourth slice or so of one plane, from its first "
            "slice to its last."
        ),
    )


def occupied(mask: np.ndarray, axis: int) -> tuple[int, ...]:
    others = tuple(other for other in range(3) if other != axis)
    return tuple(int(index) for index in np.flatnonzero(mask.any(axis=others)))


def _joined(*parts: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted({index for part in parts for index in part}))


def _slices(found: Iterable[Any]) -> tuple[int, ...]:
    return _joined(int(index) for index in found)
