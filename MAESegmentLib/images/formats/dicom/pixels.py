"""The voxels of one DICOM file, decoded and rescaled, whatever its compression: one way for every kind of image."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
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
from ..decoding import named, refuse_short
from .headers import EXPORT_AGAIN, open_dicom, quiet_pydicom, transfer_syntax
from .rescale import RESCALE_TAGS, Rescale, rescale_of

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
#: Markers of a JPEG's (or JPEG-LS's) header with its size.
_STARTS_OF_FRAME = ({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}) | {0xF7}
#: A JPEG 2000 codestream begins with these markers, behind the boxes that some writers put before it.
_CODESTREAM_2000 = b"\xff\x4f\xff\x51"
_BOXES_AT_MOST = 1 << 16
#: RLE (PackBits) makes a segment twice as long in the clumsiest of writers, and may pad it; its header has 64 bytes.
_RLE_HEADER, _RLE_PADDING = 64, 2


def read_frames(path: Path, indices: Sequence[int]) -> tuple[Iterator[np.ndarray], tuple[Rescale, ...]]:
    """The frames `indices` of a grey-value image, (J, I) float32 each, and the rescaling that led to their units.

    Raises `VolumeReadError`, also while the frames are taken.
    """
    try:
        with quiet_pydicom():
            dataset = open_dicom(path, _TAGS, end=None)
            _check_pixels(path, dataset)
            assumed = _complete(dataset)
            rescales = tuple(rescale_of(path.name, dataset, index) for index in indices)
    except MAESegmentError:
        raise
    except Exception as error:  # pydicom raises many kinds
        raise VolumeReadError(f"{path.name} cannot be read; the file is damaged.", EXPORT_AGAIN) from error
    if assumed:
        rescales = tuple(replace(rescale, assumed=(*rescale.assumed, *assumed)) for rescale in rescales)
    return _rescaled(path, dataset, indices, rescales), rescales


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
        with named(path.name):
            voxels = rescale.apply(stored)
        yield voxels


def _stored(path: Path, dataset: Dataset, indices: Sequence[int]) -> Iterator[np.ndarray]:
    """Frames as stored: pydicom decodes them, or what it has no way for (lossless and 12-bit JPEG), GDCM."""
    decoder = _pydicom(dataset, indices)
    for place, index in enumerate(indices):
        try:
            with quiet_pydicom(), named(path.name):
                if not place:
                    check_codestreams(dataset, indices)
                frame = next(decoder)
        except VolumeReadError:
            raise
        except Exception:  # decoders raise many kinds
            yield from _by_gdcm(path, dataset, indices[place:])
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
        EXPORT_AGAIN,
    )


def _check_pixels(path: Path, dataset: Dataset) -> None:
    """All voxels that the header promises are there, and not more than can be read."""
    if not any(name in dataset for name in ("PixelData", *_FLOATING)):
        raise VolumeReadError(f"{path.name} has no voxels: the file is a header only.", EXPORT_AGAIN)
    if not dataset.get("BitsAllocated"):
        raise VolumeReadError(f"{path.name}: its header lacks BitsAllocated, the size of a pixel.", EXPORT_AGAIN)
    shape = (int(dataset.Columns), int(dataset.Rows), frame_count(dataset))
    check_size(path.name, shape, max(int(dataset.BitsAllocated) // 8, 1))
    check_complete(path, dataset, EXPORT_AGAIN)


def check_complete(path: Path, dataset: Dataset, hint: str) -> None:
    """Raise `VolumeReadError` if voxels that are not compressed take fewer bytes than the header promises."""
    if transfer_syntax(dataset).is_compressed:
        return
    bits = int(dataset.Rows) * int(dataset.Columns) * frame_count(dataset) * int(dataset.BitsAllocated)
    present = max(len(dataset.get(name) or b"") for name in ("PixelData", *_FLOATING))
    if present < -(-bits // 8):
        refuse_short(path, -(-bits // 8), present, hint)


def frame_count(dataset: Dataset) -> int:
    return int(dataset.get("NumberOfFrames") or 1)


def _by_gdcm(path: Path, dataset: Dataset, indices: Sequence[int]) -> Iterator[np.ndarray]:
    encoded: list[bytes] = []
    for index in indices:
        try:
            encoded = encoded or _encoded(dataset)
            if transfer_syntax(dataset) not in _BY_GDCM or len(encoded) != frame_count(dataset):
                raise ValueError("of a form that pydicom reads if it is whole, or frames are missing")
            voxels = _gdcm(dataset, encoded[index])
            if voxels.shape != (dataset.Rows, dataset.Columns):
                raise ValueError("of another size than the header says")
        except Exception as error:
            raise _undecodable(path, dataset, index) from error
        yield voxels


def _encoded(dataset: Dataset) -> list[bytes]:
    """Each frame's compressed bytes."""
    with quiet_pydicom():
        return list(generate_frames(dataset.PixelData, number_of_frames=frame_count(dataset)))


