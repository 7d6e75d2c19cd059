"""Evaluate case by case: a damaged case is set aside with its reason, and the others go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..cases.checks import read_image, voxel_hash
from ..cases.dataset import Case, case_id
from ..errors import Cancelled, DatasetError, MAESegmentError
from ..images import LabelMap, read_label_map
from ..labels import Label
from .metrics import SURFACE_TOLERANCE_MM, Score, evaluate_label_maps

if TYPE_CHECKING:
    from ..inference.settings import Prediction

TRAINED_ON_THIS = "the model was trained on this case, so its figures say nothing about new ones"

#: Called before each case with (number of cases done, number of all, id) and at the end with an empty id.
OnCase = Callable[[int, int, str], None]


class Predictions(Protocol):
    """Where predicted label maps come from. `unknown` names labels of the dataset that it cannot predict."""

    @property
    def unknown(self) -> Sequence[str]: ...

    def label_map(self, case: Case) -> LabelMap: ...


@dataclass(frozen=True)
class Evaluation:
    """`failures` gives the reason by case id; `seconds` the time that each evaluated case's label map took."""

    scores: list[Score] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def evaluate_cases(
    cases: Iterable[Case],
    predictions: Predictions,
    labels: Sequence[Label],
    *,
    tolerance_mm: float = SURFACE_TOLERANCE_MM,
    on_case: OnCase | None = None,
) -> Evaluation:
    """Score every case that can be read and predicted; only an unexpected exception or a cancel ends it early."""
    cases = list(cases)
    result = Evaluation()
    for number, case in enumerate(cases):
        if on_case:
            on_case(number, len(cases), case.id)
        try:
            reference = _reference(case)
            start = time.perf_counter()
            prediction = predictions.label_map(case)
            seconds = time.perf_counter() - start
            scores = evaluate_label_maps(
                reference, prediction, labels, case=case.id, tolerance_mm=tolerance_mm, unknown=predictions.unknown
            )
        except Cancelled:
            raise
        except MAESegmentError as error:
            result.failures[case.id] = error.message
        else:
            result.scores.extend(scores)
            result.seconds[case.id] = seconds
    if on_case:
        on_case(len(cases), len(cases), "")
    return result


def _reference(case: Case) -> LabelMap:
    if case.label is None:
        raise DatasetError("The case has no reference labels.")
    return read_label_map(case.label)


class StoredPredictions:
    """Label maps that lie in a folder, each named after its case, with the dataset's label values."""

    unknown: Sequence[str] = ()

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise DatasetError(f"There is no folder {folder}.", "--predictions takes a folder of label maps.")
        self._folder = folder
        self._files: dict[str, list[Path]] = {}
        for path in sorted(folder.iterdir()):
            if path.is_file() and not path.name.startswith("."):
                self._files.setdefault(case_id(path), []).append(path)

    def label_map(self, case: Case) -> LabelMap:
        found = self._files.get(case.id, [])
        if not found:
            raise DatasetError(f"There is no label map named {case.id} in {self._folder}.")
        if len(found) > 1:
            raise DatasetError(
                f"Several files are named {case.id} in {self._folder}: {', '.join(p.name for p in found)}."
            )
        return read_label_map(found[0])


class SegmentsVolumes(Protocol):
    """The part of an inference `Predictor` used here."""

    def predict(self, volume: Any) -> Prediction: ...


class ModelPredictions:
    """Label maps that a model makes; its label values are translated to the dataset's by name.

    `trained_on` holds the voxel hashes of images the model has learnt from: a case among them proves little, so it is
    reported in `warnings`, beside what the predictor warns of.
    """

    def __init__(
        self,
        predictor: SegmentsVolumes,
        model_labels: Sequence[Label],
        labels: Sequence[Label],
        *,
        trained_on: Collection[str] = (),
    ) -> None:
        self._predictor = predictor
        self._values, self.unknown = match_labels(model_labels, labels)
        self._trained_on = frozenset(trained_on)
        self.warnings: dict[str, tuple[str, ...]] = {}

    def label_map(self, case: Case) -> LabelMap:
        volume = read_image(case)
        prediction = self._predictor.predict(volume)
        seen = (TRAINED_ON_THIS,) if self._trained_on and voxel_hash(volume.array) in self._trained_on else ()
        if remarks := (*seen, *prediction.warnings):
            self.warnings[case.id] = remarks
        return translated(prediction.label_map, self._values)


def match_labels(model_labels: Sequence[Label], labels: Sequence[Label]) -> tuple[dict[int, int], tuple[str, ...]]:
    """Model value -> dataset value for labels of one name (case, spaces, '-' and '_' aside), and names left over."""
    by_name = {_plain(label.name): label.value for label in model_labels}
    values = {by_name[_plain(label.name)]: label.value for label in labels if _plain(label.name) in by_name}
    unknown = tuple(label.name for label in labels if _plain(label.name) not in by_name)
    if not values:
        raise DatasetError(
            f"The model segments {_names(model_labels)}; the dataset's labels are {_names(labels)}: none is the same.",
            "Choose another model, or give the labels in dataset.json the model's names.",
        )
    return values, unknown


def translated(label_map: LabelMap, values: Mapping[int, int]) -> LabelMap:
    """Replace voxel values; a value that is not in `values` becomes background."""
    largest = max(int(label_map.array.max(initial=0)), *values)
    table = np.zeros(largest + 1, dtype=np.uint16)
    for old, new in values.items():
        table[old] = new
    return LabelMap(table[label_map.array], label_map.ijk_to_ras)


def _plain(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


def _names(labels: Sequence[Label]) -> str:
    return ", ".join(repr(label.name) for label in labels)
