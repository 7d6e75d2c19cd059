"""The voxels of one DICOM file, decoded and rescaled, whatever its compression: one way for every kind of image."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import get_decoder
from pydicom.uid import (
    UID,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from ....errors import MAESegmentError, VolumeReadError
from ...limits import check_size
from .codestream import check_codestreams, jpeg_header
from .headers import open_dicom, quiet_pydicom, transfer_syntax
from .rescale import RESCALE_TAGS, Rescale, rescale_of

DAMAGED = "Export the series again from the archive (PACS)."
_FLOATING = ("FloatPixelData", "DoubleFloatPixelData")
#: What describes one frame's pixels.
_PIXEL_TAGS = (
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)
_TAGS = [
    *_PIXEL_TAGS,
    "NumberOfFrames",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "PixelData",
    *_FLOATING,
    *RESCALE_TAGS,
]
#: What pydicom reads some forms of, or none: lossless, 12 bits. The rest it reads as GDCM would.
_BY_GDCM = {JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1}
#: What every JPEG (also LS and 2000) ends with.
_END_OF_IMAGE = b"\xff\xd9"
#: What fills a frame up to an even length; some writers take the second.
_PADDING = b"\0\xff"


@dataclass(frozen=True, eq=False)
class DecodedFrames:
    """`voxels` yields the frames asked for, (J, I) each, in the units that `rescales` lead to, as float32."""

    voxels: Iterator[np.ndarray]
    rescales: tuple[Rescale, ...]


def read_frames(path: Path, indices: Sequence[int]) -> DecodedFrames:
    """The frames `indices` of a grey-value image. Raises `VolumeReadError`, also while `voxels` are taken."""
    try:
        with quiet_pydicom():
            dataset = open_dicom(path, _TAGS, pixels=True)
            _check_pixels(path, dataset)
            assumed = _complete(dataset)
            rescales = tuple(rescale_of(path.name, dataset, index) for index in indices)
    except MAESegmentError:
        raise
    except Exception as error:  # pydicom raises many kinds
        raise VolumeReadError(f"{path.name} cannot be read; the file is damaged.", DAMAGED) from error
    if assumed:
        rescales = tuple(replace(rescale, assumed=(*rescale.assumed, *assumed)) for rescale in rescales)
    return DecodedFrames(_rescaled(path, dataset, indices, rescales), rescales)


def _complete(dataset: Dataset) -> tuple[str, ...]:
    """Put in what describes the pixels and is missing or cannot be, as GDCM does; returns what was assumed."""
    if "PixelData" not in dataset:
        return ()
    assumed = []
    allocated = int(dataset.BitsAllocated)
    stored = dataset.get("BitsStored")
    if stored is None or not 0 < int(stored) <= allocated:
        assumed.append(f"BitsStored is {'missing' if stored is None else stored}, and taken as {allocated}")
        dataset.BitsStored, dataset.HighBit = allocated, allocated - 1
    for name, value in (
        ("SamplesPerPixel", 1),
        ("PhotometricInterpretation", "MONOCHROME2"),
        ("PixelRepresentation", 0),
    ):
        if dataset.get(name) in (None, ""):
            assumed.append(f"{name} is missing, and taken as {value}")
            setattr(dataset, name, value)
    return tuple(assumed)


def _rescaled(
    path: Path, dataset: Dataset, indices: Sequence[int], rescales: Sequence[Rescale]
) -> Iterator[np.ndarray]:
    for stored, rescale in zip(_stored(path, dataset, indices), rescales, strict=True):
        try:
            yield rescale.apply(stored)
        except VolumeReadError as error:
            raise VolumeReadError(f"{path.name}: {error.message}", error.hint) from error


def _stored(path: Path, dataset: Dataset, indices: Sequence[int]) -> Iterator[np.ndarray]:
    """Frames as stored: pydicom decodes them, or what it has no way for (lossless and 12-bit JPEG), GDCM."""
    try:
        check_codestreams(dataset, indices)
    except VolumeReadError as error:
        raise VolumeReadError(f"{path.name}: {error.message}", error.hint) from None
    except Exception as error:  # of pydicom
        raise _undecodable(path, dataset, indices[0]) from error
    decoder = _pydicom(dataset, indices)
    for place, index in enumerate(indices):
        try:
            with quiet_pydicom():
                frame = next(decoder)
        except VolumeReadError as error:
            raise VolumeReadError(f"{path.name}: {error.message}", error.hint) from None
        except Exception as error:  # decoders raise many kinds
            yield from _by_gdcm(path, dataset, indices[place:], error)
            return
        if frame.shape != (dataset.Rows, dataset.Columns):
            raise _undecodable(path, dataset, index)
        yield frame


def _pydicom(dataset: Dataset, indices: Sequence[int]) -> Iterator[np.ndarray]:
    syntax = transfer_syntax(dataset)
    if dataset.get("BitsAllocated") == 1 and not syntax.is_compressed and "PixelData" in dataset:
        yield from _bits(dataset, indices)
        return
    # RLE packs the bytes of the pixels as they are; the others know their own bits unless the header gives odd ones.
    is_plain = not syntax.is_compressed or syntax == RLELossless or _is_high_bit_odd(dataset)
    # The unused bits are dealt with below: pydicom takes the highest bit to be the last of those stored.
    options = {"correct_unused_bits": False} if is_plain else {}
    for frame, _about in get_decoder(syntax).iter_array(dataset, indices=indices, raw=True, **options):
        yield _used_bits(frame, dataset) if is_plain and frame.dtype.kind in "iu" else frame


def _bits(dataset: Dataset, indices: Sequence[int]) -> Iterator[np.ndarray]:
    """Frames of one bit a pixel, which need not begin at a byte."""
    size = int(dataset.Rows) * int(dataset.Columns)
    packed = np.frombuffer(dataset.PixelData, np.uint8)
    for index in indices:
        start, stop = index * size, (index + 1) * size
        bits = np.unpackbits(packed[start // 8 : -(-stop // 8)], bitorder="little")[start % 8 :][:size]
        yield bits.reshape(int(dataset.Rows), int(dataset.Columns))


def _is_high_bit_odd(dataset: Dataset) -> bool:
    bits, high = dataset.get("BitsStored"), dataset.get("HighBit")
    return bits is not None and high is not None and int(high) != int(bits) - 1


def _used_bits(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    """`stored` without the bits around those that are the value (old files keep overlays there), sign extended."""
    width = stored.dtype.itemsize * 8
    bits = int(dataset.get("BitsStored") or width)
    high = int(dataset.get("HighBit") or bits - 1)
    if high != bits - 1:
        high = _true_high_bit(stored, bits, high)
    if bits >= width:
        return stored
    # To the left so that the highest bit becomes the sign, then back.
    return (stored << (width - 1 - high)) >> (width - bits)


def _true_high_bit(stored: np.ndarray, bits: int, high: int) -> int:
    """Where the value is if HighBit is not the last of BitsStored, as it should be: by the bits that are set at all."""
    used = int(np.bitwise_or.reduce(stored.view(stored.dtype.str.replace("i", "u")), axis=None))
    if used >> bits == 0:
        return bits - 1
    below = high + 1 - bits
    if below > 0 and used & ((1 << below) - 1) == 0 and used >> (high + 1) == 0:
        return high
    raise VolumeReadError(
        f"BitsStored is {bits} and HighBit {high}, which do not go together, so which bits are the grey values is not "
        "known.",
        DAMAGED,
    )


def _check_pixels(path: Path, dataset: Dataset) -> None:
    """All voxels that the header promises are there, and not more than can be read."""
    frames = int(dataset.get("NumberOfFrames") or 1)
    shape = (int(dataset.Columns), int(dataset.Rows), frames)
    name = next((name for name in ("PixelData", *_FLOATING) if name in dataset), None)
    if name is None:
        raise VolumeReadError(f"{path.name} has no voxels: the file is a header only.", DAMAGED)
    if not dataset.get("BitsAllocated"):
        raise VolumeReadError(f"{path.name}: its header lacks BitsAllocated, the size of a pixel.", DAMAGED)
    check_size(path.name, shape, max(int(dataset.BitsAllocated) // 8, 1))
    if transfer_syntax(dataset).is_compressed:
        return
    expected = np.prod(shape, dtype=np.int64) * int(dataset.BitsAllocated) // 8
    present = len(dataset[name].value or b"")
    if present < expected:
        raise VolumeReadError(
            f"{path.name} is incomplete: its header promises {expected:,} bytes of voxels, {present:,} are there.",
            DAMAGED,
        )


def _by_gdcm(path: Path, dataset: Dataset, indices: Sequence[int], cause: Exception) -> Iterator[np.ndarray]:
    syntax = transfer_syntax(dataset)
    try:
        frames = _encoded(dataset, syntax)
    except Exception as error:
        raise _undecodable(path, dataset, indices[0]) from error
    for index in indices:
        try:
            # ITK gives grey for what is missing at the end, and crashes where sizes differ.
            if not frames[index].rstrip(_PADDING).endswith(_END_OF_IMAGE) or not _is_as_promised(
                dataset, frames[index]
            ):
                raise _undecodable(path, dataset, index) from cause
            voxels = _gdcm(dataset, syntax, frames[index])
        except MAESegmentError:
            raise
        except Exception as error:
            raise _undecodable(path, dataset, index) from error
        if voxels.shape != (dataset.Rows, dataset.Columns):
            raise _undecodable(path, dataset, index) from cause
        yield voxels


def _encoded(dataset: Dataset, syntax: UID) -> list[bytes]:
    """Each frame's compressed bytes."""
    count = int(dataset.get("NumberOfFrames") or 1)
    if syntax not in _BY_GDCM:
        raise ValueError("pydicom reads all that are whole")
    with quiet_pydicom():
        frames = list(generate_frames(dataset.PixelData, number_of_frames=count))
    if len(frames) != count:
        raise ValueError("frames are missing")
    return frames


