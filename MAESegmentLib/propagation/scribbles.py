"""Scribbles become structures without training: a random walker in a box about them, a model or result its prior."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from ..errors import Cancelled, DrawingError
from ..images.labels import is_background
from ..images.limits import memory_problem
from ..images.volume import LabelMap, Volume
from ..translation import tr as _
from .drawn import Drawn
from .interpolation import signed_distance
from .planes import slices_of

Block = tuple[slice, slice, slice]
#: mm about the scribbles that may change.
RIM_MM = 15.0
#: Of the box. More takes long, and a random walker does not reach so far.
MOST_VOXELS = 4_000_000
#: How much less a neighbour of other grey values counts, how much a model or result counts, and how soft an outline is
#: (mm). Judging voxels by the scribbled grey values as well was tried: it made outlines worse.
_EDGES, _PRIOR, _SOFT_MM = 3.0, 0.02, 2.0
_NOTHING = np.zeros(1)
_ITERATIONS, _TOLERANCE = 300, 1e-2


@dataclass(frozen=True, eq=False)
class Grown:
    """`label_map` has every scribbled voxel as it was drawn, but for those of a background; only voxels in `box`
    (I, J, K) differ from before."""

    label_map: LabelMap
    box: Block
    values: tuple[int, ...]
    #: The slices that were drawn before, but for those that were scribbled on.
    drawn: Drawn | None = None


def grow_scribbles(
    volume: Volume,
    now: LabelMap,
    before: np.ndarray | None,
    names: Mapping[int, str],
    *,
    within: Block | None = None,
    prior: Callable[[Block], Mapping[int, np.ndarray]] | None = None,
    earlier: Drawn | None = None,
    should_cancel: Callable[[], bool] = lambda: False,
) -> Grown:
    """`now` holds the scribbles: where it differs from the result `before` (I, J, K), or all that is drawn in it.

    `within` is where they may grow. `prior` gives a model's probabilities in a box by label value (0: background).
    Without it the outlines of `before` count. What was drawn `earlier` stays on slices that are not scribbled on. A
    structure called "background" is what none of the others is to be.
    """
    outside = {value for value, name in names.items() if is_background(name)}
    seeded = (now.array != 0) if before is None else now.array != before
    if not seeded.any():
        raise DrawingError(
            _("There are no scribbles."), _("Draw into the structure, and with another segment beside it.")
        )
    box = _box(seeded, now, within)
    seeds = np.where(seeded[box], now.array[box], 0).astype(np.int64)
    seeds[np.isin(seeds, list(outside))] = 0
    is_seed = seeded[box]
    there = () if before is None else np.unique(before[box]).tolist()
    values = sorted({0, *np.unique(seeds[is_seed]).tolist(), *there})
    spacing = [float(mm) for mm in now.grid.spacing]
    if len(values) < 2:
        raise DrawingError(_("Only background is scribbled."), _("Draw into the structure, too, with its own segment."))
    shares = dict(prior(box)) if prior is not None else _outlines(before, box, values, spacing)
    fresh = [value for value in np.unique(seeds[is_seed]) if value and not shares.get(value, _NOTHING).any()]
    if fresh:
        # What is scribbled is new: nothing is known of it, and what is known of the rest stays.
        shares = {}
        if before is not None:
            seeds = np.where(is_seed, seeds, before[box])
            is_seed = is_seed | (before[box] != 0)
    if not (shares or (seeds[is_seed] == 0).any()):
        is_seed = is_seed | (_border(is_seed.shape) & (seeds == 0))  # nothing else says where it ends
    chosen = _walk(volume.array[(slice(None), *box)], seeds, is_seed, values, shares, spacing, should_cancel)
    if fresh and before is not None:
        chosen = np.where((before[box] == 0) & ~np.isin(chosen, fresh), 0, chosen)
    if should_cancel():
        raise Cancelled()
    result = np.array(now.array if before is None else before)
    result[box] = chosen
    result[seeded] = now.array[seeded]
    result[np.isin(result, list(outside))] = 0
    drawn = None if earlier is None else _returned(result, now.array, seeded, earlier, fresh)
    return Grown(LabelMap(result, now.ijk_to_ras), box, tuple(value for value in values if value), drawn)


def _returned(
    result: np.ndarray, now: np.ndarray, seeded: np.ndarray, earlier: Drawn, fresh: Sequence[int]
) -> Drawn | None:
    """Put back what was drawn earlier; what is scribbled for the first time may go through those slices."""
    parts: list[Drawn] = []
    for one in (earlier, *earlier.also) if earlier.axis >= 0 else ():
        planes, labels, strokes = (np.moveaxis(array, one.axis, 0) for array in (result, now, seeded))
        left = {index for index in range(len(planes)) if not strokes[index].any()}
        for index in left & set(one.corrected):
            moved = (labels[index] != 0) | ~np.isin(planes[index], fresh)
            planes[index][moved] = labels[index][moved]
        for value, slices in one.structures.items():
            for index in left & set(slices):
                moved = (planes[index] == value) != (labels[index] == value)
                planes[index][moved] = labels[index][moved]
        # A structure is no longer what lies between its slices: they are corrected slices of a result now.
        if still := left & slices_of(one):
            parts.append(Drawn(one.axis, tuple(sorted(still))))
    return replace(parts[0], also=tuple(parts[1:])) if parts else None


def _box(seeded: np.ndarray, now: LabelMap, within: Block | None) -> Block:
    parts = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        found = np.flatnonzero(seeded.any(axis=others))
        rim = int(np.ceil(RIM_MM / now.grid.spacing[axis]))
        low, high = max(0, int(found[0]) - rim), min(seeded.shape[axis], int(found[-1]) + 1 + rim)
        if within is not None:
            low, high = max(low, within[axis].start), min(high, within[axis].stop)
        if high - low < 1:
            raise DrawingError(_("The scribbles lie outside the box."), _("Move the box over them, or leave it out."))
        parts.append(slice(low, high))
    size = [part.stop - part.start for part in parts]
    voxels = int(np.prod(size))
    by = " x ".join(map(str, size))
    if voxels > MOST_VOXELS or memory_problem(200 * voxels):
        text = _("The scribbles spread over {size} = {voxels:,} voxels; at most {most:,} are grown at once.")
        raise DrawingError(
            text.format(size=by, voxels=voxels, most=MOST_VOXELS), _("Give a smaller box, and grow part after part.")
        )
    i, j, k = parts
    return i, j, k


def _outlines(
    before: np.ndarray | None, box: Block, values: Sequence[int], spacing: Sequence[float]
) -> dict[int, np.ndarray]:
    """How likely each label is by a result alone: less certain near its outlines."""
    if before is None:
        return {}
    had = [value for value in values if (before[box] == value).any()]
    scores = np.stack([signed_distance(before[box] == value, spacing) / _SOFT_MM for value in had])
    scores = np.exp(scores - scores.max(axis=0))
    return dict(zip(had, scores / scores.sum(axis=0), strict=True))


def _border(shape: tuple[int, ...]) -> np.ndarray:
    border = np.ones(shape, bool)
    border[tuple(slice(1, -1) if size > 2 else slice(None) for size in shape)] = False
    return border


def _walk(
    image: np.ndarray,
    seeds: np.ndarray,
    is_seed: np.ndarray,
    values: Sequence[int],
    shares: Mapping[int, np.ndarray],
    spacing: Sequence[float],
    should_cancel: Callable[[], bool],
) -> np.ndarray:
    """The label of each voxel whose seed a random walker from there meets first, or where it ends by the prior."""
    image = ndimage.gaussian_filter(np.asarray(image, np.float32), (0, 0.7, 0.7, 0.7))
    links = _links(image, spacing)
    free = (~is_seed).astype(np.float32)
    # Background is what is left of 1.
    known = np.stack([(seeds == value) & is_seed for value in values[1:]]).astype(np.float32)
    prior = np.zeros_like(known)
    for number, value in enumerate(values[1:]):
        if value in shares:
            prior[number] = np.asarray(shares[value], np.float32) * np.float32(_PRIOR)
    total = (_PRIOR if shares else 0.0) + _neighbours(np.ones_like(known[:1]), links)[0]

    # (D + P - W) x = p + W s on the free voxels, by conjugate gradients, all labels at once.
    def apply(x: np.ndarray) -> np.ndarray:
        image_of: np.ndarray = (total * x - _neighbours(x, links)) * free
        return image_of

    inverse = free / np.maximum(total, 1e-9)
    right = (prior + _neighbours(known, links)) * free
    # From undecided, and not to the last digit: what leaks through an outline comes last.
    found = free * (prior / np.float32(_PRIOR) if shares else np.full_like(known, 1 / len(values)))
    rest = right - apply(found)
    scaled = inverse * rest
    direction, size = scaled.copy(), _dot(rest, scaled)
    end = _TOLERANCE**2 * np.maximum(_dot(right, inverse * right), 1e-12)
    for number in range(_ITERATIONS):
        if number % 10 == 0 and should_cancel():
            raise Cancelled()
        if (size <= end).all():
            break
        image_of = apply(direction)
        step = size / np.maximum(_dot(direction, image_of), 1e-20)
        found += step * direction
        rest -= step * image_of
        scaled = inverse * rest
        before, size = size, _dot(rest, scaled)
        direction = scaled + size / np.maximum(before, 1e-20) * direction
    found += known
    chosen: np.ndarray = np.asarray(values)[np.stack([1 - found.sum(axis=0), *found]).argmax(axis=0)]
    return chosen


def _links(image: np.ndarray, spacing: Sequence[float]) -> list[np.ndarray]:
    """How alike neighbours along each axis are, 0..1, and near."""
    differences = [(np.diff(image, axis=axis + 1) ** 2).sum(axis=0) for axis in range(3)]
    usual = max(float(np.concatenate([one.ravel() for one in differences]).mean()), 1e-12)
    nearest = min(spacing)
    return [
        np.maximum(np.exp(-_EDGES / usual * difference), 1e-4) * np.float32((nearest / mm) ** 2)
        for difference, mm in zip(differences, spacing, strict=True)
    ]


def _neighbours(x: np.ndarray, links: Sequence[np.ndarray]) -> np.ndarray:
    """The sum of each voxel's neighbours in (label, I, J, K), as far as they are linked."""
    found = np.zeros_like(x)
    for axis, link in enumerate(links, start=1):
        lower, upper = ((slice(None),) * axis + (part,) for part in (slice(None, -1), slice(1, None)))
        found[lower] += link * x[upper]
        found[upper] += link * x[lower]
    return found


def _dot(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.einsum("lijk,lijk->l", one, other)[:, None, None, None]
    return found
