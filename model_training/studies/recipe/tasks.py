"""A task as a folder of cases: the structures to learn, joined from the labels of a data set."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from MAESegmentLib.cases.case import IGNORED
from MAESegmentLib.cases.dataset import CaseDataset, load_dataset
from MAESegmentLib.errors import DatasetError

from .study import Task

#: Value, in the files written here, of voxels that nobody annotated.
_IGNORED = 255
#: In `Task.scans`: the cases without label map.
_UNLABELLED = "unlabelled"


def prepare_task(task: Task, data: Path, work: Path) -> CaseDataset:
    """Write the task's cases once, as NIfTI, and read them; splits `learn`, `test` and, if it has some, `final`."""
    folder = work / task.name
    if not (folder / "dataset.json").is_file():
        source = load_dataset(data / task.data)
        chosen = {"learn": task.learn, "test": task.test, "final": task.final}
        splits = {name: source.select(",".join(cases)) for name, cases in chosen.items() if cases}
        learnt = {case.group for case in splits["learn"]}
        if seen := [case.id for name in ("test", "final") for case in splits.get(name, ()) if case.group in learnt]:
            raise DatasetError(f"Task {task.name} learns from {seen[0]} and is measured on it.")
        ids = {name: [case.id for case in cases] for name, cases in splits.items()}
        write_cases(source, folder, task.structures, ids)
    return load_dataset(folder)


def scans_of(task: Task, data: Path) -> list[Path]:
    """The images that are learnt from without labels: none of a case that is learnt from or tested on."""
    source = load_dataset(data / task.data)
    named = ",".join(words for words in task.scans if words != _UNLABELLED)
    chosen = list(source.select(named)) if named else []
    if _UNLABELLED in task.scans:
        chosen += [case for case in source.cases if case.label is None]
    used = {case.group for case in source.select(",".join((*task.learn, *task.test, *task.final)))}
    return [case.image[0] for case in chosen if case.group not in used]


def write_cases(
    source: CaseDataset,
    folder: Path,
    structures: Mapping[str, Sequence[str]],
    splits: Mapping[str, Sequence[str]],
    ignored: Sequence[str] = (),
) -> None:
    """Write the cases of `splits` (ids) as a data set of `structures`, each joined from labels of `source`.

    A structure is unknown where one of its parts is; voxels of the labels `ignored` count as not annotated.
    """
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    known = {case.id: case for case in source.cases}
    cases = []
    for case in (known[name] for names in splits.values() for name in names):
        assert case.label is not None
        image = nib.Nifti1Image.from_filename(case.image[0])
        given = np.asanyarray(nib.Nifti1Image.from_filename(case.label).dataobj)
        labels = np.zeros(given.shape, np.uint8)
        for number, parts in enumerate(structures.values(), start=1):
            labels[np.isin(given, [source.labels[part] for part in parts])] = number
        labels[np.isin(given, [source.labels[name] for name in ignored])] = _IGNORED
        names = (f"images/{case.id}.nii.gz", f"labels/{case.id}.nii.gz")
        nib.save(image, folder / names[0])
        nib.save(nib.Nifti1Image(labels, image.affine), folder / names[1])
        unknown = [name for name, parts in structures.items() if set(parts) & set(case.unknown)]
        cases.append({"id": case.id, "image": names[0], "label": names[1], "unknown": unknown})
    values = {"background": 0, **{name: n for n, name in enumerate(structures, start=1)}}
    description = {
        "name": folder.name,
        "labels": {**values, IGNORED: _IGNORED} if ignored else values,
        "cases": cases,
        "splits": {name: list(ids) for name, ids in splits.items()},
    }
    (folder / "dataset.json").write_text(json.dumps(description, indent=1), encoding="utf-8")
