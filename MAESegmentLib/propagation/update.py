"""The rest of a scan follows from what was drawn on some of its slices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any

import numpy as np

from ..errors import Cancelled, DeviceMemoryError
from ..images.labels import is_background
from ..images.limits import memory_problem
from ..images.volume import Grid, LabelMap, Volume
from ..translation import tr as _
from .drawn import Drawn, plane_of
from .interpolation import fill_between
from .planes import find_all, slices_of, turned_to, unused
from .reasons import CORRECTION, INTERPOLATION, REFINED, why
from .refining import BAND_MM, Block, GreyValues, Refinement, block_about, fits, learn
from .spreading import follow_corrections

Report = Callable[[float], None]


@dataclass(frozen=True)
class Followed:
    """How the rest of one structure was made: by which `method` from which slices; `dice` as `reasons.why` has it."""

    value: int
    name: str
    slices: tuple[int, ...]
    method: str
    changed_voxels: int
    dice: tuple[float, float] | None = None
    #: What the slices are called ("axial").
    plane: str = ""

    @property
    def why(self) -> str:
        return why(self.method, self.dice)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "why": self.why}


@dataclass(frozen=True, eq=False)
class Updated:
    """`label_map` has what was drawn exactly as it was. `plane` is what the slices are called ("axial"), of several
    planes those of the first; `notes` say what could not be used."""

    label_map: LabelMap
    drawn: Drawn
    plane: str
    followed: tuple[Followed, ...]
    notes: tuple[str, ...] = ()


def update_scan(
    now: LabelMap,
    before: np.ndarray | None,
    names: Mapping[int, str],
    *,
    volume: Volume | None = None,
    within: Block | None = None,
    axis: int | None = None,
    earlier: Drawn | None = None,
    report: Report = lambda _fraction: None,
    should_cancel: Callable[[], bool] = lambda: False,
) -> Updated:
    """`now` is what the user left, `before` the result (I, J, K) that it was corrected from; `names` by label value.

    A structure that is drawn on some slices only is filled between them, by the grey values of `volume`, too, where
    that foretells drawn slices better; corrections of a result are carried over to the slices beside. Nothing changes
    outside the block `within`. `DrawingError` if there is nothing to follow from.
    """
    check_memory(now.grid)
    notes = []
    if hidden := [value for value, name in names.items() if is_background(name)]:
        names = {value: name for value, name in names.items() if value not in hidden}
        now = LabelMap(np.where(np.isin(now.array, hidden), 0, now.array), now.ijk_to_ras)
        before = None if before is None else np.where(np.isin(before, hidden), 0, before)
        notes.append(_("The background is no structure: it was left out."))
    drawn = find_all(now.array, before, names, axis=axis, earlier=earlier)
    earlier = turned_to(drawn.axis, earlier or Drawn())
    outside = np.zeros_like(now.array, bool)
    if within is not None:
        outside[...] = True
        outside[within] = False
    result, followed = now.array, []
    # What was drawn in another plane before is only kept.
    parts = (drawn, *(drawn.also if earlier.axis < 0 else ()))
    for number, part in enumerate(parts):
        labels, was, right = now.array, before, outside | _whole(now.array, earlier.also)
        if len(parts) > 1:
            labels, was, right = _alone(now.array, result if number else before, parts, number)
        result = np.array(labels)
        kept = _kept(labels, was, part, earlier) | outside
        refined: dict[int, Refinement] = {}
        steps = _steps(LabelMap(labels, now.ijk_to_ras), was, part, result, (kept, right), volume, refined)
        for done in chain(steps, [1.0]):  # also after the last one
            if should_cancel():
                raise Cancelled()
            report((number + min(done, 1.0)) / len(parts))
        plane = plane_of(part.axis, now.ijk_to_ras)
        followed += [replace(one, plane=plane) for one in _followed(labels, result, part, names, was, refined)]
    if len(parts) > 1:
        drawn_by_hand = outside | (now.array != (0 if before is None else before))
        result[drawn_by_hand] = now.array[drawn_by_hand]
    notes += unused(now.array, before, names, drawn, now.ijk_to_ras)
    notes += _covered(result, parts, names) if within is None else ()
    plane = plane_of(drawn.axis, now.ijk_to_ras)
    return Updated(LabelMap(result, now.ijk_to_ras), drawn, plane, tuple(followed), tuple(notes))


def _alone(
    now: np.ndarray, result: np.ndarray | None, parts: Sequence[Drawn], number: int
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """What was drawn in one of several planes, on what followed from those before, that, and what is right already.

    So a slice corrects what followed from other planes, and nothing is moved twice.
    """
    part = parts[number]
    known = {value for one in parts for value in one.structures}
    labels = np.where(np.isin(now, [*known]), 0, now) if result is None else np.array(result)
    right = np.zeros_like(now, bool)
    for one in parts[:number]:
        np.moveaxis(right, one.axis, 0)[list(one.corrected)] = True
        for value, slices in one.structures.items():
            np.moveaxis(right, one.axis, 0)[list(slices)] |= np.moveaxis(now, one.axis, 0)[list(slices)] == value
    planes, drawn, done = (np.moveaxis(one, part.axis, 0) for one in (labels, now, _lines(now, parts, number)))
    for index in part.corrected:
        # Other planes' structures only cross this slice, unless they were drawn on it.
        crossing = [value for value in known if not ((drawn[index] == value) & ~done[index]).any()]
        own = ~np.isin(drawn[index], crossing) & ~(np.isin(planes[index], crossing) & (drawn[index] == 0))
        planes[index][own] = drawn[index][own]
    for value, slices in part.structures.items():
        for index in slices:
            planes[index][drawn[index] == value] = value
    return labels, result, right


def _lines(now: np.ndarray, parts: Sequence[Drawn], number: int) -> np.ndarray:
    """Voxels of slices in which a structure was drawn in the other planes."""
    lines = np.zeros_like(now, bool)
    for one in (*parts[:number], *parts[number + 1 :]):
        planes, labels = np.moveaxis(lines, one.axis, 0), np.moveaxis(now, one.axis, 0)
        for value, slices in one.structures.items():
            planes[list(slices)] |= labels[list(slices)] == value
    return lines


def check_memory(grid: Grid) -> None:
    """Raise before memory is taken that is not there: for two label maps and three masks."""
    if problem := memory_problem(7 * int(np.prod(grid.shape, dtype=np.int64))):
        raise DeviceMemoryError(
            _("The scan is too large to be updated on this computer: {problem}.").format(problem=problem),
            _("Close other programs, or crop the scan."),
        )


def _kept(now: np.ndarray, before: np.ndarray | None, drawn: Drawn, earlier: Drawn) -> np.ndarray:
    """Voxels that are the user's: they stay, whatever follows."""
    kept = np.zeros_like(now, bool) if before is None else now != before
    planes, labels = np.moveaxis(kept, drawn.axis, 0), np.moveaxis(now, drawn.axis, 0)
    # What was drawn on them then cannot be told any more; structures that are drawn on others still go through them.
    once = [index for index in drawn.corrected if index in set(earlier.corrected)]
    planes[once] |= labels[once] != 0
    for one in earlier.also:
        others, there = np.moveaxis(kept, one.axis, 0), np.moveaxis(now, one.axis, 0)
        for index in slices_of(one) & set(range(len(there))):
            others[index] |= there[index] != 0
    for value, slices in drawn.structures.items():
        inside = [index for index in range(slices[0], slices[-1]) if index not in set(slices)] if slices else []
        # What was made of it by an update before, or by the model where it was drawn anew, is made again.
        planes[inside] &= labels[inside] != value
        if before is not None:
            planes[inside] &= (labels[inside] != 0) | (np.moveaxis(before, drawn.axis, 0)[inside] != value)
        planes[list(slices)] |= labels[list(slices)] == value
    return kept


