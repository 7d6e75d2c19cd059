"""Sliding windows whose overlap is blended in a buffer one window deep, never in a full volume of class scores.

Where windows lie and how they are weighted is MONAI's, tested to be equal; MONAI itself is not imported, because that
takes longer than all the rest of a worker's start (3.5 of 5.7 s, measured) and Slicer does not have it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress, groupby, product

import numpy as np

from ..arrays import Array, add_product, as_float, flip, pad, place, stack, summable, zeros
from ..bundle.usage.sides import Sides
from ..device import Device
from ..preprocessing.plan import pad_to
from .spilled import SpilledTensor
from .window_count import window_starts

Block = tuple[slice, slice, slice]
#: (B, C, d, h, w) -> (B, K, d, h, w)
Network = Callable[[Array], Array]
#: (1, C, D, H, W) -> tokens (1, d, h, w, K) of every stage, finest first.
Encode = Callable[[Array], Sequence[Array]]


@dataclass(frozen=True)
class WindowPlan:
    """Windows of `patch_size` over an image of `image_size` (both D, H, W); sorted by their start along D.

    >>> [block[0] for block in WindowPlan((10, 4, 4), (4, 4, 4), overlap=0.5).blocks()]
    [slice(0, 4, None), slice(2, 6, None), slice(4, 8, None), slice(6, 10, None)]

    With a `shift`, every window comes a second time, so much further on: what the image has beyond the first windows
    is margin, of which corners are in no window.
    """

    image_size: tuple[int, int, int]
    patch_size: tuple[int, int, int]
    overlap: float = 0.5
    shift: tuple[int, int, int] = (0, 0, 0)

    def blocks(self) -> list[Block]:
        d, h, w = (
            window_starts(size - by, patch, self.overlap)
            for size, by, patch in zip(self.image_size, self.shift, self.patch_size, strict=True)
        )
        starts = list(product(d, h, w))
        if any(self.shift):
            dz, dy, dx = self.shift
            starts = sorted([*starts, *((z + dz, y + dy, x + dx) for z, y, x in starts)])
        depth, height, width = self.patch_size
        return [(slice(z, z + depth), slice(y, y + height), slice(x, x + width)) for z, y, x in starts]


def gaussian_weight(patch_size: tuple[int, int, int]) -> np.ndarray:
    """Weight of each voxel of a window, (d, h, w): a Gaussian of sigma 1/8 of the window, never below 0.001."""
    weight = np.ones((), np.float32)
    for size in patch_size:
        position = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)
        weight = weight[..., None] * np.exp(position**2 / np.float32(-2 * (size / 8) ** 2))
    return np.maximum(weight, np.float32(1e-3))


def sliding_rows(
    image: Array,
    network: Network,
    plan: WindowPlan,
    *,
    batch_size: int,
    device: Device,
    accumulate_on: Device,
    on_batch: Callable[[float], None] = lambda _: None,
) -> Iterator[tuple[int, Array]]:
    """Yield (d, class scores (K, H, W)) for every row d of `image` (C, D, H, W), in order; needs image >= patch.

    What is yielded lies in a buffer that is used again: it is valid until the next one is asked for.

    A row is yielded as soon as no later window reaches it, so memory is that of one slab, patch depth x H x W x K.
    Windows that hold one value only, as air does once a CT is clipped, share one run of the network. `on_batch` is
    called before each batch with the share of windows done; it may raise to stop.
    """
    blocks = plan.blocks()
    weight = place(gaussian_weight(plan.patch_size), accumulate_on)
    slab = _Slab(plan, accumulate_on)
    uniform = _Uniform(network, device)
    done = 0
    for start, group in groupby(blocks, key=lambda block: block[0].start):
        yield from slab.advance_to(start)
        row_of_windows = [(block, image[(slice(None), *block)]) for block in group]
        same = [is_uniform(patch) for _, patch in row_of_windows]
        for block, patch in compress(row_of_windows, same):
            on_batch(done / len(blocks))
            slab.add_all([block], uniform.scores(patch), weight)
            done += 1
        varied = [window for window, flat in zip(row_of_windows, same, strict=True) if not flat]
        for first in range(0, len(varied), batch_size):
            on_batch(done / len(blocks))
            batch = varied[first : first + batch_size]
            patches = place(stack([patch for _, patch in batch]), device)
            slab.add_all([block for block, _ in batch], network(patches), weight)
            done += len(batch)
    yield from slab.advance_to(plan.image_size[0])
    on_batch(1.0)


def rows_of_image(
    image: Array,
    network: Network,
    patch_size: tuple[int, int, int],
    overlap: float,
    *,
    batch_size: int,
    device: Device,
    accumulate_on: Device,
    on_batch: Callable[[float], None] = lambda _: None,
    shift: tuple[int, int, int] = (0, 0, 0),
) -> Iterator[tuple[int, Array]]:
    """`sliding_rows` of an `image` of any size: padded to one window, with the padding left out of the result."""
    padded, offset = pad_to(image, patch_size)
    if any(shift):
        padded = pad(padded, [(0, by) for by in shift])
    d, h, w = (int(n) for n in padded.shape[1:])
    depth, height, width = image.shape[1:]
    rows, columns = slice(offset[1], offset[1] + height), slice(offset[2], offset[2] + width)
    plan = WindowPlan((d, h, w), patch_size, overlap, shift)
    options = {"batch_size": batch_size, "device": device, "accumulate_on": accumulate_on, "on_batch": on_batch}
    for row, scores in sliding_rows(padded, network, plan, **options):  # type: ignore[arg-type]
        if 0 <= row - offset[0] < depth:
            yield row - offset[0], scores[:, rows, columns]


#: Normalised intensities that differ by less are the same: resampling leaves as much of a plain area, by rounding.
_SAME = 1e-5


def is_uniform(patch: Array) -> bool:
    """Whether each channel of `patch` (C, d, h, w) has one value only."""
    corner = patch[:, :1, :1, :1]
    # Most windows that hold something show it along an edge already.
    return all(bool(abs(part - corner).max() < _SAME) for part in (patch[:, :, :1, :1], patch))


class _Uniform:
    """The network's scores of windows that hold one value only; those of the last value are kept."""

    def __init__(self, network: Network, device: Device) -> None:
        self._network = network
        self._device = device
        self._values: list[float] = []
        self._scores: Array = None

    def scores(self, patch: Array) -> Array:
        """(C, d, h, w) -> (1, K, d, h, w)."""
        values = [float(value) for value in patch[:, 0, 0, 0]]
        if self._scores is None or max(abs(a - b) for a, b in zip(values, self._values, strict=True)) >= _SAME:
            self._scores = None  # its place is free for the next
            self._scores, self._values = self._network(place(patch[None], self._device)), values
        return self._scores


