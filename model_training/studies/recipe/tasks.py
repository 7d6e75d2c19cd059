"""A task as a folder of cases: the structures to learn, joined from the labels of a data set."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np

from MAESegmentLib.cases.dataset import CaseDataset, load_dataset

from .study import Task


def prepare_task(task: Task, data: Path, work: Path) -> CaseDataset:
    """Write the task's cases once, as NIfTI, and read them; splits `learn` and `test`."""
    folder = work / task.name
    if not (folder / "dataset.json").is_file():
        _write(task, data / task.data, folder)
    return load_dataset(folder)


def _write(task: Task, source: Path, folder: Path) -> None:
    values = json.loads((source / "dataset.json").read_text(encoding="utf-8"))["labels"]
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    cases = []
    for case in (*task.learn, *task.test):
        image = nib.Nifti1Image.from_filename(source / "images" / f"{case}.nii.gz")
        given = np.asanyarray(nib.Nifti1Image.from_filename(source / "labels" / f"{case}.nii.gz").dataobj)
        labels = np.zeros(given.shape, np.uint8)
        for number, parts in enumerate(task.structures.values(), start=1):
            labels[np.isin(given, [values[part] for part in parts])] = number
        names = (f"images/{case}.nii.gz", f"labels/{case}.nii.gz")
        nib.save(image, folder / names[0])
        nib.save(nib.Nifti1Image(labels, image.affine), folder / names[1])
        cases.append({"id": case, "image": names[0], "label": names[1]})
    description = {
        "name": task.name,
        "labels": {"background": 0, **{name: n for n, name in enumerate(task.structures, start=1)}},
        "cases": cases,
        "splits": {"learn": list(task.learn), "test": list(task.test)},
    }
    (folder / "dataset.json").write_text(json.dumps(description, indent=1), encoding="utf-8")
