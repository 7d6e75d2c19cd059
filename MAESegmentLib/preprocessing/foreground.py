"""Where the body is in a scan: what is neither the one value around it nor the noise of the air."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

Block = tuple[slice, slice, slice]

#: A face of the volume that has one value in this share of its voxels lies in a background of this value.
_PLAIN = 0.99
#: A face lies in air if 99 % of its voxels are in the lowest part of the volume's range.
_DARK = 0.15
#: Faces within a plain background show noise if more than this share of them is not plain.
_MOSTLY = 0.5
#: A plane of this share of voxels above the noise holds a part of the body: noise itself has 6 of a million there.
_NOISE_SHARE = 1e-3
#: The body's edge may be as dark as the noise.
_MARGIN_MM = 5.0
#: Statistics of larger volumes come from an evenly strided subset: percentiles of 150 M voxels take half a minute.
MAX_SAMPLE_VOXELS = 4_000_000


@dataclass(frozen=True)
class Background:
    """What surrounds a body: exactly `value` (skull-stripped, masked), all up to `highest` (air with noise), or both.

    Voxels that are not finite are background too.
    """

    value: float | None = None
    highest: float | None = None

    @property
    def plain(self) -> float | None:
        """The value, where the background holds nothing else."""
        return None if self.highest is not None else self.value

    def foreground(self, voxels: np.ndarray) -> np.ndarray:
        """bool, the shape of `voxels`: what is not background."""
        found = np.ones(voxels.shape, bool) if self.highest is None else voxels > self.highest
        if self.value is not None:
            found &= voxels != self.value
        if np.issubdtype(voxels.dtype, np.floating):
            found &= np.isfinite(voxels)
        return found

    def box(self, channel: np.ndarray, spacing: Sequence[float]) -> Block | None:
        """The smallest block of `channel` (I, J, K) that holds the body; None where there is none.

        Exact for a plain background, so that it does not depend on how much of that there is. Noise passes the
        threshold here and there: planes with next to nothing above it are left out, and a margin of 5 mm is added.
        """
        counts = [np.zeros(n, np.int64) for n in channel.shape]
        slow, *others = sorted(range(3), key=lambda axis: -abs(channel.strides[axis]))
        first, second = sorted(others)
        for index, plane in enumerate(np.moveaxis(channel, slow, 0)):
            found = self.foreground(plane)
            by_row = np.count_nonzero(found, axis=1)
            counts[slow][index] = by_row.sum()
            counts[first] += by_row
            counts[second] += np.count_nonzero(found, axis=0)
        share = 0.0 if self.highest is None else _NOISE_SHARE
        spans = []
        for axis, count in enumerate(counts):
            planes = np.flatnonzero(count > share * (channel.size / len(count)))
            if not len(planes):
                return None
            margin = 0 if self.highest is None else math.ceil(_MARGIN_MM / spacing[axis])
            spans.append(slice(max(0, int(planes[0]) - margin), min(len(count), int(planes[-1]) + 1 + margin)))
        i, j, k = spans
        return i, j, k


def find_background(channel: np.ndarray) -> Background | None:
    """What surrounds the body in `channel` (I, J, K); None for a crop in tissue, whose every voxel counts.

    The faces of the volume decide: a background reaches at least one of them as a whole.
    """
    faces = [face for face in _faces(channel) if face.size]
    if not faces:
        return Background(value=math.nan)  # no face has a finite voxel
    share, value = max((float(np.mean(face == np.median(face))), float(np.median(face))) for face in faces)
    if share < _PLAIN:
        noise = _noise(faces, sample(channel))
        return None if noise is None else Background(highest=noise)
    background = Background(value=value)
    box = background.box(channel, (1.0, 1.0, 1.0))
    if box is None:
        return background
    # Some scanners and resamplers leave plain edges around air with its noise.
    inner = channel[box]
    kept = [face[face != value] for face in _faces(inner) if np.mean(face != value) > _MOSTLY]
    return Background(value, _noise(kept, sample(inner, background)) if kept else None)


def _noise(faces: Sequence[np.ndarray], voxels: np.ndarray) -> float | None:
    """What the noise of air stays below, if the darkest of `faces` (N,) lies in air, judged by all `voxels` (N,)."""
    low, high = np.percentile(voxels, [0.5, 99.5])
    middle, upper = min((np.percentile(face, [50, 99]) for face in faces), key=lambda found: float(found[1]))
    if upper > low + _DARK * (high - low):
        return None
    # For the noise of a magnitude image, about five times its standard deviation.
    return float(middle + 2 * (upper - middle))


def sample(channel: np.ndarray, background: Background | None = None) -> np.ndarray:
    """Finite voxels, without those of `background`, as float64 (N,): all of them, or an even subset, always the same.

    At most `MAX_SAMPLE_VOXELS` are sampled, unless none of these is foreground.
    """
    step = 1
    while math.prod(math.ceil(n / step) for n in channel.shape) > MAX_SAMPLE_VOXELS:
        step += 1
    values = _finite(channel[(slice(step // 2, None, step),) * channel.ndim], background)
    return _finite(channel, background) if values.size == 0 and step > 1 else values


def _finite(voxels: np.ndarray, background: Background | None) -> np.ndarray:
    chosen = voxels.ravel() if background is None else voxels[background.foreground(voxels)]
    values = chosen.astype(np.float64)
    return values[np.isfinite(values)]


def _faces(channel: np.ndarray) -> Iterator[np.ndarray]:
    """Finite voxels of each of the six faces, (N,)."""
    for axis in range(3):
        for index in (0, -1):
            values = np.moveaxis(channel, axis, 0)[index].ravel()
            yield values[np.isfinite(values)]