def _gdcm(dataset: Dataset, frame: bytes) -> np.ndarray:
    """One frame through ITK's GDCM, as a file of its own without any rescaling.

    ITK gives grey for what is missing at the end, and crashes where sizes differ; those were compared before.
    """
    header = jpeg_header(frame)
    is_as_promised = header is not None and header.components == 1 and header.bits <= int(dataset.BitsAllocated)
    if not is_as_promised or not frame.rstrip(_PADDING).endswith(_END_OF_IMAGE):
        raise ValueError("cut off, or not as the header says")
    alone = Dataset()
    alone.file_meta = FileMetaDataset()
    alone.file_meta.TransferSyntaxUID = transfer_syntax(dataset)
    alone.SOPClassUID, alone.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    alone.Modality = "OT"
    for name in _PIXEL_TAGS:
        if name in dataset:
            alone[name] = dataset[name]
    alone.PixelData = encapsulate([frame])
    import SimpleITK as sitk  # noqa: N813  # large, and only these need it

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "frame.dcm"
        with quiet_pydicom():
            alone.save_as(file, enforce_file_format=True)
        return sitk.GetArrayFromImage(sitk.ReadImage(str(file), imageIO="GDCMImageIO"))[0]


def _undecodable(path: Path, dataset: Dataset, index: int) -> VolumeReadError:
    syntax = transfer_syntax(dataset)
    frame = f" of frame {index + 1}" if frame_count(dataset) > 1 else ""
    if not syntax.is_compressed:
        bits = dataset.get("BitsAllocated")
        return VolumeReadError(
            f"{path.name}: its pixels{frame} ({bits} bits each) cannot be decoded; the file is damaged.", EXPORT_AGAIN
        )
    return VolumeReadError(
        f"{path.name}: its pixels{frame} cannot be decoded: they are compressed as {syntax.name}, and are damaged or "
        "of a form of it that is not supported.",
        "Export the series again from the archive (PACS), uncompressed (Explicit VR Little Endian).",
    )


# --- what compressed pixels say of their own size, compared with the header before a decoder takes memory -------------


@dataclass(frozen=True)
class JpegHeader:
    """What a JPEG says of itself: lines, columns, bits a sample and samples a pixel."""

    rows: int
    columns: int
    bits: int
    components: int


def jpeg_header(frame: bytes) -> JpegHeader | None:
    """Of a JPEG or JPEG-LS; None if there is none."""
    place = 2
    while place + 10 <= len(frame) and frame[place] == 0xFF:
        marker = frame[place + 1]
        if marker == 0xFF:  # fills up
            place += 1
            continue
        if marker in _STARTS_OF_FRAME:
            rows, columns = (int.from_bytes(frame[place + at : place + at + 2], "big") for at in (5, 7))
            return JpegHeader(rows, columns, frame[place + 4], frame[place + 9])
        place += 2 + int.from_bytes(frame[place + 2 : place + 4], "big")
    return None


def check_codestreams(dataset: Dataset, indices: Sequence[int]) -> None:
    """Raise `VolumeReadError` unless the compressed frames `indices` are as large as the header says.

    A decoder believes the frame: a few kilobytes can stand for 65,535 x 65,535 pixels.
    """
    syntax = transfer_syntax(dataset)
    if not syntax.is_compressed or "PixelData" not in dataset:
        return
    frames = _encoded(dataset)
    size = (int(dataset.Rows), int(dataset.Columns))
    for index in indices:
        if index < len(frames):  # that frames are missing is for the decoder to say
            _check_frame(frames[index], syntax, size, dataset)


def _check_frame(frame: bytes, syntax: UID, size: tuple[int, int], dataset: Dataset) -> None:
    if syntax == RLELossless:
        _check_rle(frame, size, dataset)
        return
    if frame[:1] != b"\xff" or frame[1:2] == b"\x4f":
        found = _size_2000(frame)
    else:
        header = jpeg_header(frame)
        found = None if header is None else (header.rows, header.columns)
    if found is not None and found != size:
        raise VolumeReadError(
            f"its pixels cannot be decoded: compressed, they are {found[1]} x {found[0]}; its header says "
            f"{size[1]} x {size[0]}.",
            EXPORT_AGAIN,
        )


def _size_2000(frame: bytes) -> tuple[int, int] | None:
    start = frame.find(_CODESTREAM_2000, 0, _BOXES_AT_MOST)
    if start < 0 or start + 24 > len(frame):
        return None
    # Behind SOC, SIZ, its length and capabilities: the reference grid's size and where the image begins on it.
    columns, rows, left, top = (int.from_bytes(frame[start + at : start + at + 4], "big") for at in range(8, 24, 4))
    return rows - top, columns - left


def _check_rle(frame: bytes, size: tuple[int, int], dataset: Dataset) -> None:
    """RLE unpacks to 64 times its length at most, so that its length bounds the memory."""
    samples = int(dataset.get("SamplesPerPixel") or 1)
    segments = max(1, samples * int(dataset.get("BitsAllocated") or 8) // 8)
    pixels = size[0] * size[1]
    most = _RLE_HEADER + segments * (2 * pixels + _RLE_PADDING)
    if len(frame) > most:
        raise VolumeReadError(
            f"its pixels cannot be decoded: compressed, they take {len(frame):,} bytes; {size[1]} x {size[0]} pixels "
            f"take {most:,} at most.",
            EXPORT_AGAIN,
        )