def _whole(now: np.ndarray, parts: Sequence[Drawn]) -> np.ndarray:
    """Voxels of slices that were corrected in other planes before, what is nothing there, too."""
    whole = np.zeros_like(now, bool)
    for one in parts:
        planes = np.moveaxis(whole, one.axis, 0)
        planes[[index for index in one.corrected if index < len(planes)]] = True
    return whole


def _steps(
    now: LabelMap,
    before: np.ndarray | None,
    drawn: Drawn,
    result: np.ndarray,
    closed: tuple[np.ndarray, np.ndarray],
    volume: Volume | None,
    refined: dict[int, Refinement],
) -> Iterator[float]:
    """`closed`: what stays, and what also does where only structures go through that are drawn on some slices."""
    kept, right = closed
    spacing = [float(mm) for mm in now.grid.spacing]
    if drawn.corrected and before is not None:
        for share in follow_corrections(now.array, before, drawn, result, kept | right, spacing):
            yield share / (2 if drawn.structures else 1)
    if not drawn.structures:
        return
    plane_spacing = [mm for other, mm in enumerate(spacing) if other != drawn.axis]
    grey = _grey_values(now.array, drawn, volume, plane_spacing)
    if grey is not None:
        for _step in grey.steps():
            yield 0.5
        for value, slices in drawn.structures.items():
            found = learn(np.moveaxis(now.array, drawn.axis, 0), value, slices, grey, plane_spacing)
            if found is not None:
                refined[value] = found
            yield 0.5
    for share in _fill(now.array, before, drawn, result, kept, spacing, grey, refined):
        yield 0.5 + share / 2


