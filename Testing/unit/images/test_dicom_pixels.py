"""Voxels of DICOM files as GDCM has them, whatever they are compressed and rescaled by; or the true reason why not."""

from __future__ import annotations

import resource
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import DeflatedExplicitVRLittleEndian as Deflated
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from MAESegmentLib.errors import VolumeReadError
from MAESegmentLib.images import read_volume
from MAESegmentLib.images.formats.dicom.pixels import check_codestreams, read_frames
from Testing.dicom_series import SeriesRecipe, edit, head, put, write_enhanced

#: What pydicom has a decoder for in this installation, and what it takes ITK's GDCM for.
COMPRESSIONS = {"JPEG2000": JPEG2000Lossless, "JPEG": JPEGLosslessSV1, "JPEGLS": JPEGLSLossless, "RLE": RLELossless}
HUGE = 40_000
#: More than reading a frame of 64 x 48 takes, far less than the claimed size would.
MEMORY = 3 << 30
PYDICOM_FILES = (
    "693_J2KI.dcm",
    "CT_small.dcm",
    "J2K_pixelrep_mismatch.dcm",
    "JPEG-lossy.dcm",
    "JPEG2000.dcm",
    "JPEGLSNearLossless_08.dcm",
    "JPEGLSNearLossless_16.dcm",
    "JPGExtended.dcm",
    "MR_small.dcm",
    "MR_small_RLE.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_expb.dcm",
    "MR_small_implicit.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "MR_small_padded.dcm",
    "examples_overlay.dcm",
    "image_dfl.dcm",
)


def gdcm(file: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file), imageIO="GDCMImageIO"))


def first_frame(file: Path) -> np.ndarray:
    return next(read_frames(file, [0])[0])


@pytest.mark.parametrize("name", PYDICOM_FILES)
def test_voxels_of_real_files_equal_gdcms(name: str) -> None:
    file = Path(str(get_testdata_file(name)))
    np.testing.assert_array_equal(first_frame(file), gdcm(file)[0])


@pytest.mark.parametrize(
    ("slope", "intercept", "said"),
    [
        (2, None, "RescaleIntercept is missing"),
        (None, -1024, "RescaleSlope is missing"),
        ("", -1024, "RescaleSlope is missing or empty"),
        (0, -1024, "RescaleSlope is 0"),
        (2, "", "RescaleIntercept is missing or empty"),
        (-1, 3, ""),
        (None, None, ""),
    ],
)
def test_incomplete_rescaling_is_read_as_gdcm_does_and_said(
    tmp_path: Path, slope: object, intercept: object, said: str
) -> None:
    folder = head().write(tmp_path / "series", edit(RescaleSlope=slope, RescaleIntercept=intercept))
    volume = read_volume(folder)
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    np.testing.assert_array_equal(volume.array[0], sitk.GetArrayFromImage(image).T)
    assert [said in note for note in volume.notes] == [True] * bool(said)


def test_slices_without_rescaling_among_others_are_read_as_gdcm_does_and_said(tmp_path: Path) -> None:
    recipe = head()
    change = edit(lambda k: k >= 5, RescaleSlope=None, RescaleIntercept=None)
    volume = read_volume(recipe.write(tmp_path / "series", change))
    expected = recipe.stored.T - np.where(np.arange(8) < 5, 1024, 0)
    np.testing.assert_array_equal(volume.array[0], expected)
    (note,) = volume.notes
    assert "3 of 8 slices have neither RescaleSlope nor RescaleIntercept" in note


@pytest.mark.parametrize("text", [b"abc ", b"1,5 ", b"1e400 ", b"nan ", b"2\\3 ", b"1_0 "])
@pytest.mark.parametrize("attribute", ["RescaleSlope", "RescaleIntercept"])
def test_rescaling_that_is_no_number_is_refused_by_its_name(tmp_path: Path, text: bytes, attribute: str) -> None:
    with pytest.raises(VolumeReadError, match=f"{attribute} .* is not a number"):
        read_volume(head().write(tmp_path / "series", edit(lambda k: k == 3, **{attribute: text})))


def test_enhanced_frames_have_their_own_rescaling(tmp_path: Path) -> None:
    recipe = head(4)

    def change(dataset: Dataset) -> None:
        for k, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
            frame.PixelValueTransformationSequence[0].RescaleSlope = k + 1

    folder = write_enhanced(recipe, tmp_path / "in", shared=("orientation", "measures"), change=change)
    expected = recipe.stored.T * np.arange(1, 5) - 1024
    np.testing.assert_array_equal(read_volume(folder).array[0], expected)


