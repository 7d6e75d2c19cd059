"""The scan that needs no download, and boxes around its hippocampi."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import VolumeReadError

if TYPE_CHECKING:
    from .images.volume import Volume

#: Boxes (RAS mm) around each hippocampus in MNI152 space, with the margin that the training crops have.
ROI_LEFT = "-44,-9,-46,3,-31,7"
ROI_RIGHT = "9,44,-46,3,-31,7"
SAMPLE = "MNI152 head"
#: What segments it, by its full name.
SAMPLE_MODEL = "hippocampus-mr"
#: (name, R0, R1, A0, A1, S0, S1 in mm), for the model that needs a box.
BOXES = tuple(
    (name, tuple(float(number) for number in box.split(",")))
    for name, box in (("Right hippocampus", ROI_RIGHT), ("Left hippocampus", ROI_LEFT))
)


def read_sample() -> Volume:
    """The MNI152 T1 head inside the nilearn package; `VolumeReadError` says how to get it."""
    from .images.reading import read_volume

    return read_volume(head_path())


def head_path() -> Path:
    """The MNI152 T1 head (1 mm) inside the installed nilearn package, found without importing it."""
    spec = find_spec("nilearn")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    path = folder / "datasets" / "data" / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz" if folder else None
    if path is None or not path.exists():
        raise VolumeReadError(
            "The sample head is not installed: it comes with the nilearn package.",
            "Open a scan of your own, or have nilearn installed.",
        )
    return path