class _Slab:
    """Weighted sums over rows [start, start + patch depth); row n is in slot n modulo the depth, so that none moves."""

    def __init__(self, plan: WindowPlan, device: Device) -> None:
        self._depth = plan.patch_size[0]
        self._plane = plan.image_size[1:]
        self._device = device
        self._start = 0
        self._sums: SpilledTensor | None = None  # (d, K, H, W), made once K is known
        self._weights = zeros((self._depth, *self._plane), device)

    def add_all(self, blocks: Sequence[Block], scores: Array, weight: Array) -> None:
        """`scores` are (B, K, d, h, w); no reference to them is kept, so that the next ones can take their place."""
        for block, window in zip(blocks, scores, strict=True):
            self._add(block, summable(window, self._device), weight)

    def _add(self, block: Block, scores: Array, weight: Array) -> None:  # scores (K, d, h, w)
        if self._sums is None:
            self._sums = SpilledTensor((self._depth, len(scores), *self._plane), self._device)
        depth, rows, columns = block
        for slots, part in self._sums.pieces(depth.start % self._depth):
            sums = self._sums.rows[slots, :, rows, columns]
            add_product(sums, scores[:, part].swapaxes(0, 1), weight[part, None])
            self._weights[slots, rows, columns] += weight[part]
            self._sums.release(slots)

    def advance_to(self, start: int) -> Iterator[tuple[int, Array]]:
        """Yield the rows before `start`, and make room for as many new ones."""
        if self._sums is None:
            return
        for row in range(self._start, start):
            slot = row % self._depth
            sums, weights = self._sums.rows[slot], self._weights[slot]
            with np.errstate(invalid="ignore"):  # in corners that are in no window
                sums /= weights  # in place: it is not needed any more, and may be large
            yield row, sums
            sums[...] = 0
            weights[...] = 0
            self._sums.release(slice(slot, slot + 1))
        self._start = start


def mirrored(network: Network, axes: tuple[int, ...], sides: Sides | None = None) -> Network:
    """The mean of `network` over every combination of flips along spatial `axes` (0 = D); `network` itself for none.

    Structures of one side are those of the other in an image that is flipped across `sides`.
    """
    if not axes:
        return network
    flips = [tuple(compress(axes, chosen)) for chosen in product((False, True), repeat=len(axes))]

    def averaged(patches: Array) -> Array:
        total = as_float(network(patches))
        for flipped in flips[1:]:
            along = [axis + 2 for axis in flipped]
            scores = flip(as_float(network(flip(patches, along))), along)
            if sides is not None and sides.axis in flipped:
                scores = scores[:, sides.order(scores.shape[1])]
            total += scores
        return total / len(flips)

    return averaged
