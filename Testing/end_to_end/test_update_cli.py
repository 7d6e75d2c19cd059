"""`maesegment update` as a user uses it: what was drawn stays, the rest follows, or a message says why not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from MAESegmentLib.cli.main import main
from MAESegmentLib.images.reading import read_label_map
from MAESegmentLib.images.volume import LabelMap
from MAESegmentLib.images.writing import write_label_map, write_volume
from Testing.phantoms import LABELS, PhantomFactory

KINDS = ["__call__", "las", "oblique", "anisotropic"]


@pytest.fixture(params=KINDS)
def case(request, tmp_path: Path):
    scan = getattr(PhantomFactory(), request.param)(noise=10.0)
    return scan, write_volume(tmp_path / "scan.nii.gz", scan.volume)


def across(array: np.ndarray, axis: int) -> np.ndarray:
    return np.moveaxis(array, axis, 0)


def sparse(array: np.ndarray, axis: int) -> np.ndarray:
    """What of each label lies on every second slice from its first, and on its last."""
    drawn = np.zeros_like(array)
    for label in LABELS:
        mask = across(array == label.value, axis)
        occupied = np.flatnonzero(mask.any(axis=(1, 2)))
        slices = sorted({*occupied[::2].tolist(), int(occupied[-1])})
        across(drawn, axis)[slices] += (mask[slices] * label.value).astype(drawn.dtype)
    return drawn


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * float((one & other).sum()) / float(one.sum() + other.sum())


@pytest.mark.parametrize("axis", [0, 1])
def test_structures_drawn_on_some_slices_are_filled(case, tmp_path, axis):
    scan, image = case
    truth = scan.label_map.array
    drawn = sparse(truth, axis)
    path = write_label_map(tmp_path / "drawn.seg.nrrd", LabelMap(drawn, scan.volume.ijk_to_ras), LABELS)
    assert main(["update", str(image), str(path), "-o", str(tmp_path / "out.seg.nrrd"), "-q"]) == 0
    found = read_label_map(tmp_path / "out.seg.nrrd").on_grid(scan.volume.grid).array
    for label in LABELS:
        on = across(drawn == label.value, axis).any(axis=(1, 2))
        np.testing.assert_array_equal(across(found == label.value, axis)[on], across(drawn == label.value, axis)[on])
        assert dice(found == label.value, truth == label.value) > 0.85, label.name


def test_correction_is_carried_to_its_neighbours_and_no_farther(tmp_path, capsys):
    """A structure that was found too small, on a large fine grid; one slice is corrected."""
    scan = PhantomFactory()(shape=(24, 24, 80), spacing=(1.0, 1.0, 0.25))
    truth = scan.label_map.array
    image = write_volume(tmp_path / "scan.nii.gz", scan.volume)
    result = truth.copy()
    result[truth == 1] = 0
    result[:, :13][truth[:, :13] == 1] = 1
    result[3, 20, 5] = 2  # an island that nobody touched
    now = result.copy()
    middle = int(np.median(np.flatnonzero((truth == 1).any(axis=(0, 1)))))
    now[..., middle] = truth[..., middle]
    maps = {"before": result, "now": now}
    paths = {
        name: write_label_map(tmp_path / f"{name}.nii.gz", LabelMap(array, scan.volume.ijk_to_ras), LABELS)
        for name, array in maps.items()
    }
    words = ["update", str(image), str(paths["now"]), "-o", str(tmp_path / "out.nii.gz")]
    assert main([*words, "--before", str(paths["before"])]) == 0
    assert "drawn in axial slices" in capsys.readouterr().out
    found = read_label_map(tmp_path / "out.nii.gz").array
    np.testing.assert_array_equal(found[..., middle], now[..., middle])
    near = slice(middle - 4, middle + 5)
    assert (
        dice(found[..., near] == 1, truth[..., near] == 1) > dice(result[..., near] == 1, truth[..., near] == 1) + 0.1
    )
    np.testing.assert_array_equal(found == 2, result == 2)


def test_slices_of_two_planes_have_a_row_each_and_one_reason(tmp_path, capsys):
    scan = PhantomFactory()()
    truth, matrix = scan.label_map.array, scan.volume.ijk_to_ras
    result, now = truth.copy(), truth.copy()
    result[ndimage.binary_dilation(truth == 1, iterations=3) & (truth == 0)] = 1
    i, k = (int(np.median(np.flatnonzero((truth == 1).any(axis=axes)))) for axes in ((1, 2), (0, 1)))
    now[...] = result
    now[i], now[..., k] = truth[i], truth[..., k]
    words = ["update", str(write_volume(tmp_path / "scan.nii.gz", scan.volume))]
    for option, array in (("", now), ("--before", result)):
        path = write_label_map(tmp_path / f"drawn{option}.seg.nrrd", LabelMap(array, matrix), LABELS)
        words += [option, str(path)] if option else [str(path)]
    assert main([*words, "-o", str(tmp_path / "out.nii.gz")]) == 0
    said = capsys.readouterr().out
    assert "1 axial" in said
    assert "1 sagittal" in said
    assert said.count(f"{LABELS[0].name}: what was corrected") == 1


def test_structures_of_the_same_name_or_without_one_are_those_of_the_result(tmp_path, capsys):
    scan = PhantomFactory()()
    truth, matrix = scan.label_map.array, scan.volume.ijk_to_ras
    image = write_volume(tmp_path / "scan.nii.gz", scan.volume)
    now = truth.copy()
    middle = int(np.median(np.flatnonzero((truth == 1).any(axis=(0, 1)))))
    rows = np.argwhere(now[..., middle] == 1)[:, 0]
    now[: int(np.median(rows)), :, middle][now[: int(np.median(rows)), :, middle] == 1] = 0
    lesions = [replace(label, name="Lesion") for label in LABELS]
    paths = {
        name: write_label_map(tmp_path / name, LabelMap(array, matrix), labels)
        for name, array, labels in (
            ("before.seg.nrrd", truth, lesions),
            ("before.nii.gz", truth, LABELS),
            ("now.seg.nrrd", now, lesions),
        )
    }
    for before in ("before.seg.nrrd", "before.nii.gz"):
        words = [str(image), str(paths["now.seg.nrrd"]), "--before", str(paths[before]), "--overwrite"]
        assert main(["update", *words, "-o", str(tmp_path / "out.seg.nrrd")]) == 0
        said = capsys.readouterr()
        assert "drawn in axial slices" in said.out
        assert ("matched by value" in said.err) == before.endswith(".nii.gz")
        found = read_label_map(tmp_path / "out.seg.nrrd").on_grid(scan.volume.grid).array
        np.testing.assert_array_equal(found[..., middle], now[..., middle])
        assert (found[..., middle + 1] == 1).sum() < (truth[..., middle + 1] == 1).sum()
        np.testing.assert_array_equal(found == 2, truth == 2)


def test_what_does_not_say_what_is_to_follow_is_refused_and_nothing_is_written(tmp_path, capsys):
    scan = PhantomFactory()()
    image = write_volume(tmp_path / "scan.nii.gz", scan.volume)
    dots = np.zeros_like(scan.label_map.array)
    dots[4, 4, 4] = dots[10, 10, 10] = 1
    refused = {
        "There is nothing for the rest": scan.label_map.array,
        "Nothing is drawn": np.zeros_like(dots),
        "not clear in which plane": dots,
    }
    for words, array in refused.items():
        path = write_label_map(tmp_path / "drawn.nii.gz", LabelMap(array, scan.volume.ijk_to_ras), LABELS)
        assert main(["update", str(image), str(path), "-o", str(tmp_path / "out.nii.gz")]) == 2
        assert words in capsys.readouterr().err
    assert main(["update", str(image), str(path), "-o", str(tmp_path / "out.nii.gz"), "--axis", "axial"]) == 0
    assert main(["update", str(image), str(path), "-o", str(path), "--overwrite"]) == 2
    assert "not overwritten" in capsys.readouterr().err
