"""The scans that whole-volume segmentation is timed on; all real, one of them brought to a clinic's grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from MAESegmentLib.cli.demo import head_path
from MAESegmentLib.images.reading import read_volume
from MAESegmentLib.images.volume import Volume
from MAESegmentLib.images.writing import write_volume

SCANS = ("as stored", "clinic", "mni152")
#: A voxel of the stored scan becomes so many along each axis in plane: OpenKBP's CTs were made that much coarser.
FINER = 8


def make_scan(name: str, data: Path, folder: Path) -> Path:
    """A planning CT of the pool as the data set has it, the same on a clinic's grid, or the MNI152 head."""
    if name == "mni152":
        return head_path()
    stored = data / "headneck_ct" / "images" / "pt_1.nii.gz"
    if name == "as stored":
        return stored
    volume = read_volume(stored)
    i, j, k = volume.grid.shape
    voxels = torch.from_numpy(volume.array.astype(np.float32))[None]
    voxels = F.interpolate(voxels, size=(i * FINER, j * FINER, k), mode="trilinear", align_corners=False)[0]
    finer = np.diag([1 / FINER, 1 / FINER, 1.0, 1.0])
    finer[:2, 3] = 0.5 / FINER - 0.5
    array = voxels.round().to(torch.int16).numpy()
    return write_volume(folder / "clinic.nii.gz", Volume(array, volume.ijk_to_ras @ finer))
