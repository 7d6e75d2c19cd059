"""`maesegment segment` as a user uses it, on good and bad input."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from MAESegmentLib.bundle import Bundle
from MAESegmentLib.cli.main import main
from MAESegmentLib.images.reading import read_label_map, read_volume
from MAESegmentLib.images.writing import write_volume
from Testing.bundles import save_tiny, tiny_spec
from Testing.phantoms import PhantomFactory

BAD = [
    "corrupt/header_only.nii",
    "corrupt/zero_bytes.nii.gz",
    "corrupt/truncated_gzip.nii.gz",
    "corrupt/singular_sform.nii.gz",
    "corrupt/nan_inf.nii.gz",
    "corrupt/dim_zero.nii",
    "corrupt/not_gzip.nii.gz",
    "corrupt/all_nan.nii.gz",
    "volumes/ct_shear_affine.nii.gz",
    "volumes/4d_oblique.nii.gz",
    "volumes/complex64.nii.gz",
    "volumes/rgb24.nii.gz",
]
GOOD = [
    "volumes/mr_oblique_flair.nrrd",
    "volumes/bigendian_int16.nii",
    "volumes/tiny_7x5x3.nii.gz",
    "volumes/aniso_4x5x7.nii.gz",
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Never trained; 6 mm voxels, so that a whole head takes a second."""
    spec = tiny_spec()
    spec = replace(spec, preprocessing=replace(spec.preprocessing, spacing=(6.0, 6.0, 6.0)))
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny", spec)


@pytest.fixture
def scan(tmp_path: Path, phantom: PhantomFactory) -> Path:
    """An oblique head, alone in the folder `in`."""
    path = tmp_path / "in" / "head.nii.gz"
    path.parent.mkdir()
    return write_volume(path, phantom.oblique(noise=40.0).volume)


def segment(model: Bundle, *words: object) -> int:
    return main(["segment", "-m", str(model.path), "--device", "cpu", *map(str, words)])


def test_a_scan_becomes_a_segmentation_here_and_a_table(
    model: Bundle, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert segment(model, scan) == 0
    found = read_label_map(tmp_path / "head.seg.nrrd")
    image = nib.load(scan)
    assert found.array.shape == image.shape
    np.testing.assert_allclose(found.ijk_to_ras, image.affine, atol=1e-4)
    printed = capsys.readouterr().out
    for word in ("anterior", "posterior", "seconds on cpu", "head.seg.nrrd"):
        assert word in printed


def test_every_output_can_be_had_at_once(model: Bundle, scan: Path, tmp_path: Path) -> None:
    names = {"-o": "s.nii.gz", "--preview": "p.png", "--probabilities": "q.nii.gz", "--entropy": "e.nrrd"}
    names["--statistics"] = "t.csv"
    assert segment(model, scan, *(x for k, v in names.items() for x in (k, tmp_path / v))) == 0
    labels = np.asarray(nib.load(tmp_path / "s.nii.gz").dataobj)
    probabilities = np.asarray(nib.load(tmp_path / "q.nii.gz").dataobj)
    np.testing.assert_array_equal(probabilities.argmax(axis=-1), labels)
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "e.nrrd").is_file()
    grey = np.asarray(nib.load(scan).dataobj)
    rows = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert [row["Segment"] for row in rows] == [label.name for label in model.labels]
    for label, row in zip(model.labels, rows, strict=True):
        mask = labels == label.value
        assert int(row["Voxel count"]) == mask.sum()
        if mask.any():
            assert float(row["Mean"]) == pytest.approx(grey[mask].mean(), rel=1e-5)


def test_a_roi_with_negative_bounds_confines_the_result(model: Bundle, scan: Path, tmp_path: Path) -> None:
    assert segment(model, scan, "--roi", "-8,-1,-6,6,-5,5", "-o", tmp_path / "s.nii.gz") == 0
    image = nib.load(tmp_path / "s.nii.gz")
    voxels = np.argwhere(np.asarray(image.dataobj))
    ras = voxels @ image.affine[:3, :3].T + image.affine[:3, 3]
    # The block of an oblique grid reaches a little beyond the box.
    assert np.all(np.abs(ras - (-4.5, 0, 0)) < 14)


