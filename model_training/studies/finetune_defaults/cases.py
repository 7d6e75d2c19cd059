"""The cases of a scenario, prepared for its network: changed to the other scanner or cut to a box where it says so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np

from MAESegmentLib.bundle import Bundle
from MAESegmentLib.cases.case import Case
from MAESegmentLib.cases.dataset import CaseDataset, load_dataset
from MAESegmentLib.preprocessing.plan import Preprocessing
from MAESegmentLib.training.data.labelling import LabelPlan, plan_labels
from MAESegmentLib.training.data.prepared import CaseCache, PreparedCase
from MAESegmentLib.training.data.preparing import prepare_cases

from .scanner import OtherScanner
from .study import Scenario

#: Memory for prepared cases; all of a scenario fit.
CACHE_GB = 4.0


@dataclass(frozen=True)
class ScenarioCases:
    """`training` are those of the largest run, patient by patient; `parts` are measured and never trained on."""

    training: tuple[tuple[PreparedCase, ...], ...]
    parts: dict[str, tuple[PreparedCase, ...]]
    plan: LabelPlan
    preprocessing: Preprocessing


def select(dataset: CaseDataset, first: int, end: int) -> tuple[Case, ...]:
    """Cases of the places `first` to `end` (not included) of the pool."""
    return dataset.select(f"pool:{first}:{end}")


def prepare_scenario(scenario: Scenario, base: Bundle, dataset: CaseDataset, work: Path) -> ScenarioCases:
    """Read and prepare everything that the runs of a scenario need; `work` gets the changed images."""
    plan = plan_labels(dataset.labels, base.labels, scenario.labels)
    preprocessing = base.spec.preprocessing
    if scenario.spacing:
        preprocessing = replace(preprocessing, spacing=scenario.spacing)
    most = max(run.cases for run in scenario.runs)
    training = select(dataset, scenario.training, scenario.training + most)
    parts = {"check": select(dataset, *scenario.check), "test": select(dataset, *scenario.test)}

    def prepared(cases: Sequence[Case], scanner: OtherScanner | None, folder: str) -> dict[str, PreparedCase]:
        if scanner or scenario.margin_mm is not None:
            written = write_changed(cases, dataset, work / folder, scanner, scenario.margin_mm)
            cases = [replace(case, group=own.group) for own, case in zip(cases, written.cases, strict=True)]
        cache = CaseCache(CACHE_GB, work / "prepared")
        prepare_cases(cases, preprocessing, cache, learnt=(dataset, plan))
        return {case.id: case for case in cache}

    known = prepared([*training, *parts["check"], *parts["test"]], scenario.scanner, "changed")
    measured = {name: tuple(known[case.id] for case in cases) for name, cases in parts.items()}
    if scenario.scanner:
        measured["unchanged"] = tuple(prepared(parts["test"], None, "cut").values())
    groups = list(dict.fromkeys(case.group for case in training))
    by_group = tuple(tuple(known[case.id] for case in training if case.group == group) for group in groups)
    return ScenarioCases(by_group, measured, plan, preprocessing)


def write_changed(
    cases: Sequence[Case], dataset: CaseDataset, folder: Path, scanner: OtherScanner | None, margin_mm: float | None
) -> CaseDataset:
    """Copies of the cases with another scanner's grey values, or cut to a box around their labels."""
    entries = []
    for number, case in enumerate(cases):
        assert case.label is not None
        assert len(case.image) == 1
        image, label = nib.Nifti1Image.from_filename(case.image[0]), nib.Nifti1Image.from_filename(case.label)
        grey, values = np.asarray(image.dataobj), np.asarray(label.dataobj)
        affine = image.affine.copy()
        if margin_mm is not None:
            box, affine = _box(values, affine, margin_mm)
            grey, values = grey[box], values[box]
        if scanner:
            grey = scanner.apply(grey, number)
        for kind, array in (("images", grey), ("labels", values)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, affine), folder / kind / f"{case.id}.nii.gz")
        name = f"{case.id}.nii.gz"
        entries.append({"id": case.id, "image": f"images/{name}", "label": f"labels/{name}"})
    (folder / "dataset.json").write_text(json.dumps({"labels": dataset.labels, "cases": entries}))
    return load_dataset(folder)


def _box(values: np.ndarray, affine: np.ndarray, margin_mm: float) -> tuple[tuple[slice, ...], np.ndarray]:
    """Slices of the labelled voxels' box and a margin, and the affine of what they cut out."""
    voxel = np.linalg.norm(affine[:3, :3], axis=0)
    places = np.argwhere(values > 0)
    margin = np.ceil(margin_mm / voxel).astype(int)
    first = np.maximum(places.min(axis=0) - margin, 0)
    end = np.minimum(places.max(axis=0) + margin + 1, values.shape)
    moved = affine.copy()
    moved[:3, 3] = affine[:3, :3] @ first + affine[:3, 3]
    return tuple(slice(int(a), int(b)) for a, b in zip(first, end, strict=True)), moved