def test_table_of_grey_values_is_applied(tmp_path: Path) -> None:
    recipe, table = head(4), Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [2001, 0, 16], "US"
    table.LUTData = (3 * np.arange(2001)).astype("<u2").tobytes()
    change = edit(RescaleSlope=None, RescaleIntercept=None, ModalityLUTSequence=[table])
    np.testing.assert_array_equal(read_volume(recipe.write(tmp_path / "s", change)).array[0], 3 * recipe.stored.T)


def _saved(file: Path, **values: object) -> Path:
    """One slice without rescaling, of these `values`."""
    image = pydicom.dcmread(next(head(1).write(file.parent / "one").iterdir()))
    for name, value in {"RescaleIntercept": 0, **values}.items():
        put(image, name, value)
    image.save_as(file, enforce_file_format=True)
    return file


def _pixels(values: object) -> bytes:
    """Of 6 x 5 pixels."""
    return np.broadcast_to(np.asarray(values, "<u2"), (6, 5)).tobytes()


@given(bits=st.integers(2, 16), is_signed=st.booleans(), syntax=st.sampled_from([ExplicitVRLittleEndian, Deflated]))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_only_the_stored_bits_are_the_value(tmp_path: Path, bits: int, is_signed: bool, syntax: str) -> None:
    stored = np.random.default_rng(bits).integers(0, 1 << 16, (6, 5))
    described = {"BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": int(is_signed)}
    file = _saved(tmp_path / "one.dcm", **described, TransferSyntaxUID=syntax, PixelData=_pixels(stored))
    np.testing.assert_array_equal(first_frame(file), gdcm(file)[0])


@pytest.mark.parametrize(
    ("high", "stored", "expected"), [(15, 0x0ABC, 0x0ABC), (15, 0xABC0, 0x0ABC), (13, 0x2AF4, 0x0ABD)]
)
def test_high_bit_beside_the_stored_bits_is_believed_if_the_voxels_agree(
    tmp_path: Path, high: int, stored: int, expected: int
) -> None:
    file = _saved(tmp_path / "one.dcm", BitsStored=12, HighBit=high, PixelData=_pixels(stored))
    assert np.all(first_frame(file) == expected)


def test_high_bit_that_cannot_be_right_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VolumeReadError, match=r"one\.dcm: BitsStored is 12 and HighBit 15"):
        first_frame(_saved(tmp_path / "one.dcm", BitsStored=12, HighBit=15, PixelData=_pixels(0xABCD)))


@pytest.fixture(scope="module")
def compress(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Dataset, str], None]:
    """Compress every frame of a data set, by ITK where pydicom cannot."""
    place = tmp_path_factory.mktemp("compressed")

    def change(dataset: Dataset, kind: str) -> None:
        if kind in ("JPEGLS", "RLE"):
            dataset.compress(COMPRESSIONS[kind])
            return
        frames = np.frombuffer(dataset.PixelData, "<u2").reshape(-1, dataset.Rows, dataset.Columns)
        encoded = []
        for frame in frames:
            writer = sitk.ImageFileWriter()
            writer.SetFileName(str(place / "one.dcm"))
            writer.SetImageIO("GDCMImageIO")
            writer.UseCompressionOn()
            writer.SetCompressor(kind)
            writer.Execute(sitk.GetImageFromArray(frame.astype(np.uint16)))
            written = pydicom.dcmread(place / "one.dcm")
            assert written.file_meta.TransferSyntaxUID == COMPRESSIONS[kind]
            encoded += list(generate_frames(written.PixelData, number_of_frames=1))
        _encapsulate(dataset, encoded, COMPRESSIONS[kind])

    return change


def _encapsulate(dataset: Dataset, frames: list[bytes], syntax: str) -> None:
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax


def _larger() -> SeriesRecipe:
    """Slices that JPEG 2000 has enough pixels of."""
    return SeriesRecipe(np.random.default_rng(1).integers(0, 2000, (4, 64, 48)))


@pytest.mark.parametrize("kind", COMPRESSIONS)
def test_compressed_series_and_enhanced_files_equal_the_uncompressed(
    tmp_path: Path, compress: Callable[[Dataset, str], None], kind: str
) -> None:
    recipe = _larger()
    series = recipe.write(tmp_path / "series", lambda _, dataset: compress(dataset, kind))
    enhanced = write_enhanced(recipe, tmp_path / "enhanced", change=lambda dataset: compress(dataset, kind))
    for folder in (series, enhanced):
        np.testing.assert_array_equal(read_volume(folder).array[0], recipe.stored.T.astype(float) - 1024)


