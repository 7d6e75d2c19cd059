"""The header of one DICOM file: whose it is, and where each of its frames lies, without reading a pixel."""

from __future__ import annotations

import io
import logging
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset, read_partial
from pydicom.tag import Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian
from pydicom.uid import ImplicitVRLittleEndian as ImplicitVR

from ....errors import VolumeReadError
from ...limits import check_regular_file
from ...scans import has_dicom_content, is_named_dicom

#: Fields of `Identity` and the attributes that they are.
_IDENTITY = {
    "patient_id": "PatientID",
    "patient_name": "PatientName",
    "study_uid": "StudyInstanceUID",
    "series_uid": "SeriesInstanceUID",
    "frame_of_reference": "FrameOfReferenceUID",
    "modality": "Modality",
    "birth_date": "PatientBirthDate",
    "study_date": "StudyDate",
}
#: Whole numbers, and what they are where the header does not say.
_SIZES = {"Rows": 0, "Columns": 0, "NumberOfFrames": 1, "SamplesPerPixel": 1, "BitsAllocated": 16}
_VECTORS = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
_TAGS = [
    *(*_IDENTITY.values(), *_SIZES, *_VECTORS),
    *("SOPClassUID", "SOPInstanceUID", "SeriesNumber", "SeriesDescription", "PhotometricInterpretation"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
]
#: Objects that carry `Rows` but are not scans.
_NOT_SCANS = {"SEG", "RTDOSE", "RTSTRUCT", "RTPLAN", "RTIMAGE", "SR", "PR", "KO", "REG", "DOC"}
#: In the name of every SOP class of images, and of no other.
_OF_IMAGES = "Image Storage"
_SERIES = Tag("SeriesInstanceUID")
#: The first of the elements that hold pixels.
_PIXELS = Tag("FloatPixelData")
EXPORT_AGAIN = "Export the series again from the archive (PACS)."
_PREAMBLE = 128
_BLOCK = 1 << 20
#: The most that a deflated data set is unpacked to.
_MOST_INFLATED = 1 << 30
# It prints patients' names that it finds odd.
logging.getLogger("highdicom").setLevel(logging.ERROR)


@dataclass(frozen=True)
class Identity:
    """Whose image it is; "" where the header says nothing, as after de-identification."""

    patient_id: str
    patient_name: str
    study_uid: str
    series_uid: str
    frame_of_reference: str
    modality: str
    birth_date: str = ""
    study_date: str = ""


@dataclass(frozen=True, eq=False)
class Plane:
    """Where one frame lies. Vectors are None where the header lacks them or they are malformed (LPS, mm).

    `malformed` says what is wrong with one that is there.
    """

    position: np.ndarray | None  # (3,)
    orientation: np.ndarray | None  # (6,): direction along a row, then along a column
    pixel_spacing: np.ndarray | None  # (2,): between rows, between columns
    malformed: str = ""

    @property
    def is_known(self) -> bool:
        return self.position is not None and self.orientation is not None and self.pixel_spacing is not None


@dataclass(frozen=True, eq=False)
class Instance:
    """One image file's header. `planes` has one for each of the `frames`, or is empty if the header tells none.

    `n_groups` is how many frames its per-frame functional groups describe.

    `is_negative` images are meant to be shown with low values bright (MONOCHROME1). `native_bytes` is what its pixels
    take as the header has it, 0 if they are compressed.
    """

    path: Path
    uid: str
    sop_class: str
    identity: Identity
    series_number: str
    description: str
    rows: int
    columns: int
    frames: int
    is_colour: bool
    is_negative: bool
    native_bytes: int
    n_groups: int
    planes: tuple[Plane, ...]


def read_instance(path: Path) -> Instance | None:
    """The header of one file; None for a DICOM object that is not a scan. Raises as `open_dicom` does."""
    with quiet_pydicom():  # values are parsed, and remarked upon, when they are asked for
        return _instance(path, open_dicom(path, _TAGS))


def series_uid_of_damaged(path: Path) -> str:
    """What is left of a file that `read_instance` refuses may still say; else ""."""
    try:
        with quiet_pydicom():
            return _text(open_dicom(path, ["SeriesInstanceUID"], end=_SERIES + 1), "SeriesInstanceUID")
    except Exception:  # of any kind: it is damaged
        return ""


def open_dicom(path: Path, tags: Sequence[str] | None = None, *, end: int | None = _PIXELS) -> Dataset:
    """The data set of a file with or without preamble (only `tags` if given, none from `end` on), whose transfer syntax
    is always known.

    Takes no more memory than the file has bytes, whatever its elements promise. Raises what pydicom does, or
    `VolumeReadError`.
    """
    check_regular_file(path)
    if not has_dicom_content(path):
        raise InvalidDicomError(f"{path.name} is not DICOM.")
    with _Clamped(io.FileIO(path)) as stream:
        is_bare = stream.read(_PREAMBLE + 4)[_PREAMBLE:] != b"DICM"
        stream.seek(0 if is_bare else _PREAMBLE + 4)
        meta = read_dataset(stream, False, True, stop_when=lambda tag, _vr, _length: tag >> 16 != 2)
        if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            _check_inflated(path, stream)
        stream.seek(0)
        dataset = read_partial(
            stream,
            None if end is None else lambda tag, _vr, _length: tag >= end,
            force=is_bare,
            specific_tags=None if tags is None else [Tag(name) for name in tags],
        )
    if not dataset.file_meta.get("TransferSyntaxUID"):
        is_implicit, is_little_endian = dataset.original_encoding
        plain = ExplicitVRLittleEndian if is_little_endian else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVR if is_implicit else plain
    return dataset


def transfer_syntax(dataset: Dataset) -> UID:
    return UID(dataset.file_meta.TransferSyntaxUID)


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Silence pydicom's remarks on sloppy headers: what matters is checked, and said, here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class _Clamped(io.BufferedReader):
    """A file that takes no memory for bytes it does not have: lengths in headers may be anything."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _BLOCK:
            here = self.tell()
            size = min(size, self.seek(0, io.SEEK_END) - here)
            self.seek(here)
        return super().read(max(size, 0) if size is not None and size != -1 else -1)


def _check_inflated(path: Path, stream: io.BufferedReader) -> None:
    """Count what the rest of `stream` unpacks to, a block at a time."""
    inflator, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while not inflator.eof and (chunk := inflator.unconsumed_tail or stream.read(_BLOCK)):
        size += len(inflator.decompress(chunk, _BLOCK))
        if size > _MOST_INFLATED:
            raise VolumeReadError(
                f"{path.name} is too large: compressed, it holds more than {_MOST_INFLATED:,} bytes.",
                "If the scan is really that large, export it without compression; otherwise its content is damaged.",
            )


def _instance(path: Path, header: Dataset) -> Instance | None:
    if _text(header, "Modality") in _NOT_SCANS:
        return None
    if "Rows" not in header or "Columns" not in header:
        _check_not_cut_off(path, header)
        return None
    sizes = (_whole(path, header, name, default) for name, default in _SIZES.items())
    rows, columns, frames, samples, allocated = sizes
    bits = rows * columns * frames * samples * allocated
    photometric = _text(header, "PhotometricInterpretation")
    syntax = transfer_syntax(header)
    is_native = not syntax.is_compressed and syntax != DeflatedExplicitVRLittleEndian
    return Instance(
        path=path,
        uid=_text(header, "SOPInstanceUID"),
        sop_class=_text(header, "SOPClassUID"),
        identity=Identity(**{field: _text(header, name) for field, name in _IDENTITY.items()}),
        series_number=_text(header, "SeriesNumber"),
        description=_text(header, "SeriesDescription"),
        rows=rows,
        columns=columns,
        frames=frames,
        is_colour=samples > 1 or photometric.startswith("PALETTE"),
        is_negative=photometric == "MONOCHROME1",
        native_bytes=bits // 8 if is_native else 0,
        n_groups=len(header.get("PerFrameFunctionalGroupsSequence") or []),
        planes=_planes(header, frames),
    )


def _whole(path: Path, header: Dataset, name: str, default: int) -> int:
    """Also `default` where it is empty or 0."""
    try:
        number = int(header.get(name) or default)
    except (TypeError, ValueError):
        number = -1
    if number < 0:
        raise VolumeReadError(f"{path.name}: its {name} is not a whole number.", EXPORT_AGAIN)
    return number


def _check_not_cut_off(path: Path, header: Dataset) -> None:
    """Raise `VolumeReadError` if a header without a size must be what is left of an image's."""
    sop_class = _text(header, "SOPClassUID") or _text(header.file_meta, "MediaStorageSOPClassUID")
    # What has no preamble and names no class may be no DICOM at all.
    is_lost = not sop_class and (header.preamble is not None or is_named_dicom(path))
    if is_lost or _OF_IMAGES in UID(sop_class).name:
        raise VolumeReadError(
            f"{path.name} is incomplete: its header ends before the size of its image (Rows, Columns).", EXPORT_AGAIN
        )


def _text(header: Dataset, name: str) -> str:
    """Without the padding that some writers add."""
    return str(header.get(name) or "").strip(" \0")


def _planes(header: Dataset, frames: int) -> tuple[Plane, ...]:
    """From the functional groups of an enhanced object (a frame's own, else the shared ones), else from the top."""
    shared = next(iter(header.get("SharedFunctionalGroupsSequence") or []), Dataset())
    own = header.get("PerFrameFunctionalGroupsSequence") or []
    if len(own) != frames:
        # Several frames, and nothing that tells them apart.
        return (_plane([shared, header]),) if frames == 1 else ()
    return tuple(_plane([frame, shared, header]) for frame in own)


def _plane(groups: Sequence[Dataset]) -> Plane:
    try:
        position = _vector(groups, "PlanePositionSequence", "ImagePositionPatient", 3)
        orientation = _vector(groups, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
        spacing = _vector(groups, "PixelMeasuresSequence", "PixelSpacing", 2)
    except _MalformedError as error:
        return Plane(None, None, None, str(error))
    if spacing is not None and not np.all(spacing > 0):
        return Plane(position, orientation, None, f"PixelSpacing is {spacing[0]:g} x {spacing[1]:g} mm")
    return Plane(position, orientation, spacing)


class _MalformedError(ValueError):
    pass


def _vector(groups: Sequence[Dataset], sequence: str, name: str, length: int) -> np.ndarray | None:
    """The first of `groups` that has the value, in `sequence` or (in the last, the top) on its own.

    Raises `_MalformedError` for a value that is not `length` numbers.
    """
    for group in groups:
        holder = next(iter(group.get(sequence) or []), None)
        value = _value(holder, name) if holder is not None else None
        if value is None and group is groups[-1]:
            value = _value(group, name)
        if value is not None:
            return _finite(name, value, length)
    return None


def _value(holder: Dataset, name: str) -> object:
    """None also for an empty value."""
    try:
        value = holder.get(name)
    except Exception as error:  # pydicom raises many kinds
        raise _MalformedError(f"{name} is not a number") from error
    return None if value is None or value == "" or (isinstance(value, Sequence) and not len(value)) else value


def _finite(name: str, value: object, length: int) -> np.ndarray:
    values: list[Any] = [*value] if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if len(values) != length:
        raise _MalformedError(f"{name} has {len(values)} value(s) instead of {length}")
    try:
        vector = np.asarray([float(x) for x in values])
    except (TypeError, ValueError) as error:
        raise _MalformedError(f"{name} is not {length} numbers") from error
    if not np.all(np.isfinite(vector)):
        raise _MalformedError(f"{name} is not {length} numbers")
    return vector
