"""Make what `brain-mr` must stand out of T1 heads: the same heads with inverted contrast, and with 5 mm slices.

    python model_training/recipes/brain-mr/variants.py DATA/brain_mr OUT

OUT/inverted and OUT/thick are data sets for `maesegment evaluate`.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from MAESegmentLib.images import LabelMap, Volume, read_label_map, read_volume, write_label_map, write_volume
from MAESegmentLib.images.labels import Label

#: Slices of 1 mm that become one.
SLICES = 5

Change = Callable[[Volume, LabelMap], tuple[Volume, LabelMap]]


def inverted(head: Volume, labels: LabelMap) -> tuple[Volume, LabelMap]:
    """What is bright turns dark within the head; what is 0 around it stays so."""
    array = head.array.astype(np.float32)
    inside = array > 0
    top = np.percentile(array[inside], 99.5)
    changed = np.where(inside, np.clip(1.05 * top - array, 0, None), 0).astype(np.float32)
    return Volume(changed, head.ijk_to_ras), labels


def thick(head: Volume, labels: LabelMap) -> tuple[Volume, LabelMap]:
    """Slices of 5 mm from foot to head: the mean grey value, and the labels of the slice in the middle."""
    axis = int(np.argmax(np.abs(head.ijk_to_ras[2, :3])))
    count = labels.array.shape[axis] // SLICES
    stacked = np.moveaxis(head.array, axis + 1, 0)[: count * SLICES].astype(np.float32)  # channels come first
    stacked = stacked.reshape(count, SLICES, *stacked.shape[1:]).mean(1)
    classes = np.moveaxis(labels.array, axis, 0)[SLICES // 2 : count * SLICES : SLICES]
    affine = head.ijk_to_ras.copy()
    affine[:3, 3] += affine[:3, axis] * (SLICES - 1) / 2
    affine[:3, axis] *= SLICES
    image = np.ascontiguousarray(np.moveaxis(stacked, 0, axis + 1))
    return Volume(image, affine), LabelMap(np.ascontiguousarray(np.moveaxis(classes, 0, axis)), affine)


def main(source: Path, out: Path) -> None:
    changes: dict[str, Change] = {"inverted": inverted, "thick": thick}
    for name, change in changes.items():
        for folder in ("images", "labels"):
            (out / name / folder).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / "dataset.json", out / name / "dataset.json")
        for path in sorted((source / "images").glob("*.nii.gz")):
            head, labels = change(read_volume(path), read_label_map(source / "labels" / path.name))
            write_volume(out / name / "images" / path.name, head)
            shown = [Label(int(n), str(n), (0, 0, 0)) for n in np.unique(labels.array) if n]
            write_label_map(out / name / "labels" / path.name, labels, shown)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
