"""Evaluate case by case: a damaged case is set aside with its reason, and the others are still evaluated."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..cases.case import Case, case_id
from ..cases.checks import meanings_of, read_image, read_reference
from ..errors import Cancelled, DatasetError, MAESegmentError
from ..images import LabelMap
from ..images.formats.dicom.belonging import place_on
from ..images.hashing import VoxelHashes
from ..images.labels import Label, same_names
from ..images.orientation import Reordering
from ..images.reading import read_drawing
from ..values import Stored
from .metrics import SURFACE_TOLERANCE_MM, Score, evaluate_label_maps

if TYPE_CHECKING:
    from ..inference.locating import LocatingPredictor
    from ..inference.predictor import Predictor

TRAINED_ON_THIS = "the model was trained on this case, so its figures say nothing about new ones"

#: Called before each case with (number of cases done, number of all, id) and at the end with an empty id.
OnCase = Callable[[int, int, str], None]
#: Called with each case that was measured just now, or with the reason why it could not be.
OnResult = Callable[[Case, "CaseResult | str"], None]


class Predictions(Protocol):
    """Where predicted label maps come from. `unknown` names labels of the dataset that it cannot predict."""

    @property
    def unknown(self) -> Sequence[str]: ...

    def label_map(self, case: Case) -> LabelMap: ...


@dataclass(frozen=True)
class CaseResult(Stored):
    """What was measured on one case; `seconds` is the time that its label map took."""

    scores: tuple[Score, ...]
    seconds: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """By case id, in the order of the cases: `results`, and in `failures` the reason why there is none."""

    results: dict[str, CaseResult] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def scores(self) -> list[Score]:
        return [score for result in self.results.values() for score in result.scores]

    @property
    def seconds(self) -> dict[str, float]:
        return {case: result.seconds for case, result in self.results.items()}

    @property
    def warnings(self) -> dict[str, tuple[str, ...]]:
        return {case: result.warnings for case, result in self.results.items() if result.warnings}


@dataclass(frozen=True)
class Measure:
    """What is measured: `labels`, of a dataset in whose label maps `known` (None: just these) have a value.

    Voxels of value `ignore` were not annotated, and count on neither side. Neither does what is predicted of the
    structures named in `annotated_slices` beyond the axial slices between which the reference has them: who contours a
    long structure, as the spinal cord, stops somewhere.
    """

    labels: Sequence[Label]
    tolerance_mm: float = SURFACE_TOLERANCE_MM
    known: Mapping[str, int] | None = None
    ignore: int | None = None
    annotated_slices: Sequence[str] = ()

    @property
    def values(self) -> Mapping[str, int]:
        return {label.name: label.value for label in self.labels} if self.known is None else self.known


def evaluate_cases(
    cases: Iterable[Case],
    predictions: Predictions,
    measure: Measure,
    *,
    done: Mapping[str, CaseResult] | None = None,
    on_case: OnCase = lambda _done, _all, _case: None,
    on_result: OnResult = lambda _case, _result: None,
) -> Evaluation:
    """Score every case that can be read and predicted; only an unexpected exception or a cancel ends it early.

    Cases in `done` (by id) were measured before, and are taken as they are.
    """
    cases, done = list(cases), done or {}
    result = Evaluation()
    for number, case in enumerate(cases):
        on_case(number, len(cases), case.id)
        if case.id in done:
            result.results[case.id] = done[case.id]
            continue
        try:
            result.results[case.id] = _evaluate(case, predictions, measure)
        except Cancelled:
            raise
        except (MAESegmentError, MemoryError) as error:
            reason = "There is not enough memory for this case."
            if isinstance(error, MAESegmentError):
                reason = error.message.removeprefix(f"Case {case.id}: ")
            result.failures[case.id] = reason
            on_result(case, reason)
        else:
            on_result(case, result.results[case.id])
    on_case(len(cases), len(cases), "")
    return result


def _evaluate(case: Case, predictions: Predictions, measure: Measure) -> CaseResult:
    reference = read_reference(case, measure.values, measure.ignore)
    start = time.perf_counter()
    prediction = predictions.label_map(case)
    seconds = time.perf_counter() - start
    ignored = reference.array == measure.ignore if measure.ignore is not None else None
    if ignored is not None and ignored.any() and prediction.grid.matches(reference.grid):
        prediction = LabelMap(np.where(ignored, 0, prediction.array), prediction.ijk_to_ras)
    if measure.annotated_slices and prediction.grid.matches(reference.grid):
        values = [measure.values[name] for name in measure.annotated_slices]
        prediction = within_annotated_slices(reference, prediction, values)
    scores = evaluate_label_maps(
        reference,
        prediction,
        measure.labels,
        case=case.id,
        tolerance_mm=measure.tolerance_mm,
        unknown=predictions.unknown,
    )
    warnings = (*reference.notes, *getattr(predictions, "warnings", {}).get(case.id, ()))
    return CaseResult(tuple(scores), seconds, warnings)


def within_annotated_slices(reference: LabelMap, prediction: LabelMap, values: Iterable[int]) -> LabelMap:
    """`prediction`, of the same grid, without what has one of `values` beyond the axial slices that `reference` has of
    it; without change where that has none."""
    axis = Reordering.to("RAS", reference.ijk_to_ras).axes[2]
    array = prediction.array.copy()
    slices = np.moveaxis(array, axis, 0)
    for value in values:
        annotated = np.flatnonzero((np.moveaxis(reference.array, axis, 0) == value).any(axis=(1, 2)))
        if annotated.size:
            for beyond in (slices[: annotated[0]], slices[annotated[-1] + 1 :]):
                beyond[beyond == value] = 0
    return LabelMap(array, prediction.ijk_to_ras)


class StoredPredictions:
    """Label maps that lie in a folder, each named after its case; their segments are matched by name.

    A format without names has the dataset's label values. What is not a label of the dataset is left out, with a
    warning, unless it may be one that is missing.
    """

    unknown: Sequence[str] = ()

    def __init__(self, folder: Path, labels: Sequence[Label]) -> None:
        if not folder.is_dir():
            raise DatasetError(f"There is no folder {folder}.", "--predictions takes a folder of label maps.")
        self._folder = folder
        self._labels = {label.name: label.value for label in labels}
        self.warnings: dict[str, tuple[str, ...]] = {}
        self._files: dict[str, list[Path]] = {}
        for path in sorted(folder.iterdir()):
            if path.is_file() and not path.name.startswith("."):
                self._files.setdefault(case_id(path), []).append(path)

    def file_of(self, case: Case) -> Path:
        """`DatasetError` unless one file is named after the case."""
        found = self._files.get(case.id, [])
        if not found:
            raise DatasetError(f"There is no label map named {case.id} in {self._folder}.")
        if len(found) > 1:
            raise DatasetError(
                f"Several files are named {case.id} in {self._folder}: {', '.join(p.name for p in found)}."
            )
        return found[0]

    def label_map(self, case: Case) -> LabelMap:
        path = self.file_of(case)
        drawing, segments = read_drawing(path)
        warnings: tuple[str, ...] = ()
        if isinstance(drawing, LabelMap) and not segments:
            label_map = drawing
        else:
            # Such files often hold only the part around the segments, or contours.
            label_map, warnings = place_on(drawing, read_image(case))
        meanings = meanings_of(label_map, segments, self._labels)
        if meanings.unclear and meanings.missing and meanings.are_names:
            raise DatasetError(
                f"{path.name} has {meanings.unclear}; it names no {', '.join(meanings.missing)}.",
                "Give the segments the names of the dataset's labels.",
            )
        if meanings.unclear:
            warnings += (f"it has {meanings.unclear}; left out",)
        if warnings:
            self.warnings[case.id] = warnings
        return label_map.with_values(meanings.values)


class ModelPredictions:
    """Label maps that a model makes; its label values are translated to the dataset's by name.

    `trained_on` holds the voxel hashes of images the model has learnt from: a case among them proves little, so it is
    reported in `warnings`, beside what the predictor warns of.
    """

    def __init__(
        self,
        predictor: Predictor | LocatingPredictor,
        model_labels: Sequence[Label],
        labels: Sequence[Label],
        *,
        trained_on: Collection[str] = (),
        sided: Sequence[tuple[Label, Label]] = (),
    ) -> None:
        """`sided` (see `Bundle.sided`) count as the model's own labels where the dataset does not name them."""
        self._predictor = predictor
        self._values, self.unknown = match_labels([*model_labels, *(label for label, _own in sided)], labels)
        for label, own in sided:
            if own.value in self._values:
                self._values.setdefault(label.value, self._values[own.value])
        self._trained_on = frozenset(trained_on)
        self.warnings: dict[str, tuple[str, ...]] = {}

    def label_map(self, case: Case) -> LabelMap:
        volume = read_image(case)
        prediction = self._predictor.predict(volume)
        seen = (TRAINED_ON_THIS,) if VoxelHashes(volume.array).among(self._trained_on) else ()
        if remarks := (*seen, *prediction.warnings):
            self.warnings[case.id] = remarks
        return prediction.label_map.with_values(self._values)


def match_labels(model_labels: Sequence[Label], labels: Sequence[Label]) -> tuple[dict[int, int], tuple[str, ...]]:
    """Model value -> dataset value for labels of one name (see `same_names`), and names left over.

    `DatasetError` for a label that may be either of two of the model, and where no name is the same.
    """
    by_name = {label.name: label.value for label in model_labels}
    values: dict[int, int] = {}
    unknown = []
    for label in labels:
        alike = same_names(label.name, by_name)
        if len(alike) > 1 or (alike and by_name[alike[0]] in values):
            raise DatasetError(
                f"The dataset's label {label.name!r} cannot be told apart in the model's {_names(model_labels)}.",
                "Give it the model's exact name in dataset.json.",
            )
        if alike:
            values[by_name[alike[0]]] = label.value
        else:
            unknown.append(label.name)
    if not values:
        raise DatasetError(
            f"The model segments {_names(model_labels)}; the dataset's labels are {_names(labels)}: none is the same.",
            "Choose another model, or give the labels in dataset.json the model's names.",
        )
    return values, tuple(unknown)


def _names(labels: Sequence[Label]) -> str:
    return ", ".join(repr(label.name) for label in labels)
