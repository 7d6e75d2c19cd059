"""What was drawn in several planes at once: the plane of each structure, and of each slice of a result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..errors import DrawingError
from ..translation import tr as _
from .drawn import FEW, Drawn, find_drawn, has_gaps, occupied, plane_of, sparse_axes

#: Of a slice that was drawn so much is inside an outline; of one that others only cross, next to nothing.
_INSIDE = 0.25


def find_all(
    now: np.ndarray,
    before: np.ndarray | None,
    names: Mapping[int, str],
    *,
    axis: int | None = None,
    earlier: Drawn | None = None,
) -> Drawn:
    """`find_drawn`, with what was drawn in other planes in `also`. With `axis` that plane comes first."""
    if earlier is not None and earlier.axis >= 0:
        return _since(now, before, names, axis, earlier)
    parts = _parts(now, before, names)
    if len(parts) < 2:
        return find_drawn(now, before, names, axis=axis)
    first, *others = sorted(parts.values(), key=lambda part: (part.axis != axis, -len(slices_of(part)), part.axis))
    return replace(first, also=tuple(others))


def _since(
    now: np.ndarray, before: np.ndarray | None, names: Mapping[int, str], axis: int | None, earlier: Drawn
) -> Drawn:
    """In one of the planes of before."""
    if before is not None and len(_parts(now, before, names)) > 1:
        raise DrawingError(
            _("Slices of several planes were drawn since the last update."),
            _("Undo those of one plane and update the scan; then draw them again."),
        )
    failed: DrawingError | None = None
    for one in (earlier, *earlier.also):
        turned = turned_to(one.axis, earlier)
        try:
            found = find_drawn(now, before, names, axis=axis, earlier=turned)
            return replace(found, also=turned.also)
        except DrawingError as error:
            failed = failed or error
    assert failed is not None
    raise failed


def turned_to(axis: int, drawn: Drawn) -> Drawn:
    """The same with the plane across `axis` first."""
    parts = sorted((drawn, *drawn.also), key=lambda one: one.axis != axis)
    first, *others = (replace(one, also=()) for one in parts)
    return replace(first, also=tuple(others))


def joined(parts: Sequence[Drawn]) -> Drawn | None:
    """Of several drawings of one scan, by plane; None if there are none."""
    found: dict[int, Drawn] = {}
    for part in parts:
        one = found.get(part.axis, Drawn(part.axis))
        corrected = tuple(sorted({*one.corrected, *part.corrected}))
        found[part.axis] = Drawn(part.axis, corrected, {**one.structures, **part.structures})
    return replace(next(iter(found.values())), also=tuple(found.values())[1:]) if found else None


def slices_of(drawn: Drawn) -> set[int]:
    """All in which anything of it was drawn."""
    return {*drawn.corrected, *(index for slices in drawn.structures.values() for index in slices)}


def unused(
    now: np.ndarray, before: np.ndarray | None, names: Mapping[int, str], drawn: Drawn, ijk_to_ras: np.ndarray
) -> Iterator[str]:
    """What a user should know of structures that are drawn on a slice from which nothing follows."""
    used = {value for part in (drawn, *drawn.also) for value in part.structures}
    for value in names if before is None else ():
        counts = [len(occupied(now == value, axis)) for axis in range(3)] if value not in used else [0]
        if 0 < 2 * min(counts) <= sorted(counts)[1] and min(counts) <= 2:
            plane = plane_of(int(np.argmin(counts)), ijk_to_ras)
            text = _(
                "{name} is drawn on {n} {plane} slice(s) only, from which nothing can follow: it stays as it is. Draw "
                "it on every fourth slice or so."
            )
            yield text.format(name=names[value], n=min(counts), plane=plane)


def _parts(now: np.ndarray, before: np.ndarray | None, names: Mapping[int, str]) -> dict[int, Drawn]:
    """By axis; {} where it is not clear."""
    changed = np.zeros_like(now, bool) if before is None else now != before
    structures: dict[int, dict[int, tuple[int, ...]]] = {}
    corrected: dict[int, set[int]] = {}
    for value in names:
        mask = now == value
        if before is not None and not mask.any():
            changed &= (now != 0) | (before != value)  # removed altogether
        axes = sparse_axes(now, before, value, None)
        is_new = mask.any() and (before is None or not (before == value).any())
        found = {axes[0]: occupied(mask, axes[0])} if len(axes) == 1 else {}
        if is_new and not axes:
            found = _crossing(mask)
        if not found:
            continue
        first, *others = sorted(found, key=lambda axis: -len(found[axis]))
        structures.setdefault(first, {})[value] = found[first]
        for axis in others:
            corrected.setdefault(axis, set()).update(found[axis])
        changed &= (now != value) if before is None else (now != value) & (before != value)
    for axis, slices in _cover(changed, structures).items():
        corrected.setdefault(axis, set()).update(slices)
    return {
        axis: Drawn(axis, tuple(sorted(corrected.get(axis, ()))), structures.get(axis, {}))
        for axis in {*structures, *corrected}
    }


def _crossing(mask: np.ndarray) -> dict[int, tuple[int, ...]]:
    """The slices of a structure that was drawn in two planes or three, by axis; {} if it was not."""
    padded = np.pad(mask, 1)
    shifted = [
        padded[
            tuple(
                slice(1 + step * (one == axis), 1 + step * (one == axis) + size) for one, size in enumerate(mask.shape)
            )
        ]
        for axis in range(3)
        for step in (-1, 1)
    ]
    beside = [shifted[2 * axis] & shifted[2 * axis + 1] for axis in range(3)]
    found: dict[int, tuple[int, ...]] = {}
    rest = mask.copy()
    for axis in range(3):
        one, two = (other for other in range(3) if other != axis)
        counts, inside = (layer.sum(axis=(one, two)) for layer in (mask, mask & beside[one] & beside[two]))
        slices = np.flatnonzero(inside > _INSIDE * np.maximum(counts, 1))
        if slices.size:
            found[axis] = tuple(slices.tolist())
            np.moveaxis(rest, axis, 0)[slices] = False
    if rest.any() and found:  # a slice where it is small
        axis = min(found, key=lambda one: len(occupied(rest, one)))
        found[axis] = tuple(sorted({*found[axis], *occupied(rest, axis)}))
    return found if len(found) > 1 and all(map(_is_some, found.values())) else {}


def _cover(changed: np.ndarray, structures: Mapping[int, object]) -> dict[int, tuple[int, ...]]:
    """The few slices of a result, by axis, in which it was corrected; where they are not few, those of any plane."""
    if not changed.any():
        return {}
    touched = [occupied(changed, axis) for axis in range(3)]
    flat = sorted(range(3), key=lambda axis: len(touched[axis]))
    if _is_some(touched[flat[0]]) and 3 * len(touched[flat[0]]) <= 2 * len(touched[flat[1]]):
        return {flat[0]: touched[flat[0]]}
    # A slice that was drawn holds many of the voxels that are not in those found already.
    rest, found = changed.copy(), dict[int, tuple[int, ...]]()
    for _slice in range(min(2 * FEW, len(touched[flat[0]]) // 2)):  # more would cover what a ball has drawn
        counts = [rest.sum(axis=tuple(other for other in range(3) if other != axis)) for axis in range(3)]
        axis = max(range(3), key=lambda one: int(counts[one].max()))
        index = int(counts[axis].argmax())
        found[axis] = tuple(sorted({*found.get(axis, ()), index}))
        np.moveaxis(rest, axis, 0)[index] = False
        if not rest.any():
            return found
    axis = next(iter(structures), -1)
    return {axis: touched[axis]} if axis >= 0 else {}


def _is_some(slices: Sequence[int]) -> bool:
    return len(slices) <= FEW or has_gaps(slices, any_thickness=False)