@pytest.mark.parametrize("kind", COMPRESSIONS)
def test_compressed_frames_that_are_cut_off_are_refused_by_name_of_the_compression(
    tmp_path: Path, compress: Callable[[Dataset, str], None], kind: str
) -> None:
    def cut(dataset: Dataset) -> None:
        compress(dataset, kind)
        frames = list(generate_frames(dataset.PixelData, number_of_frames=4))
        dataset.PixelData = encapsulate([*frames[:3], frames[3][: len(frames[3]) // 4 * 2]])

    with pytest.raises(VolumeReadError, match=COMPRESSIONS[kind].name.split(",")[0].split(" (")[0]) as refusal:
        read_volume(write_enhanced(_larger(), tmp_path / "in", change=cut))
    assert "frame 4" in refusal.value.message
    assert "uncompressed" in refusal.value.hint


@pytest.mark.parametrize("kind", ["JPEG", "JPEGLS", "JPEG2000"])
@pytest.mark.parametrize("size", [(0, 0), (64, 0), (64, 65_535), (1, 1)])
def test_compressed_frames_of_another_size_are_refused(
    tmp_path: Path, compress: Callable[[Dataset, str], None], kind: str, size: tuple[int, int]
) -> None:
    """ITK's decoders take the process down with them."""
    marker = {"JPEG": b"\xff\xc3", "JPEGLS": b"\xff\xf7", "JPEG2000": b"\xff\x51"}[kind]
    before, after, width = (6, 14, 4) if kind == "JPEG2000" else (5, 9, 2)
    values = size[::-1] if kind == "JPEG2000" else size

    def change(_: int, dataset: Dataset) -> None:
        compress(dataset, kind)
        frame = bytearray(next(generate_frames(dataset.PixelData, number_of_frames=1)))
        place = frame.index(marker)
        frame[place + before : place + after] = b"".join(value.to_bytes(width, "big") for value in values)
        dataset.PixelData = encapsulate([bytes(frame)])

    with pytest.raises(VolumeReadError, match="cannot be decoded"):
        read_volume(_larger().write(tmp_path / "in", change))


def _huge_jpeg_ls(frame: bytes) -> bytes:
    place = frame.index(b"\xff\xf7") + 5
    return frame[:place] + struct.pack(">HH", HUGE, HUGE) + frame[place + 4 :]


def _endless_rle(_frame: bytes) -> bytes:
    return struct.pack("<16I", 2, 64, 64 + 2_000_000, *[0] * 13) + b"\x81\0" * 2_000_000


def test_frames_that_claim_to_be_far_larger_than_the_header_says_take_little_memory(tmp_path: Path) -> None:
    for syntax, forge in ((JPEGLSLossless, _huge_jpeg_ls), (RLELossless, _endless_rle)):

        def change(_: int, dataset: Dataset, syntax: str = syntax, forge: Callable = forge) -> None:
            dataset.compress(syntax)
            (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
            _encapsulate(dataset, [forge(frame)], syntax)

        _larger().write(tmp_path / syntax, change)
    script = (
        "import sys\nfrom MAESegmentLib.images import read_volume\nfrom MAESegmentLib.errors import VolumeReadError\n"
        "for folder in sys.argv[1:]:\n"
        "    try: read_volume(folder)\n    except VolumeReadError as error: print(error.message)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, tmp_path.iterdir())],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.count("its pixels cannot be decoded") == 2, done.stdout + done.stderr
    assert done.stdout.count("48 x 64") == 2


@pytest.mark.parametrize(
    ("name", "marker", "place"), [("JPEG2000.dcm", b"\xff\x51", 6), ("JPGExtended.dcm", b"\xff\xc1", 5)]
)
def test_real_files_with_another_size_in_their_frames_are_refused(name: str, marker: bytes, place: int) -> None:
    dataset = pydicom.dcmread(get_testdata_file(name))
    check_codestreams(dataset, [0])
    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    at = frame.index(marker) + place
    size = struct.pack(">II" if marker == b"\xff\x51" else ">HH", HUGE, HUGE)
    dataset.PixelData = encapsulate([frame[:at] + size + frame[at + len(size) :]])
    with pytest.raises(VolumeReadError, match="40000 x 40000"):
        check_codestreams(dataset, [0])


def test_compression_that_nothing_here_decodes_is_named(tmp_path: Path) -> None:
    def change(_: int, dataset: Dataset) -> None:
        _encapsulate(dataset, [b"\0\0\1\xb3" * 8], "1.2.840.10008.1.2.4.102")

    with pytest.raises(VolumeReadError, match="MPEG-4"):
        read_volume(head().write(tmp_path / "series", change))


def test_negatives_keep_their_values_and_say_so(tmp_path: Path) -> None:
    recipe = head()
    volume = read_volume(recipe.write(tmp_path / "series", edit(PhotometricInterpretation="MONOCHROME1")))
    np.testing.assert_array_equal(volume.array[0], recipe.stored.T.astype(float) - 1024)
    assert any("MONOCHROME1" in note for note in volume.notes)


def test_file_without_voxels_says_so(tmp_path: Path) -> None:
    def change(k: int, dataset: Dataset) -> None:
        if k == 2:
            del dataset.PixelData
            dataset.add_new(0x00091001, "OB", b"\0" * 200)

    with pytest.raises(VolumeReadError, match="has no voxels"):
        read_volume(head().write(tmp_path / "series", change))


@pytest.mark.parametrize("is_signed", [False, True])
@pytest.mark.parametrize(("bits", "high"), [(12, 15), (12, 11), (10, 13)])
def test_rle_compressed_pixels_equal_the_uncompressed_whatever_bits_they_take(
    tmp_path: Path, bits: int, high: int, is_signed: bool
) -> None:
    values = np.random.default_rng(2).integers(0, 1 << bits, (6, 5)) << (high + 1 - bits)
    described = {"BitsStored": bits, "HighBit": high, "PixelRepresentation": int(is_signed)}
    plain = _saved(tmp_path / "plain.dcm", **described, PixelData=_pixels(values))
    image = pydicom.dcmread(plain)
    image.compress(RLELossless, generate_instance_uid=False)
    image.save_as(tmp_path / "rle.dcm")
    expected = values >> (high + 1 - bits)
    expected = np.where(is_signed & (expected >= 1 << (bits - 1)), expected - (1 << bits), expected)
    np.testing.assert_array_equal(first_frame(plain), expected)
    np.testing.assert_array_equal(first_frame(tmp_path / "rle.dcm"), expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PixelRepresentation", None),
        ("PhotometricInterpretation", None),
        ("SamplesPerPixel", None),
        ("BitsStored", None),
        ("BitsStored", 0),
        ("BitsStored", 17),
    ],
)
@pytest.mark.parametrize("is_rle", [False, True])
def test_missing_descriptions_of_pixels_are_taken_as_gdcm_does_and_said(
    tmp_path: Path, name: str, value: int | None, is_rle: bool
) -> None:
    recipe = head()

    def change(_: int, dataset: Dataset) -> None:
        if is_rle:
            dataset.compress(RLELossless, generate_instance_uid=False)
        put(dataset, name, value)

    volume = read_volume(recipe.write(tmp_path / "s", change))
    np.testing.assert_array_equal(volume.array[0], recipe.stored.T - 1024)
    assert any(f"{name} is" in note and "8 of 8 slices" in note for note in volume.notes)


def test_missing_size_of_pixels_is_named(tmp_path: Path) -> None:
    def change(_: int, dataset: Dataset) -> None:
        dataset["PixelData"].VR = "OW"
        put(dataset, "BitsAllocated", None)

    with pytest.raises(VolumeReadError, match="lacks BitsAllocated"):
        read_volume(head().write(tmp_path / "s", change))


@pytest.mark.parametrize("size", [(13, 15), (8, 16), (3, 3)])
def test_frames_of_one_bit_need_not_begin_at_a_byte(tmp_path: Path, size: tuple[int, int]) -> None:
    recipe = SeriesRecipe(np.random.default_rng(3).integers(0, 2, (5, *size)), intercept=0)

    def change(dataset: Dataset) -> None:
        packed = np.packbits(recipe.stored.astype(np.uint8).ravel(), bitorder="little").tobytes()
        dataset.PixelData = packed + b"\0" * (len(packed) % 2)
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 1, 1, 0

    volume = read_volume(write_enhanced(recipe, tmp_path / "in", change=change))
    np.testing.assert_array_equal(volume.array[0], recipe.stored.T)
