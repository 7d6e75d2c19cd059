"""How uncertain a model is about a scan, and in which slice most: from an ensemble of variations of the same scan.

The network segments flipped and slightly brighter or darker variations, which are turned back. Let p be the mean of
their class probabilities at a voxel and H its entropy divided by the logarithm of the number of classes (0 to 1). A
structure's region is where it is predicted or has p above `CONCEIVABLE`. A scan's `entropy` is the mean over the
structures of the mean of H over their regions: so neither the empty rest of the scan nor a large structure decides. A
structure without a region counts as 1: a model that finds nothing where something should be is not certain.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from itertools import compress, product

import numpy as np

from ..arrays import Array, flip, inference_mode, softmax, to_numpy
from ..images.roi import Roi
from ..images.volume import Grid, Volume
from ..preprocessing.grid import NetworkGrid
from ..preprocessing.plan import Prepared
from .fallback import Step, run_first_that_fits
from .predictor import Predictor, trained_mirror_axes
from .ranking import Uncertainty
from .restore import entropy
from .settings import ReportStage, ShouldCancel
from .windows import Network

#: A voxel with this probability of a structure belongs to the structure's region.
CONCEIVABLE = 0.05
#: Variations of a scan: all flips that the model knows, with changes of brightness where these are fewer.
VARIATIONS = 4
#: Share of a window that its neighbour covers; a third of the windows of the overlap for segmenting.
_OVERLAP = 0.25
#: Gain and offset (in standard deviations of the training scans' grey values) of a variation.
_BRIGHTNESS = ((1.0, 0.0), (1.1, 0.1), (0.9, -0.1), (1.1, -0.1))
#: An axis is the scan's slice axis if its voxels are longer than all others by this factor; else it is K.
_COARSER = 1.05


@dataclass(frozen=True)
class Variation:
    """Axes (0 = D) to flip along, and a change of brightness, neither of which moves anything from side to side."""

    flips: tuple[int, ...] = ()
    gain: float = 1.0
    offset: float = 0.0


def variations_of(mirror_axes: tuple[int, ...]) -> tuple[Variation, ...]:
    """At least `VARIATIONS`, given the axes that a model was trained to be flipped along; the first is plain."""
    bits = product((False, True), repeat=len(mirror_axes))
    flips = [tuple(compress(mirror_axes, chosen)) for chosen in bits]
    count = max(VARIATIONS, len(flips))
    return tuple(Variation(flips[n % len(flips)], *_BRIGHTNESS[n // len(flips)]) for n in range(count))


def uncertainty_of(
    predictor: Predictor,
    volume: Volume,
    roi: Roi | None = None,
    progress: ReportStage | None = None,
    should_cancel: ShouldCancel | None = None,
) -> Uncertainty:
    """Measure one scan, or what lies within `roi`. Memory is bounded as in segmenting: no map of the scan is kept.

    `progress` and `should_cancel` as in `Predictor.predict`.
    """
    started = time.perf_counter()
    report = progress or (lambda _stage, _fraction: None)
    predictor.check(volume)
    prepared = predictor.prepare(volume, roi, report, should_cancel)
    familiarity = predictor.familiarity(volume, prepared)
    warnings = list(volume.notes)
    if familiarity and familiarity.message:
        warnings.append(familiarity.message)

    def run(step: Step) -> _Regions:
        return _measure(predictor, prepared, step, report, should_cancel)

    with inference_mode():
        regions, step = run_first_that_fits(predictor.steps(), run, warnings.append)
    axis, index, position = _slice_to_look_at(regions, prepared.grid, volume.grid)
    names = [label.name for label in predictor.spec.labels]
    means = regions.means()
    return Uncertainty(
        entropy=float(means.mean()),
        slice_axis=axis,
        slice_index=index,
        position_ras=position,
        per_label={name: float(value) for name, value in zip(names, means, strict=True)},
        not_found=tuple(name for name, size in zip(names, regions.sizes, strict=True) if size == 0),
        seconds=time.perf_counter() - started,
        device=str(step.device),
        warnings=tuple(warnings),
    )


class _Regions:
    """Sums over the voxels of the network's grid, (D, H, W), taken row by row; n structures."""

    def __init__(self, shape: tuple[int, int, int], structures: int) -> None:
        self.shape = shape
        self.sizes = np.zeros(structures)
        self.sums = np.zeros(structures)  # of the entropy
        #: Per axis and index, for every structure and last for "anything": sum of weights, and of weight x (d, h, w).
        self.moments = [np.zeros((structures + 1, size, 4)) for size in shape]

    def add(self, row: int, probabilities: np.ndarray) -> None:
        """(K, H, W) mean probabilities of row `row`."""
        surprise = entropy(probabilities) / math.log(len(probabilities))
        winner = probabilities.argmax(axis=0)
        for number in range(len(self.sizes)):
            region = (probabilities[number + 1] > CONCEIVABLE) | (winner == number + 1)
            self.sizes[number] += region.sum()
            self.sums[number] += surprise[region].sum()
            self._add_moments(number, row, np.where(region, surprise, 0.0))
        self._add_moments(-1, row, 1.0 - probabilities[0])

    def means(self) -> np.ndarray:
        """(n,): entropy of each structure."""
        means: np.ndarray = np.where(self.sizes > 0, self.sums / np.maximum(self.sizes, 1), 1.0)
        return means

    def along(self, axis: int) -> np.ndarray:
        """(size, 4) moments at every index of `axis`; every structure has the same say, whatever its size."""
        if not self.sums.any():  # nothing was found: where it would most likely be
            return self.moments[axis][-1]
        sizes = np.maximum(self.sizes, 1)[:, None, None]
        total: np.ndarray = (self.moments[axis][:-1] / sizes).sum(axis=0)
        return total

    def _add_moments(self, number: int, row: int, weight: np.ndarray) -> None:  # (H, W)
        rows, columns = np.arange(self.shape[1]), np.arange(self.shape[2])
        by_row, by_column = weight.sum(axis=1), weight.sum(axis=0)
        total = by_row.sum()
        self.moments[0][number, row] += (total, total * row, by_row @ rows, by_column @ columns)
        self.moments[1][number] += np.stack([by_row, by_row * row, by_row * rows, weight @ columns], axis=1)
        self.moments[2][number] += np.stack([by_column, by_column * row, rows @ weight, by_column * columns], axis=1)


