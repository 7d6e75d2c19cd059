"""What compressed pixels say of their own size, compared with the file's header before a decoder takes memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import UID, RLELossless

from ....errors import VolumeReadError
from .headers import quiet_pydicom, transfer_syntax

#: Markers of a JPEG's (or JPEG-LS's) header with its size.
_STARTS_OF_FRAME = ({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}) | {0xF7}
#: A JPEG 2000 codestream begins with these markers, behind the boxes that some writers put before it.
_CODESTREAM_2000 = b"\xff\x4f\xff\x51"
_BOXES_AT_MOST = 1 << 16
#: RLE (PackBits) makes a segment twice as long in the clumsiest of writers, and may pad it; its header has 64 bytes.
_RLE_HEADER, _RLE_PADDING = 64, 2


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
    with quiet_pydicom():
        frames = list(generate_frames(dataset.PixelData, number_of_frames=int(dataset.get("NumberOfFrames") or 1)))
    size = (int(dataset.Rows), int(dataset.Columns))
    for index in indices:
        if index < len(frames):  # that frames are missing is for the decoder to say
            _check_frame(frames[index], syntax, size, dataset)


def _check_frame(frame: bytes, syntax: UID, size: tuple[int, int], dataset: Dataset) -> None:
    if syntax == RLELossless:
        _check_rle(frame, size, dataset)
        return
    found = _size_2000(frame) if frame[:1] != b"\xff" or frame[1:2] == b"\x4f" else _size(frame)
    if found is not None and found != size:
        raise VolumeReadError(
            f"its pixels cannot be decoded: compressed, they are {found[1]} x {found[0]}; its header says "
            f"{size[1]} x {size[0]}.",
            "Export the series again from the archive (PACS).",
        )


def _size(frame: bytes) -> tuple[int, int] | None:
    header = jpeg_header(frame)
    return None if header is None else (header.rows, header.columns)


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
            "Export the series again from the archive (PACS).",
        )
