"""What is compared: every scan and segmentation below some folders, each with the kind of reader it needs."""

from __future__ import annotations

import importlib.util
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from MAESegmentLib.errors import MAESegmentError
from MAESegmentLib.images import list_series
from Testing.skips import real_data_folder

NIFTI, MGH, NRRD, META = "NIfTI", "MGH", "NRRD", "MetaImage"
SEG_NRRD, DICOM, DICOM_SEG = "seg.nrrd", "DICOM", "DICOM SEG"
_ENDINGS = {
    ".seg.nrrd": SEG_NRRD,
    ".nii": NIFTI,
    ".nii.gz": NIFTI,
    ".hdr": NIFTI,
    ".mgz": MGH,
    ".mgh": MGH,
    ".nrrd": NRRD,
    ".nhdr": NRRD,
    ".mha": META,
    ".mhd": META,
}
#: Packages whose wheels carry test files of the formats that they read.
_PACKAGES = ("pydicom", "nibabel", "nrrd", "highdicom", "slicerio")
_FEWEST_SLICES = 3
_FORM = (
    "SeriesInstanceUID",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "PhotometricInterpretation",
    "RescaleSlope",
    "RescaleIntercept",
)


@dataclass(frozen=True)
class Subject:
    """One file, or one DICOM series of a folder."""

    kind: str
    path: Path
    series_uid: str = ""

    def __str__(self) -> str:
        return f"{self.path}{f' [{self.series_uid}]' if self.series_uid else ''}"


def usual_folders() -> list[Path]:
    """The test files of the packages, and the real data where it is present."""
    specs = (importlib.util.find_spec(name) for name in _PACKAGES)
    packages = [Path(spec.origin).parent for spec in specs if spec and spec.origin]
    shared = real_data_folder().parent
    return [*packages, *(folder for folder in (shared / "data" / "geometry", shared / "cases") if folder.is_dir())]


def find_subjects(folders: Iterable[Path], unpacked: Path) -> Iterator[Subject]:
    """Everything below `folders`, in order; archives of DICOM series are unpacked into the empty folder `unpacked`."""
    for number, top in enumerate(folders):
        for path in sorted(top.rglob("*")):
            if path.name.endswith(".tar.gz"):
                target = unpacked / f"{number}_{path.name.removesuffix('.tar.gz')}"
                with tarfile.open(path) as archive:
                    archive.extractall(target, filter="data")
                yield from find_subjects([target], target / "unpacked")
            elif path.is_file() and (kind := _kind(path)):
                yield Subject(kind, path)
            elif path.is_dir():
                yield from _series(path)
            elif path in _pixel_forms(path.parent):
                yield from _copies(path, unpacked / f"{number}_copies" / path.parent.name / path.name)
        yield from _series(top)


def _kind(path: Path) -> str | None:
    name = path.name.lower()
    ending = next((ending for ending in _ENDINGS if name.endswith(ending)), None)
    if ending:
        return _ENDINGS[ending]
    return DICOM_SEG if _modality(path) == "SEG" else None


def _series(folder: Path) -> Iterator[Subject]:
    """The series whose files lie in `folder` or below it, unless a folder below has them all."""
    if not any(file.is_file() and _modality(file) not in (None, "SEG") for file in folder.iterdir()):
        return
    try:
        found = list_series(folder)
    except MAESegmentError:
        return
    for info in found:
        yield Subject(DICOM, folder, info.uid)


def _copies(path: Path, folder: Path) -> Iterator[Subject]:
    """A series of three slices, each with the pixels of the single image `path`, so that its pixels are compared.

    A file of many frames is compared without what lies beside it.
    """
    import pydicom

    try:
        image = pydicom.dcmread(path, force=True)
        if "PixelData" not in image:
            return
        folder.mkdir(parents=True, exist_ok=True)
        if int(image.get("NumberOfFrames") or 1) > 1:
            shutil.copy(path, folder)
            yield from _series(folder)
            return
        image.ImageOrientationPatient, image.PixelSpacing = [1, 0, 0, 0, 1, 0], [2, 3]
        image.ImagerPixelSpacing = image.PixelSpacing  # GDCM takes it for an X-ray's
        image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.3", "1.2.3.4"
        for number in range(_FEWEST_SLICES):
            image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.4.{number + 1}"
            image.ImagePositionPatient, image.InstanceNumber = [1, 2, 4 * number], number + 1
            image.save_as(folder / f"{number}.dcm")
    except Exception:  # what cannot be written again is compared as it is
        return
    yield Subject(DICOM, folder, "1.2.3.4")


@cache
def _pixel_forms(folder: Path) -> frozenset[Path]:
    """Of the DICOM images in a folder, segmentations left out, the first of each series and form of pixels."""
    first: dict[tuple[str, ...], Path] = {}
    for path in sorted(folder.iterdir()):
        modality, *form = _header(path)
        if modality not in (None, "SEG"):
            first.setdefault(tuple(map(str, form)), path)
    return frozenset(first.values())


def _modality(path: Path) -> str | None:
    """Of a DICOM file; None for anything else."""
    return _header(path)[0]


def _header(path: Path) -> tuple[str | None, ...]:
    """Modality, None for what is not DICOM; then what tells series and forms of pixels apart."""
    import pydicom

    try:
        if not path.is_file():
            return (None,)
        header = pydicom.dcmread(path, specific_tags=["Modality", *_FORM], stop_before_pixels=True)
        form = [str(header.file_meta.get("TransferSyntaxUID", "")), *(str(header.get(key, "")) for key in _FORM)]
    except Exception:  # it raises many kinds for what is not DICOM, or a damaged one
        return (None,)
    return str(header.get("Modality", "")), *form