def test_quiet_prints_nothing(model: Bundle, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert segment(model, scan, "-q", "-o", tmp_path / "s.nii.gz") == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == ""


def test_what_exists_is_replaced_only_on_request(model: Bundle, scan: Path, tmp_path: Path) -> None:
    output = tmp_path / "s.nii.gz"
    output.write_bytes(b"mine")
    assert segment(model, scan, "-o", output) == 2
    assert output.read_bytes() == b"mine"
    assert segment(model, scan, "-o", output, "--overwrite") == 0
    assert nib.load(output).shape


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-o", "{folder}/in/head.nii.gz", "--overwrite"], "never overwritten"),
        (["-o", "{folder}/s.stl"], "not written in this format"),
        (["-o", "{folder}/absent/s.nii.gz"], "does not exist"),
        (["-o", "{folder}/s.dcm"], "the input is not DICOM"),
        (["-o", "{folder}/s.rtstruct.dcm"], "An RTSTRUCT refers to the DICOM series it was drawn on"),
        (["-o", "{folder}/s.nii.gz", "--preview", "{folder}/p.svg"], "not written in this format"),
        (["-o", "{folder}/s.nii.gz", "--entropy", "{folder}/s.nii.gz"], "same name"),
        (["-o", "{folder}/s.nii.gz", "--statistics", "{folder}/in/head.nii.gz", "--overwrite"], "never overwritten"),
        (["-o", "{folder}/s.nii.gz", "--statistics", "{folder}/t.txt"], "not written in this format"),
        (["-o", "{folder}/s.nii.gz", "--roi", "900,950,0,9,0,9"], "outside the volume"),
        (["-o", "{folder}/s.nii.gz", "--roi", "1,2"], "not six numbers"),
        (["-o", "{folder}/s.nii.gz", "--roi", ""], "not six numbers"),
        (["-o", "{folder}/s.nii.gz", "--device", "cuda:99"], "GPU"),
        (["-o", "{folder}/s.nii.gz", "--overlap", "1.5"], "Overlap"),
        (["-o", "{folder}/s.nii.gz", "-m", "no-such-model"], "no model called"),
        (["{folder}/in/head.nii.gz", "-o", "{folder}/s.nii.gz"], "needs 1 channel"),
    ],
)
def test_a_wrong_request_gives_one_clear_error_and_no_file(
    model: Bundle, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture, options: list[str], said: str
) -> None:
    before = sorted(tmp_path.rglob("*"))
    if "cuda:99" in options:
        said = "CUDA" if not _built_with_cuda() else "GPU"
    assert segment(model, scan, *(option.format(folder=tmp_path) for option in options)) == 2
    captured = capsys.readouterr().err
    assert captured.count("error:") == 1
    assert said in captured
    assert "Traceback" not in captured
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_gives_one_clear_error_and_no_output(
    model: Bundle, real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture, name: str
) -> None:
    assert segment(model, real_data / "geometry" / name, "-o", tmp_path / "s.nii.gz") == 2
    captured = capsys.readouterr().err
    lines = [line for line in captured.splitlines() if line.strip()]
    assert captured.count("error:") == 1
    assert len(lines) >= 2  # what went wrong, and what to do
    assert "Traceback" not in captured
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", GOOD)
def test_unusual_but_sound_files_are_segmented_on_their_grid(
    model: Bundle, real_data: Path, tmp_path: Path, name: str
) -> None:
    source = real_data / "geometry" / name
    assert segment(model, source, "-o", tmp_path / "s.nii.gz") == 0
    assert read_label_map(tmp_path / "s.nii.gz").grid.matches(read_volume(source).grid)


def test_a_dicom_series_becomes_dicom(model: Bundle, real_data: Path, tmp_path: Path) -> None:
    import pydicom

    source = next(folder for folder in (real_data / "hippocampus_mr" / "dicom").rglob("*") if _holds_dicom(folder))
    assert segment(model, source, "-o", tmp_path / "s.dcm") == 0
    assert pydicom.dcmread(tmp_path / "s.dcm").Modality == "SEG"
    assert segment(model, source, "-o", tmp_path / "s.rtstruct.dcm") == 0
    assert pydicom.dcmread(tmp_path / "s.rtstruct.dcm").Modality == "RTSTRUCT"
    assert segment(model, source, "-o", tmp_path / "s.seg.nrrd") == 0


def _holds_dicom(folder: Path) -> bool:
    return folder.is_dir() and any(file.is_file() for file in folder.iterdir())


def _built_with_cuda() -> bool:
    import torch

    return torch.version.cuda is not None
