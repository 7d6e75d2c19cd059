"""How large each structure of a label map is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..images.volume import LabelMap
from ..labels import Label


def volumes_ml(label_map: LabelMap, labels: Sequence[Label]) -> dict[int, float]:
    """Label value -> millilitres, in the order of `labels`; 0 for a structure that is not there."""
    voxel_ml = abs(float(np.linalg.det(label_map.ijk_to_ras[:3, :3]))) / 1000
    # Slab by slab: bincount widens its input to 64 bit.
    counts = np.zeros(1 + max((label.value for label in labels), default=0), dtype=np.int64)
    array = label_map.array.T if label_map.array.flags.f_contiguous else label_map.array
    for slab in array:
        found = np.bincount(slab.ravel(), minlength=len(counts))
        counts += found[: len(counts)]
    return {label.value: float(counts[label.value]) * voxel_ml for label in labels}
