"""Voxels of DICOM files as GDCM has them, whatever they are compressed and rescaled by; or the true reason why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.tag import Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from MAESegmentLib.errors import VolumeReadError
from MAESegmentLib.images import read_volume
from MAESegmentLib.images.formats.dicom.pixels import read_frames
from Testing.dicom_enhanced import write_enhanced
from Testing.dicom_series import SeriesRecipe, head

#: What pydicom has a decoder for in this installation, and what it takes ITK's GDCM for.
COMPRESSIONS = {"JPEG2000": JPEG2000Lossless, "JPEG": JPEGLosslessSV1, "JPEGLS": JPEGLSLossless, "RLE": RLELossless}
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
    return next(read_frames(file, [0]).voxels)


@pytest.mark.parametrize("name", PYDICOM_FILES)
def test_voxels_of_real_files_equal_gdcms(name: str) -> None:
    file = Path(str(get_testdata_file(name)))
    np.testing.assert_array_equal(first_frame(file), gdcm(file)[0])


def _put(name: str, value: object) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        if value is None:
            del dataset[name]
        elif isinstance(value, bytes):
            tag = Tag(name)
            dataset[tag] = RawDataElement(tag, "DS", len(value), value, 0, False, True)
        else:
            dataset[name].value = value

    return change


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
    def change(_: int, dataset: Dataset) -> None:
        _put("RescaleSlope", slope)(dataset)
        _put("RescaleIntercept", intercept)(dataset)

    folder = head().write(tmp_path / "series", change)
    volume = read_volume(folder)
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    np.testing.assert_array_equal(volume.array[0], sitk.GetArrayFromImage(image).T)
    assert [said in note for note in volume.notes] == [True] * bool(said)


def test_slices_without_rescaling_among_others_are_read_as_gdcm_does_and_said(tmp_path: Path) -> None:
    recipe = head()

    def change(k: int, dataset: Dataset) -> None:
        if k >= 5:
            del dataset.RescaleSlope, dataset.RescaleIntercept

    volume = read_volume(recipe.write(tmp_path / "series", change))
    expected = recipe.stored.T - np.where(np.arange(8) < 5, 1024, 0)
    np.testing.assert_array_equal(volume.array[0], expected)
    (note,) = volume.notes
    assert "3 of 8 slices have neither RescaleSlope nor RescaleIntercept" in note


@pytest.mark.parametrize("text", [b"abc ", b"1,5 ", b"1e400 ", b"nan ", b"2\\3 ", b"1_0 "])
@pytest.mark.parametrize("attribute", ["RescaleSlope", "RescaleIntercept"])
def test_rescaling_that_is_no_number_is_refused_by_its_name(tmp_path: Path, text: bytes, attribute: str) -> None:
    def change(k: int, dataset: Dataset) -> None:
        if k == 3:
            _put(attribute, text)(dataset)

    with pytest.raises(VolumeReadError, match=f"{attribute} .* is not a number"):
        read_volume(head().write(tmp_path / "series", change))


def test_enhanced_frames_have_their_own_rescaling(tmp_path: Path) -> None:
    recipe = head(4)

    def change(dataset: Dataset) -> None:
        for k, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
            frame.PixelValueTransformationSequence[0].RescaleSlope = k + 1

    folder = write_enhanced(recipe, tmp_path / "in", shared=("orientation", "measures"), change=change)
    expected = recipe.stored.T * np.arange(1, 5) - 1024
    np.testing.assert_array_equal(read_volume(folder).array[0], expected)


def test_table_of_grey_values_is_applied(tmp_path: Path) -> None:
    recipe = head(4)

    def change(_: int, dataset: Dataset) -> None:
        del dataset.RescaleSlope, dataset.RescaleIntercept
        table = Dataset()
        table.LUTDescriptor, table.ModalityLUTType = [2001, 0, 16], "US"
        table.LUTData = (3 * np.arange(2001)).astype("<u2").tobytes()
        dataset.ModalityLUTSequence = [table]

    np.testing.assert_array_equal(read_volume(recipe.write(tmp_path / "s", change)).array[0], 3 * recipe.stored.T)


@given(
    bits=st.integers(2, 16),
    is_signed=st.booleans(),
    syntax=st.sampled_from([None, DeflatedExplicitVRLittleEndian]),
)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_only_the_stored_bits_are_the_value(tmp_path: Path, bits: int, is_signed: bool, syntax: str | None) -> None:
    file = tmp_path / "one.dcm"
    image = _one_slice(tmp_path)
    image.BitsStored, image.HighBit, image.PixelRepresentation = bits, bits - 1, int(is_signed)
    stored = np.random.default_rng(bits).integers(0, 1 << 16, (image.Rows, image.Columns)).astype("<u2")
    if syntax is not None:
        image.file_meta.TransferSyntaxUID = syntax
    image.PixelData = stored.tobytes()
    image.save_as(file, enforce_file_format=True)
    np.testing.assert_array_equal(first_frame(file), gdcm(file)[0])


def _one_slice(folder: Path) -> Dataset:
    image = pydicom.dcmread(next(head(1).write(folder / "one").iterdir()))
    image.RescaleIntercept = 0
    return image


@pytest.mark.parametrize(
    ("high", "stored", "expected"), [(15, 0x0ABC, 0x0ABC), (15, 0xABC0, 0x0ABC), (13, 0x2AF4, 0x0ABD)]
)
def test_high_bit_beside_the_stored_bits_is_believed_if_the_voxels_agree(
    tmp_path: Path, high: int, stored: int, expected: int
) -> None:
    image = _one_slice(tmp_path)
    image.BitsStored, image.HighBit = 12, high
    image.PixelData = np.full((image.Rows, image.Columns), stored, "<u2").tobytes()
    image.save_as(tmp_path / "one.dcm")
    assert np.all(first_frame(tmp_path / "one.dcm") == expected)


def test_high_bit_that_cannot_be_right_is_refused(tmp_path: Path) -> None:
    image = _one_slice(tmp_path)
    image.BitsStored, image.HighBit = 12, 15
    image.PixelData = np.full((image.Rows, image.Columns), 0xABCD, "<u2").tobytes()
    image.save_as(tmp_path / "one.dcm")
    with pytest.raises(VolumeReadError, match=r"one\.dcm: BitsStored is 12 and HighBit 15"):
        first_frame(tmp_path / "one.dcm")


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
        dataset.PixelData = encapsulate(encoded)
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = COMPRESSIONS[kind]

    return change


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


def test_compression_that_nothing_here_decodes_is_named(tmp_path: Path) -> None:
    def change(_: int, dataset: Dataset) -> None:
        dataset.PixelData = encapsulate([b"\0\0\1\xb3" * 8])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"

    with pytest.raises(VolumeReadError, match="MPEG-4"):
        read_volume(head().write(tmp_path / "series", change))


def test_negatives_keep_their_values_and_say_so(tmp_path: Path) -> None:
    recipe = head()

    def change(_: int, dataset: Dataset) -> None:
        dataset.PhotometricInterpretation = "MONOCHROME1"

    volume = read_volume(recipe.write(tmp_path / "series", change))
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
    image = _one_slice(tmp_path)
    image.BitsStored, image.HighBit, image.PixelRepresentation = bits, high, int(is_signed)
    values = np.random.default_rng(2).integers(0, 1 << bits, (image.Rows, image.Columns)) << (high + 1 - bits)
    image.PixelData = values.astype("<u2").tobytes()
    image.save_as(tmp_path / "plain.dcm")
    image.compress(RLELossless, generate_instance_uid=False)
    image.save_as(tmp_path / "rle.dcm")
    expected = values >> (high + 1 - bits)
    expected = np.where(is_signed & (expected >= 1 << (bits - 1)), expected - (1 << bits), expected)
    np.testing.assert_array_equal(first_frame(tmp_path / "plain.dcm"), expected)
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
        if value is None:
            del dataset[name]
        else:
            setattr(dataset, name, value)

    volume = read_volume(recipe.write(tmp_path / "s", change))
    np.testing.assert_array_equal(volume.array[0], recipe.stored.T - 1024)
    assert any(f"{name} is" in note and "8 of 8 slices" in note for note in volume.notes)


def test_missing_size_of_pixels_is_named(tmp_path: Path) -> None:
    def change(_: int, dataset: Dataset) -> None:
        dataset["PixelData"].VR = "OW"
        del dataset.BitsAllocated

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
