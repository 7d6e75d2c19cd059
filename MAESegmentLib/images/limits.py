"""How large a scan may be: compared with what a header promises before any memory is taken."""

from __future__ import annotations

import math
import stat
from collections.abc import Sequence
from pathlib import Path

from ..errors import VolumeReadError

#: The largest scan that is read, about 1300 voxels a side or 8000 slices of 512 x 512.
MOST_VOXELS = 1 << 31
#: So many bytes a voxel takes at most.
_WIDEST = 8
#: Beside an array of its voxels there must be room for what is made of them.
_SHARE_OF_MEMORY = 0.8
#: The most bytes of voxels that one file is unpacked to.
MOST_BYTES = MOST_VOXELS * _WIDEST


def check_size(name: str, shape: Sequence[int], itemsize: int = 1) -> None:
    """Raise `VolumeReadError` if a scan of `shape` (any number of axes) and `itemsize` bytes a voxel is too large.

    Too large for anyone, or for the memory that is free here.
    """
    sizes = [int(n) for n in shape]
    voxels = math.prod(sizes)
    if voxels > MOST_VOXELS or voxels * int(itemsize) > MOST_BYTES:
        size = " x ".join(map(str, sizes))
        raise VolumeReadError(
            f"{name} is too large: its header promises {size} = {voxels:,} voxels; at most {MOST_VOXELS:,} are read.",
            "If the scan is really that large, crop or resample it first; otherwise its header is damaged: export it "
            "again.",
        )
    if problem := memory_problem(voxels * int(itemsize)):
        raise VolumeReadError(
            f"{name} is too large for this computer: {problem}.", "Close other programs, or crop the scan first."
        )


def memory_problem(needed: int) -> str:
    """Why an array of `needed` bytes should not be made, as part of a sentence; "" if it can.

    Systems promise memory that they do not have, and end the process once it is used.
    """
    import psutil

    free = psutil.virtual_memory().available
    if needed <= _SHARE_OF_MEMORY * free:
        return ""
    return f"it needs {needed / _SHARE_OF_MEMORY / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} GiB are free"


def check_regular_file(path: Path) -> None:
    """Raise `VolumeReadError` for what is not a file of bytes on a disk (pipe, device, socket); a missing file is not.

    Opening a pipe waits for ever, and a device has no end.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise VolumeReadError(f"{path.name} is a pipe or a device, not a file.", "Copy the scan to a file first.")
