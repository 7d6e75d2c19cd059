"""A compressed frame that claims to be far larger than its file's header says: refused before memory is taken."""

from __future__ import annotations

import resource
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEGLSLossless, RLELossless

from MAESegmentLib.errors import VolumeReadError
from MAESegmentLib.images.formats.dicom.codestream import check_codestreams
from MAESegmentLib.images.formats.dicom.pixels import read_frames
from Testing.dicom_series import SeriesRecipe

HUGE = 40_000
#: More than reading a frame of 64 x 64 takes, far less than the claimed size would.
MEMORY = 3 << 30


def _large_jpeg_ls(frame: bytes) -> bytes:
    place = frame.index(b"\xff\xf7") + 5
    return frame[:place] + struct.pack(">HH", HUGE, HUGE) + frame[place + 4 :]


def _endless_rle(_frame: bytes) -> bytes:
    return struct.pack("<16I", 2, 64, 64 + 2_000_000, *[0] * 13) + b"\x81\0" * 2_000_000


FORGED = {"JPEG-LS": (JPEGLSLossless, _large_jpeg_ls), "RLE": (RLELossless, _endless_rle)}


@pytest.fixture(params=FORGED)
def forged(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    syntax, forge = FORGED[request.param]
    return _series(tmp_path, syntax, forge)


def _series(folder: Path, syntax: str, forge: Callable[[bytes], bytes]) -> Path:
    SeriesRecipe(np.arange(4 * 64 * 64, dtype="<u2").reshape(4, 64, 64)).write(folder)
    for path in (item for item in folder.rglob("*") if item.is_file()):
        dataset = dcmread(path)
        dataset.compress(syntax)
        (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
        dataset.PixelData = encapsulate([forge(frame)])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        dataset.save_as(path)
    return folder


def test_it_is_refused_with_both_sizes_within_little_memory(forged: Path) -> None:
    script = (
        "import sys\nfrom MAESegmentLib.images import read_volume\nfrom MAESegmentLib.errors import VolumeReadError\n"
        "try: read_volume(sys.argv[1])\nexcept VolumeReadError as error: print(error)"
    )

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    done = subprocess.run(
        [sys.executable, "-c", script, str(forged)], preexec_fn=limit, capture_output=True, text=True, timeout=300
    )
    assert "its pixels cannot be decoded" in done.stdout, done.stdout + done.stderr
    assert "64 x 64" in done.stdout


@pytest.mark.parametrize("syntax", [JPEGLSLossless, RLELossless])
def test_a_frame_of_the_right_size_passes(tmp_path: Path, syntax: str) -> None:
    folder = _series(tmp_path, syntax, lambda frame: frame)
    first = next(item for item in sorted(folder.rglob("*")) if item.is_file())
    (voxels,) = read_frames(first, [0]).voxels
    assert voxels.shape == (64, 64)


@pytest.mark.parametrize(
    ("name", "marker", "place"), [("JPEG2000.dcm", b"\xff\x51", 6), ("JPGExtended.dcm", b"\xff\xc1", 5)]
)
def test_real_files_pass_and_the_same_with_another_size_do_not(name: str, marker: bytes, place: int) -> None:
    dataset = dcmread(get_testdata_file(name))
    check_codestreams(dataset, [0])
    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    at = frame.index(marker) + place
    width = ">II" if marker == b"\xff\x51" else ">HH"
    size = struct.pack(width, HUGE, HUGE)
    dataset.PixelData = encapsulate([frame[:at] + size + frame[at + len(size) :]])
    with pytest.raises(VolumeReadError, match="40000 x 40000"):
        check_codestreams(dataset, [0])
