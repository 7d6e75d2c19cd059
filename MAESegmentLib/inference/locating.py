"""A model that is made for a box, on a whole scan: another model places the boxes, and each side has its own labels."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ..bundle import Bundle
from ..bundle.suitability import lacks_box
from ..bundle.usage.locator import LEFT, RIGHT, Locator, PlacedBox
from ..errors import LACKS_BOX, MismatchError
from ..images.roi import Block, Roi
from ..images.volume import Grid, LabelMap, Volume
from ..images.volumetry import voxel_ml
from .islands import Runs
from .predictor import Predictor
from .settings import InferenceSettings, Prediction, ReportStage, ShouldCancel

#: Of the time that finding the boxes takes.
_SHARES = {"prepare": (0.0, 0.1), "segment": (0.1, 0.95), "restore": (0.95, 1.0)}
#: Of the progress of "segment" that is over when the boxes are found.
LOCATED = 0.5


@dataclass(frozen=True, eq=False)
class Place:
    """Where a structure was found: the corners of its own box (RAS mm), and `roi` with the margin around it, along the
    axes of the scan."""

    box: PlacedBox
    low: np.ndarray
    high: np.ndarray
    roi: Block


class LocatingPredictor:
    """Predicts as a `Predictor` does; without a box, a scan that is much larger than one is searched by `locator`."""

    def __init__(self, predictor: Predictor, locator: Predictor, *, ask_for_box: bool = False) -> None:
        """Where nothing is found, the whole scan is segmented with a warning; with `ask_for_box`, `MismatchError`."""
        assert predictor.bundle.locator is not None
        self.predictor = predictor
        self._recipe: Locator = predictor.bundle.locator
        self._locator = locator
        self._ask_for_box = ask_for_box

    def predict(
        self,
        volume: Volume,
        *,
        roi: Roi | str | Sequence[float] | None = None,
        progress: ReportStage | None = None,
        should_cancel: ShouldCancel | None = None,
        want_probabilities: bool = False,
        want_entropy: bool = False,
    ) -> Prediction:
        """As `Predictor.predict`, with the stage "locate" before the others."""
        predict = partial(
            self.predictor.predict,
            volume,
            should_cancel=should_cancel,
            want_probabilities=want_probabilities,
            want_entropy=want_entropy,
        )
        bundle, report = self.predictor.bundle, progress or (lambda _stage, _fraction: None)
        self.predictor.check(volume)
        lacking = "" if roi is not None else lacks_box(bundle, volume.grid, None)
        if not lacking:
            return predict(roi=roi, progress=progress)
        started = time.perf_counter()
        places, reasons, doubts = self._find(volume, report, should_cancel)
        if not places:
            text = f"{lacking} {' '.join(reasons)}"
            if self._ask_for_box:
                raise MismatchError(text, "Add a box around the structure.", problem=LACKS_BOX)
            found = predict(progress=progress)
            warnings = (*found.warnings, f"{text} Give a box around the structure.", *doubts)
            return replace(found, seconds=time.perf_counter() - started, warnings=warnings)
        parts = []
        for number, place in enumerate(places):

            def of_all(stage: str, fraction: float, number: int = number) -> None:
                if stage == "segment":
                    report(stage, LOCATED + (1 - LOCATED) * (number + fraction) / len(places))

            parts.append(predict(roi=place.roi, progress=of_all))
        report("restore", 0.0)
        result = self._joined(volume, places, parts)
        report("restore", 1.0)
        located_by = f"{self._locator.spec.name} {self._locator.spec.version}"
        advice = [f"{reason} Segment that side with a box around it." for reason in reasons]
        return replace(
            result,
            seconds=time.perf_counter() - started,
            warnings=tuple(dict.fromkeys([*advice, *result.warnings, *doubts])),
            located_by=located_by,
        )

    def _find(
        self, volume: Volume, report: ReportStage, should_cancel: ShouldCancel | None
    ) -> tuple[list[Place], list[str], list[str]]:
        """The boxes, why others were not found, and what the locator warns of."""

        def locate(stage: str, fraction: float) -> None:
            begin, end = _SHARES[stage]
            report("locate", begin + (end - begin) * fraction)

        located = self._locator.predict(volume, progress=locate, should_cancel=should_cancel)
        found = located.label_map
        values = {label.name: label.value for label in self._locator.labels}
        places, reasons = [], []
        name = f"{self._locator.spec.name} {self._locator.spec.version}"
        for box in self._recipe.boxes:
            place, ml = _place(found, box, [values[one] for one in box.structures], self._recipe)
            what = " or ".join(box.structures)
            if ml < self._recipe.smallest_ml or place is None:
                reasons.append(f"{name} found no {what}." if not ml else f"{name} found only {ml:.2f} ml of {what}.")
            elif lacks_box(self.predictor.bundle, _grid_of(volume.grid, place.roi), None):
                reasons.append(f"What {name} found as {what} is far too large.")
            else:
                places.append(place)
        if _are_exchanged(places):
            places, reasons = [], [f"What {name} found as left lies to the right of what it found as right."]
        return places, reasons, [f"{name}: {text}" for text in located.warnings if text not in volume.notes]

    def _joined(self, volume: Volume, places: Sequence[Place], parts: Sequence[Prediction]) -> Prediction:
        """One prediction of all boxes; a voxel in several belongs to the nearest structure."""
        own = self.predictor.labels
        labels = [self._recipe.labels(place.box, own) for place in places]
        # Not those of a side that was not searched: it would count as one without any of the structure.
        every = tuple(label for mine in labels for label in mine)
        array = np.zeros(volume.grid.shape, np.uint8 if max(one.value for one in every) < 256 else np.uint16)
        entropy = None if parts[0].entropy is None else np.zeros((1, *array.shape), np.float32)
        probabilities = None
        if parts[0].probabilities is not None:
            probabilities = np.zeros((1 + len(every), *array.shape), np.float32)
            probabilities[0] = 1.0
        blocks = [place.roi.block for place in places]
        for number, (block, mine, part) in enumerate(zip(blocks, labels, parts, strict=True)):
            is_mine = _nearest(volume.grid, block, places) == number
            values = {mine_.value: label.value for mine_, label in zip(own, mine, strict=True)}
            found = part.label_map.crop(block).with_values(values).array
            array[block][is_mine] = found[is_mine]
            if entropy is not None and part.entropy is not None:
                entropy[0][block][is_mine] = part.entropy.array[0][block][is_mine]
            if probabilities is not None and part.probabilities is not None:
                channels = [0, *(1 + every.index(label) for label in mine)]
                for channel, scores in zip(channels, part.probabilities.array, strict=True):
                    probabilities[channel][block][is_mine] = scores[block][is_mine]
        names = [{one.name: label.name for one, label in zip(own, mine, strict=True)} for mine in labels]
        return replace(
            parts[0],
            label_map=LabelMap(array, volume.ijk_to_ras),
            labels=every,
            warnings=tuple(
                text if text in volume.notes else _about(place, text)
                for place, part in zip(places, parts, strict=True)
                for text in part.warnings
            ),
            cleaned={
                table[name]: one for table, part in zip(names, parts, strict=True) for name, one in part.cleaned.items()
            },
            entropy=None if entropy is None else Volume(entropy, volume.ijk_to_ras),
            probabilities=None if probabilities is None else Volume(probabilities, volume.ijk_to_ras),
        )


def locating(
    predictor: Predictor, locator: Bundle | Predictor | None, *, ask_for_box: bool = False
) -> Predictor | LocatingPredictor:
    """`predictor`, that finds its boxes with `locator` if there is one."""
    if locator is None:
        return predictor
    if isinstance(locator, Bundle):
        locator = Predictor(locator, locator_settings(predictor.settings))
    return LocatingPredictor(predictor, locator, ask_for_box=ask_for_box)


def locator_settings(settings: InferenceSettings) -> InferenceSettings:
    """Those of a model that finds boxes for one with `settings`: fast, as a box has a margin. The scan was checked
    against the model itself."""
    return replace(settings, batch_size=None, check_familiarity=False, clean=True, overlap=0.25, mirroring=False)


def _place(found: LabelMap, box: PlacedBox, values: Sequence[int], recipe: Locator) -> tuple[Place | None, float]:
    """Around the largest piece of what has one of `values`, and how large that is (ml)."""
    runs = Runs.of(found.array, lambda slab: np.isin(slab, values))
    if not len(runs):
        return None, 0.0
    pieces = runs.pieces(corners=True)
    sizes = np.bincount(pieces, runs.sizes)
    largest = runs.without(pieces != int(sizes.argmax()))
    ends = [np.stack([largest.slab, largest.row, k], axis=1) for k in (largest.start, largest.stop - 1)]
    to_ras = found.ijk_to_ras
    centres = np.concatenate(ends) @ to_ras[:3, :3].T + to_ras[:3, 3]
    half = np.abs(to_ras[:3, :3]).sum(axis=1) / 2
    low, high = centres.min(axis=0) - half, centres.max(axis=0) + half
    first = np.array([largest.slab.min(), largest.row.min(), largest.start.min()])
    end = np.array([largest.slab.max() + 1, largest.row.max() + 1, largest.stop.max()])
    margin = np.ceil(recipe.margin_mm / np.array(found.grid.spacing) - 1e-6).astype(int)
    first, end = np.maximum(first - margin, 0), np.minimum(end + margin, found.array.shape)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(first, end, strict=True))
    roi = Block.of_voxels(found.grid, (i, j, k))
    return Place(box, low, high, roi), float(sizes.max()) * voxel_ml(found)


def _grid_of(grid: Grid, roi: Block) -> Grid:
    """Of its voxels alone, as far as their number and size go."""
    i, j, k = (one.stop - one.start for one in roi.block)
    return Grid((i, j, k), grid.ijk_to_ras)


def _are_exchanged(places: Sequence[Place]) -> bool:
    """Whether the left one's centre lies to the right of the right one's."""
    centres = {place.box.side: place.low[0] + place.high[0] for place in places}
    return LEFT in centres and RIGHT in centres and centres[LEFT] >= centres[RIGHT]


def _nearest(grid: Grid, block: tuple[slice, slice, slice], places: Sequence[Place]) -> np.ndarray:
    """The number of the place that each voxel of `block` belongs to, (I, J, K)."""
    indices = np.stack(np.meshgrid(*(np.arange(one.start, one.stop) for one in block), indexing="ij"), axis=-1)
    points = indices @ grid.ijk_to_ras[:3, :3].T + grid.ijk_to_ras[:3, 3]
    distances = []
    for place in places:
        outside = np.maximum(np.maximum(place.low - points, points - place.high), 0)
        # Where boxes of structures overlap, their centres decide.
        to_centre = np.linalg.norm(points - (place.low + place.high) / 2, axis=-1)
        distances.append(np.linalg.norm(outside, axis=-1) + 1e-3 * to_centre)
    return np.argmin(distances, axis=0)


def _about(place: Place, text: str) -> str:
    return f"{place.box.side.capitalize()}: {text}" if place.box.side else text
