"""The scans that whole-volume segmentation is timed on; all real, some of them brought to a clinic's grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from MAESegmentLib.images.reading import read_volume
from MAESegmentLib.images.volume import Volume
from MAESegmentLib.images.writing import write_volume
from MAESegmentLib.samples import head_path

#: What tells rows apart that were not measured together.
BLOCK = ("device", "scan", "precision", "threads")
SCANS = ("as stored", "clinic", "wide", "mni152")
#: A voxel of the stored scan becomes so many along each axis in plane: OpenKBP's CTs were made that much coarser.
FINER = {"clinic": 8, "wide": 3}
#: Voxels along each axis in plane of a planning CT that was taken in a wide field of view; the rest is air, in HU.
WIDE, AIR = 512, -1000


def make_scan(name: str, data: Path, folder: Path) -> Path:
    """A planning CT of the pool as the data set has it, the same on a clinic's grid, or there in a field of view of
    667 mm; or the MNI152 head."""
    if name == "mni152":
        return head_path()
    stored = data / "headneck_ct" / "images" / "pt_1.nii.gz"
    if name == "as stored":
        return stored
    volume = read_volume(stored)
    i, j, k = volume.grid.shape
    times = FINER[name]
    voxels = torch.from_numpy(volume.array.astype(np.float32))[None]
    voxels = F.interpolate(voxels, size=(i * times, j * times, k), mode="trilinear", align_corners=False)[0]
    array = voxels.round().to(torch.int16).numpy()
    finer = np.diag([1 / times, 1 / times, 1.0, 1.0])
    before = [(WIDE - size) // 2 if name == "wide" else 0 for size in array.shape[1:3]]
    finer[:2, 3] = (0.5 - np.array(before)) / times - 0.5
    if name == "wide":
        pads = [(first, WIDE - size - first) for first, size in zip(before, array.shape[1:3], strict=True)]
        array = np.pad(array, [(0, 0), *pads, (0, 0)], constant_values=AIR)
    return write_volume(folder / f"{name}.nii.gz", Volume(array, volume.ijk_to_ras @ finer))
