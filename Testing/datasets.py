"""Small labelled datasets on disk, made of phantoms."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from MAESegmentLib.training.data.prepared import PreparedCase, places_of

from .phantoms import PhantomFactory

LABELS = {"background": 0, "front": 1, "back": 2}


def write_dataset(
    folder: Path,
    count: int = 3,
    *,
    labels: Mapping[str, int] = LABELS,
    splits: Mapping[str, Sequence[str]] | None = None,
    channels: int = 1,
) -> Path:
    """`images/case_n.nii.gz`, `labels/case_n.nii.gz` and a `dataset.json` without `cases`."""
    for n in range(count):
        phantom = PhantomFactory()(shape=(20 + n, 22, 18), noise=20.0, seed=n)
        matrix = phantom.volume.ijk_to_ras
        for channel in range(channels):
            name = f"case_{n}.nii.gz" if channels == 1 else f"case_{n}_{channel:04d}.nii.gz"
            save(folder / "images" / name, phantom.volume.array[0] + 5.0 * channel, matrix)
        save(folder / "labels" / f"case_{n}.nii.gz", phantom.label_map.array, matrix)
    description: dict[str, Any] = {"labels": dict(labels), "splits": dict(splits or {})}
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def save(path: Path, array: np.ndarray, matrix: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, matrix), path)


def change(path: Path, edit: Any) -> None:
    """Rewrite a NIfTI file with `edit(array, affine) -> (array, affine)`."""
    image = nib.load(path)
    array, matrix = edit(np.asarray(image.dataobj).copy(), image.affine.copy())
    save(path, array, matrix)


def prepared_case(name: str = "case", shape: tuple[int, int, int] = (20, 24, 18), seed: int = 0) -> PreparedCase:
    """Noise with a bright box of class 1 and a dark box of class 2."""
    image = np.random.default_rng(seed).normal(0.0, 0.3, (1, *shape)).astype(np.float32)
    classes = np.zeros(shape, np.uint8)
    classes[4:10, 5:12, 4:9] = 1
    classes[12:16, 14:20, 9:14] = 2
    image[0][classes == 1] += 2.0
    image[0][classes == 2] -= 2.0
    return PreparedCase(name, image, (1.0, 1.0, 1.0), classes, places_of(classes))