def _measure(
    predictor: Predictor, prepared: Prepared, step: Step, report: ReportStage, should_cancel: ShouldCancel | None
) -> _Regions:
    """All variations of the prepared scan with the means of `step`."""
    regions = _Regions(prepared.grid.shape, len(predictor.spec.labels))
    network = _ensemble(predictor.network_on(step.device), variations_of(trained_mirror_axes(predictor.spec)))
    overlap = min(predictor.settings.overlap, _OVERLAP)
    rows = predictor.rows(network, prepared, step, overlap, report, should_cancel)
    for row, probabilities in rows:
        regions.add(row, to_numpy(probabilities).astype(float))
    return regions


def _ensemble(network: Network, variations: tuple[Variation, ...]) -> Network:
    """(B, C, d, h, w) -> (B, K, d, h, w): mean class probabilities."""

    def mean(patches: Array) -> Array:
        total: Array = 0.0
        for one in variations:
            along = [axis + 2 for axis in one.flips]
            varied = flip(patches * one.gain + one.offset, along)
            total = total + flip(softmax(network(varied), 1), along)
        return total / len(variations)

    return mean


def _slice_to_look_at(
    regions: _Regions, network_grid: NetworkGrid, grid: Grid
) -> tuple[int, int, tuple[float, float, float]]:
    """Axis and index in `grid`, the scan's own, of the slice with most uncertainty, and a point in it, RAS mm."""
    axis = slice_axis(grid)
    to_ijk = np.linalg.inv(grid.ijk_to_ras)
    # The network's axis that runs along the scan's slice axis.
    along = int(np.abs((to_ijk @ network_grid.ijk_to_ras)[axis, :3]).argmax())
    moments = regions.along(along)
    place = (np.array(network_grid.shape) - 1) / 2
    best = int(moments[:, 0].argmax())
    if moments[best, 0] > 0:
        place = moments[best, 1:] / moments[best, 0]
    ijk = to_ijk @ network_grid.ijk_to_ras @ [*place, 1.0]
    ijk[axis] = min(max(round(float(ijk[axis])), 0), grid.shape[axis] - 1)
    r, a, s = (float(x) for x in (grid.ijk_to_ras @ ijk)[:3])
    return axis, int(ijk[axis]), (r, a, s)


def slice_axis(grid: Grid) -> int:
    """The axis across the scan's slices: that of the longest voxels, else the last, as scanners and formats have it."""
    spacing = grid.spacing
    longest = int(spacing.argmax())
    others = np.delete(spacing, longest)
    return longest if spacing[longest] > _COARSER * others.max() else 2
