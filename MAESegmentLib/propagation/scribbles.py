"""Scribbles become structures without training: a random walker in a box about them, a model or result its prior."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..errors import Cancelled, DrawingError
from ..images.limits import memory_problem
from ..images.volume import LabelMap, Volume
from .drawn import is_background
from .interpolation import signed_distance

Block = tuple[slice, slice, slice]
#: mm about the scribbles that may change.
RIM_MM = 15.0
#: Of the box. More takes long, and a random walker does not reach so far.
MOST_VOXELS = 4_000_000
#: How much a neighbour of other grey values counts, how much the prior, and how soft an outline is as a prior (mm).
_EDGES, _PRIOR, _SOFT_MM = 3.0, 0.02, 2.0
_ITERATIONS, _TOLERANCE = 300, 1e-3


@dataclass(frozen=True, eq=False)
class Grown:
    """`label_map` has every scribbled voxel as it was drawn; only voxels in `box` (I, J, K) differ from before."""

    label_map: LabelMap
    box: Block
    values: tuple[int, ...]


def grow_scribbles(
    volume: Volume,
    now: LabelMap,
    before: np.ndarray | None,
    names: Mapping[int, str],
    *,
    within: Block | None = None,
    prior: Callable[[Block], Mapping[int, np.ndarray]] | None = None,
    should_cancel: Callable[[], bool] = lambda: False,
) -> Grown:
    """`now` holds the scribbles: where it differs from the result `before` (I, J, K), or all that is drawn in it.

    `within` is where they may grow. `prior` gives a model's probabilities in a box by label value (0: background).
    Without it the outlines of `before` count. A structure called "background" is what none of the others is to be.
    """
    outside = {value for value, name in names.items() if is_background(name)}
    seeded = (now.array != 0) if before is None else now.array != before
    if not seeded.any():
        raise DrawingError("There are no scribbles.", "Draw into the structure, and with another segment beside it.")
    box = _box(seeded, now, within)
    seeds = np.where(seeded[box], now.array[box], 0).astype(np.int64)
    seeds[np.isin(seeds, list(outside))] = 0
    is_seed = seeded[box]
    there = () if before is None else np.unique(before[box]).tolist()
    values = sorted({0, *np.unique(seeds[is_seed]).tolist(), *there})
    spacing = [float(mm) for mm in now.grid.spacing]
    if len(values) < 2:
        raise DrawingError("Only background is scribbled.", "Draw into the structure, too, with its own segment.")
    shares = dict(prior(box)) if prior is not None else _outlines(before, box, values, spacing)
    if not (shares or (seeds[is_seed] == 0).any()):
        is_seed = is_seed | _border(is_seed.shape)  # nothing else says where it ends
    chosen = _walk(volume.array[(slice(None), *box)], seeds, is_seed, values, shares, spacing, should_cancel)
    result = np.array(now.array if before is None else before)
    result[box] = chosen
    result[seeded] = now.array[seeded]
    return Grown(LabelMap(result, now.ijk_to_ras), box, tuple(value for value in values if value))


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
            raise DrawingError("The scribbles lie outside the box.", "Move the box over them, or leave it out.")
        parts.append(slice(low, high))
    size = [part.stop - part.start for part in parts]
    voxels = int(np.prod(size))
    by = " x ".join(map(str, size))
    if voxels > MOST_VOXELS or memory_problem(200 * voxels):
        raise DrawingError(
            f"The scribbles spread over {by} = {voxels:,} voxels; at most {MOST_VOXELS:,} are grown at once.",
            "Give a smaller box, and grow part after part.",
        )
    i, j, k = parts
    return i, j, k


def _outlines(
    before: np.ndarray | None, box: Block, values: Sequence[int], spacing: Sequence[float]
) -> dict[int, np.ndarray]:
    """How likely each label is by a result alone: less certain near its outlines."""
    if before is None:
        return {}
    scores = np.stack([signed_distance(before[box] == value, spacing) / _SOFT_MM for value in values])
    scores = np.exp(scores - scores.max(axis=0))
    return dict(zip(values, scores / scores.sum(axis=0), strict=True))


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
    links = _links(image, spacing)
    free = torch.from_numpy(~is_seed).float()
    known = torch.stack([torch.from_numpy((seeds == value) & is_seed).float() for value in values])
    prior = torch.zeros_like(known)
    for number, value in enumerate(values):
        if value in shares:
            prior[number] = torch.from_numpy(np.asarray(shares[value], np.float32)) * _PRIOR
    total = prior.sum(dim=0) + sum(_degree(link, axis, free.shape) for axis, link in enumerate(links))
    # (D + P - W) x = p + W s on the free voxels, by conjugate gradients, all labels at once.
    right = (prior + _neighbours(known, links)) * free
    found = torch.where(free > 0, prior / prior.sum(dim=0).clamp(min=1e-9), 0.0)

    def apply(x: torch.Tensor) -> torch.Tensor:
        return (total * x - _neighbours(x, links)) * free

    inverse = free / total.clamp(min=1e-9)
    rest = right - apply(found)
    scaled = inverse * rest
    direction, size = scaled.clone(), _dot(rest, scaled)
    end = _TOLERANCE**2 * _dot(right, inverse * right).clamp(min=1e-12)
    for number in range(_ITERATIONS):
        if number % 10 == 0 and should_cancel():
            raise Cancelled()
        if bool((size <= end).all()):
            break
        image_of = apply(direction)
        step = size / _dot(direction, image_of).clamp(min=1e-20)
        found += step * direction
        rest -= step * image_of
        scaled = inverse * rest
        before, size = size, _dot(rest, scaled)
        direction = scaled + size / before.clamp(min=1e-20) * direction
    winners = (found + known).argmax(dim=0).numpy()
    chosen: np.ndarray = np.asarray(values)[winners]
    return chosen


def _links(image: np.ndarray, spacing: Sequence[float]) -> list[torch.Tensor]:
    """How alike neighbours along each axis are, 0..1, and near."""
    grey = torch.from_numpy(np.ascontiguousarray(image, np.float32))
    differences = [(grey.diff(dim=axis + 1) ** 2).sum(dim=0) for axis in range(3)]
    usual = max(float(torch.cat([one.flatten() for one in differences]).mean()), 1e-12)
    nearest = float(min(spacing))
    return [
        torch.exp(-_EDGES * difference / usual).clamp(min=1e-4) * (nearest / float(mm)) ** 2
        for difference, mm in zip(differences, spacing, strict=True)
    ]


def _neighbours(x: torch.Tensor, links: Sequence[torch.Tensor]) -> torch.Tensor:
    found = torch.zeros_like(x)
    for axis, link in enumerate(links, start=1):
        size = x.shape[axis] - 1
        found.narrow(axis, 0, size).add_(link * x.narrow(axis, 1, size))
        found.narrow(axis, 1, size).add_(link * x.narrow(axis, 0, size))
    return found


def _degree(link: torch.Tensor, axis: int, shape: torch.Size) -> torch.Tensor:
    found = torch.zeros(shape)
    found.narrow(axis, 0, link.shape[axis]).add_(link)
    found.narrow(axis, 1, link.shape[axis]).add_(link)
    return found


def _dot(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return (one * other).sum(dim=(1, 2, 3), keepdim=True)
