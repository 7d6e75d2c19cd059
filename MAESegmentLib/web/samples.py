"""The scan that needs no upload."""

from __future__ import annotations

from ..cli.demo import ROI_LEFT, ROI_RIGHT, head_path
from ..images.volume import Volume

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
    from ..images.reading import read_volume

    return read_volume(head_path())