def _is_as_promised(dataset: Dataset, frame: bytes) -> bool:
    """Whether the JPEG's own header has no more bits than that of the file; sizes were compared before."""
    header = jpeg_header(frame)
    return header is not None and header.components == 1 and header.bits <= int(dataset.BitsAllocated)


def _gdcm(dataset: Dataset, syntax: UID, frame: bytes) -> np.ndarray:
    """One frame through ITK's GDCM, as a file of its own without any rescaling."""
    alone = Dataset()
    alone.file_meta = FileMetaDataset()
    alone.file_meta.TransferSyntaxUID = syntax
    alone.SOPClassUID, alone.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    alone.Modality = "OT"
    for name in _PIXEL_TAGS:
        if name in dataset:
            alone[name] = dataset[name]
    alone.PixelData = encapsulate([frame])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "frame.dcm"
        with quiet_pydicom():
            alone.save_as(file, enforce_file_format=True)
        return sitk.GetArrayFromImage(sitk.ReadImage(str(file), imageIO="GDCMImageIO"))[0]


def _undecodable(path: Path, dataset: Dataset, index: int) -> VolumeReadError:
    syntax = transfer_syntax(dataset)
    frame = f" of frame {index + 1}" if int(dataset.get("NumberOfFrames") or 1) > 1 else ""
    if not syntax.is_compressed:
        bits = dataset.get("BitsAllocated")
        return VolumeReadError(
            f"{path.name}: its pixels{frame} ({bits} bits each) cannot be decoded; the file is damaged.", DAMAGED
        )
    return VolumeReadError(
        f"{path.name}: its pixels{frame} cannot be decoded: they are compressed as {syntax.name}, and are damaged or "
        "of a form of it that is not supported.",
        "Export the series again from the archive (PACS), uncompressed (Explicit VR Little Endian).",
    )
