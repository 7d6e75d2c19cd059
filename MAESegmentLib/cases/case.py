"""One case: the files of an image and, where there is one, its label map."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DatasetError

#: The name, by nnU-Net's convention, of the value of voxels that were not annotated.
IGNORED = "ignore"
#: Endings of images and label maps in one file; the longest first, where one ends like another.
SUFFIXES = (".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh")
#: DICOM SEG and RTSTRUCT: as images, single DICOM files are slices.
LABEL_SUFFIXES = (*SUFFIXES, ".dcm")


@dataclass(frozen=True)
class Case:
    """One image (one file per channel) with or without a label map. Cases of one `group` (patient) stay together.

    `unknown` names labels that were not annotated in this case: what its label map calls background may be these.
    """

    id: str
    image: tuple[Path, ...]
    label: Path | None = None
    group: str = ""
    unknown: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.group:
            object.__setattr__(self, "group", self.id)

    @property
    def files(self) -> tuple[Path, ...]:
        return self.image if self.label is None else (*self.image, self.label)


def check_files_differ(image: Sequence[Path], label: Path | None, prefix: str = "") -> None:
    """Raise `DatasetError`, which begins with `prefix`, if one file is two channels, or the image and its label map.

    By what they are on the disk: a file may have several names. All of them must exist.
    """
    known = [path.stat() for path in image]
    if label is not None and any(os.path.samestat(label.stat(), other) for other in known):
        raise DatasetError(
            f"{prefix}{label} is both the image and its label map.",
            "Give the segmentation that was drawn on the image.",
        )
    for number, path in enumerate(image):
        if any(os.path.samestat(known[number], other) for other in known[:number]):
            raise DatasetError(f"{prefix}{path} is given twice.", "Each channel is a file of its own.")


def case_id(path: Path) -> str:
    """File name without its image suffix: "a/pt_1.nii.gz" -> "pt_1"."""
    for suffix in LABEL_SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.name


def unreadable_folder(what: str, error: OSError) -> DatasetError:
    return DatasetError(
        f"{what} cannot be read: {error.strerror or error}.",
        "Check that the disk is connected, and ask for permission to read the folder.",
    )
