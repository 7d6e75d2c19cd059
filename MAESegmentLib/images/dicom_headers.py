"""What is in a DICOM folder: the image headers, grouped by series, without reading a pixel."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

_TAGS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "SeriesDescription",
    "Modality",
    "ImageType",
    "FrameOfReferenceUID",
    "InstanceNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
]
_DICOM_EXTENSIONS = (".dcm", ".ima", ".dicom")
#: Objects that carry `Rows` but are not scans.
_NOT_SCANS = {"SEG", "RTDOSE", "RTSTRUCT", "RTPLAN", "RTIMAGE", "SR", "PR", "KO", "REG", "DOC"}


@dataclass(frozen=True, eq=False)
class Instance:
    """One image file's header. Vectors are None where the header lacks them or they are malformed (LPS, mm)."""

    path: Path
    uid: str
    series_uid: str
    description: str
    modality: str
    frame_of_reference: str
    rows: int
    columns: int
    frames: int
    is_colour: bool
    position: np.ndarray | None  # (3,)
    orientation: np.ndarray | None  # (6,): direction along a row, then along a column
    pixel_spacing: np.ndarray | None  # (2,): between rows, between columns


@dataclass(frozen=True, eq=False)
class Inventory:
    """Scan instances by series UID, and files that should be DICOM but cannot be read."""

    series: dict[str, list[Instance]]
    damaged: list[Path]


def take_inventory(files: Iterable[Path]) -> Inventory:
    """Read the headers; files that are not DICOM images are left out, copies of an instance are counted once."""
    series: dict[str, list[Instance]] = {}
    damaged: list[Path] = []
    seen: set[str] = set()
    for path in files:
        try:
            instance = read_instance(path)
        except InvalidDicomError:
            if path.suffix.lower() in _DICOM_EXTENSIONS:
                damaged.append(path)
            continue
        except Exception:  # pydicom lets struct, value, attribute and end-of-file errors of a broken header through
            damaged.append(path)
            continue
        if instance is None or instance.uid in seen:
            continue
        if instance.uid:
            seen.add(instance.uid)
        series.setdefault(instance.series_uid, []).append(instance)
    return Inventory(series, damaged)


def files_below(folder: Path) -> Iterator[Path]:
    """Every file in `folder` and its subfolders, in a fixed order, hidden ones left out."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and name.upper() != "DICOMDIR":
                yield Path(parent) / name


def read_instance(path: Path) -> Instance | None:
    """The header of one file; None for a DICOM object that is not a scan."""
    with quiet_pydicom():  # values are parsed, and remarked upon, when they are asked for
        return _instance(path, pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS)))


def _instance(path: Path, header: Dataset) -> Instance | None:
    if "Rows" not in header or str(header.get("Modality", "")) in _NOT_SCANS:
        return None
    return Instance(
        path=path,
        uid=str(header.get("SOPInstanceUID", "") or ""),
        series_uid=str(header.get("SeriesInstanceUID", "") or ""),
        description=str(header.get("SeriesDescription", "") or ""),
        modality=str(header.get("Modality", "") or ""),
        frame_of_reference=str(header.get("FrameOfReferenceUID", "") or ""),
        rows=int(header.Rows),
        columns=int(header.Columns),
        frames=int(header.get("NumberOfFrames", 1) or 1),
        is_colour=int(header.get("SamplesPerPixel", 1) or 1) > 1
        or str(header.get("PhotometricInterpretation", "")).startswith("PALETTE"),
        position=_vector(header, "ImagePositionPatient", 3),
        orientation=_vector(header, "ImageOrientationPatient", 6),
        pixel_spacing=_vector(header, "PixelSpacing", 2),
    )


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Silence pydicom's remarks on sloppy headers: what matters is checked, and said, here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _vector(header: Dataset, name: str, length: int) -> np.ndarray | None:
    value = header.get(name)
    if value is None or not hasattr(value, "__len__") or len(value) != length:
        return None
    vector = np.asarray([float(x) for x in value])
    return vector if np.all(np.isfinite(vector)) else None