def _grey_values(now: np.ndarray, drawn: Drawn, volume: Volume | None, spacing: list[float]) -> GreyValues | None:
    """None without a scan, or without the memory for it."""
    if volume is None:
        return None
    rim = [int(np.ceil((BAND_MM + 2) / mm)) for mm in spacing]
    block = block_about(np.moveaxis(now, drawn.axis, 0), rim, drawn.structures)
    if not fits(len(volume.array), block):
        return None
    return GreyValues(np.moveaxis(volume.array, drawn.axis + 1, 1), block)


def _fill(
    now: np.ndarray,
    before: np.ndarray | None,
    drawn: Drawn,
    result: np.ndarray,
    kept: np.ndarray,
    spacing: list[float],
    grey: GreyValues | None,
    refined: Mapping[int, Refinement],
) -> Iterator[float]:
    planes, closed = (np.moveaxis(array, drawn.axis, 0) for array in (result, kept))
    yields = _yielding(now, before, drawn)
    last = max(slices[-1] for slices in drawn.structures.values() if slices)
    for index, depths in fill_between(now, drawn.axis, drawn.structures, spacing):
        plane, values = planes[index], np.array(sorted(depths))
        for value in values:
            if grey is not None and value in refined:
                part = grey.block[1:]
                depths[value][part] = refined[value].moved(depths[value][part], grey.of(index))
        stack = np.stack([depths[value] for value in values])
        plane[np.isin(plane, values) & ~closed[index]] = 0
        free = ~closed[index] & (stack.max(axis=0) > 0)
        winner = values[stack.argmax(axis=0)]
        # Over another structure only if it was drawn over that, too.
        for other in np.unique(plane[free]):
            over = [value for value in values if other == 0 or (value, other) in yields]
            chosen = free & (plane == other) & np.isin(winner, over)
            plane[chosen] = winner[chosen]
        yield index / max(1, last)


def _yielding(now: np.ndarray, before: np.ndarray | None, drawn: Drawn) -> set[tuple[int, int]]:
    """(structure, other): where the first was drawn over what a model had said was the other."""
    found: set[tuple[int, int]] = set()
    if before is None:
        return found
    labels, results = np.moveaxis(now, drawn.axis, 0), np.moveaxis(before, drawn.axis, 0)
    for value, slices in drawn.structures.items():
        for index in slices:
            others = np.unique(results[index][labels[index] == value])
            found |= {(value, int(other)) for other in others if other not in (0, value)}
    return found


def _covered(result: np.ndarray, parts: Sequence[Drawn], names: Mapping[int, str]) -> Iterator[str]:
    """What a user should know of structures that have nothing between the slices they were drawn on."""
    for part in parts:
        planes = np.moveaxis(result, part.axis, 0)
        for value, slices in part.structures.items():
            between = sorted({*range(slices[0], slices[-1])} - {*slices}) if slices else []
            if between and not (planes[between] == value).any():
                text = _(
                    "Nothing of {name} follows between its slices, where other structures are: draw those on the same "
                    "slices, so that it shows which is inside."
                )
                yield text.format(name=names[value])


def _followed(
    now: np.ndarray,
    result: np.ndarray,
    drawn: Drawn,
    names: Mapping[int, str],
    before: np.ndarray | None,
    refined: Mapping[int, Refinement],
) -> Iterator[Followed]:
    for value, name in names.items():
        slices = drawn.structures.get(value)
        if slices is not None:
            method = REFINED if value in refined else INTERPOLATION
        else:
            method, slices = CORRECTION, drawn.corrected if before is not None else ()
        changed = int(np.count_nonzero((now == value) != (result == value)))
        if slices and (changed or method is not CORRECTION):
            yield Followed(value, name, slices, method, changed, refined[value].dice if value in refined else None)
