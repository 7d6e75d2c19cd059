"""A segmentation that another tool made: opened in the browser as it is, and stored as a case in two clicks."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from MAESegmentLib import mrml
from MAESegmentLib.cases.store import CaseStore
from MAESegmentLib.errors import VolumeReadError
from MAESegmentLib.images.labels import Label
from MAESegmentLib.images.reading import read_label_map, read_volume
from MAESegmentLib.images.volume import LabelMap, Volume
from MAESegmentLib.images.writing import write_label_map
from MAESegmentLib.mrml.layers import outcome, segments_of
from MAESegmentLib.web.panels.open_segmentation import _put, _read
from MAESegmentLib.web.slicer_scene import prepare, volume_node
from MAESegmentLib.web.workspace import Scan
from Testing import slicer_core
from Testing.dicom_series import SeriesRecipe, labelled
from Testing.mrml.nodes import GRIDS, volume
from Testing.web.browser import User, show

SHAPE = (9, 11, 13)  # (K, J, I)


@pytest.fixture
def scan():
    slicer_core.fresh_scene()
    node = volume(GRIDS["oblique"], shape=SHAPE)
    yield Scan(node, Volume(np.zeros((1, *SHAPE[::-1]), np.int16), mrml.image_of([node]).ijk_to_world))
    slicer_core.fresh_scene()


def opened(path: Path, scan: Scan):
    parts, notes = _read(path, path.parent, scan)
    node, said = asyncio.run(_put(scan, parts, "total"))
    return node, (*notes, *said)


def masks(node, scan: Scan) -> dict[str, np.ndarray]:
    """(I, J, K) by name, each segment for itself: they may overlap."""
    return {
        one.name: outcome(mrml.drawing_steps(node, scan.node, {one.id: 1})).array.T > 0
        for one in mrml.drawn_segments(node)
    }


def test_one_file_a_structure_overlapping_and_on_another_grid(scan, tmp_path):
    matrix = scan.source.ijk_to_ras
    kidney, liver = np.zeros((2, *SHAPE[::-1]), np.uint8)
    kidney[2:9, 3:8, 2:6] = liver[5:11, 3:8, 2:6] = 1
    nib.save(nib.Nifti1Image(kidney, matrix), tmp_path / "kidney_left.nii.gz")
    fine = matrix.copy()
    fine[:3, :3] /= 3
    fine[:3, 3] -= fine[:3, :3].sum(axis=1)  # three voxels in each of the scan's
    nib.save(nib.Nifti1Image(liver.repeat(3, 0).repeat(3, 1).repeat(3, 2), fine), tmp_path / "liver.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros_like(liver), matrix), tmp_path / "spleen.nii.gz")
    node, said = opened(tmp_path, scan)
    found = masks(node, scan)
    assert list(found) == ["kidney_left", "liver"]
    np.testing.assert_array_equal(found["kidney_left"], kidney > 0)
    np.testing.assert_array_equal(found["liver"], liver > 0)
    assert said == ()
    assert mrml.volume_of(node) is scan.node


def test_contours_become_voxels_on_the_slices_of_their_scan(scan, tmp_path):  # noqa: ARG001
    grey = np.random.default_rng(2).integers(0, 2000, (8, 16, 16))
    series = read_volume(SeriesRecipe(grey).write(tmp_path / "series"))
    expected = np.zeros(series.grid.shape, np.uint8)
    expected[3:9, 4:12, 1:6], expected[11:14, 2:13, 3:8] = 1, 2
    drawn = LabelMap(expected, series.ijk_to_ras)
    path = write_label_map(tmp_path / "x.rtstruct.dcm", drawn, labelled("a", "b"), source=series)
    node, _said = opened(path, Scan(volume_node(prepare(series), "CT"), series))
    found = masks(node, Scan(mrml.volume_of(node), series))
    assert list(found) == ["a", "b"]
    for value, name in enumerate(found, 1):
        np.testing.assert_array_equal(found[name], expected == value)


def test_segments_that_overlap_in_one_file_still_do_in_its_colours(scan, tmp_path):
    organ, lesion = np.zeros((2, *SHAPE[::-1]), np.uint8)
    organ[2:9, 3:8, 2:6] = lesion[5:11, 3:8, 2:6] = 1
    node, other = (
        mrml.add_segmentation(scan.node, [Label(value, name, colour)], (mask * value).T, (0, 0, 0), name=name)
        for value, name, mask, colour in ((1, "organ", organ, (10, 20, 30)), (2, "lesion", lesion, (200, 100, 0)))
    )
    ((segment_id, segment),) = segments_of(other.GetSegmentation()).items()
    node.GetSegmentation().AddSegment(segment, segment_id)
    node.AddDefaultStorageNode()
    node.GetStorageNode().SetFileName(str(tmp_path / "made.seg.nrrd"))
    assert node.GetStorageNode().WriteData(node)
    found, said = opened(tmp_path / "made.seg.nrrd", scan)
    assert said == ()
    for name, mask in {"organ": organ, "lesion": lesion}.items():
        np.testing.assert_array_equal(masks(found, scan)[name], mask > 0)
    colours = [segment.GetColor() for segment in segments_of(found.GetSegmentation()).values()]
    np.testing.assert_allclose(colours, np.array([(10, 20, 30), (200, 100, 0)]) / 255, atol=0.003)


def test_values_without_names_are_never_called_after_a_models_labels(scan, tmp_path):
    labels = np.zeros(SHAPE[::-1], np.uint16)
    labels[1:3], labels[4:6] = 1, 700
    away = scan.source.ijk_to_ras.copy()
    away[:3, 3] -= away[:3, 0] * 2  # the first two slices are beyond the scan
    nib.save(nib.Nifti1Image(labels, away), tmp_path / "total.nii.gz")
    node, said = opened(tmp_path / "total.nii.gz", scan)
    assert {name: int(mask.sum()) for name, mask in masks(node, scan).items()} == {"total 1": 99, "total 700": 198}
    assert said == ("Beyond the scan, and left out there: total 1.",)


def test_a_scan_and_an_empty_file_are_refused(scan, tmp_path):
    grey = np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE[::-1])
    for name, array, words in (("scan", grey, "1286 different values"), ("empty", grey * 0, "Nothing is segmented")):
        nib.save(nib.Nifti1Image(array, scan.source.ijk_to_ras), tmp_path / f"{name}.nii.gz")
        with pytest.raises(VolumeReadError, match=words):
            _read(tmp_path / f"{name}.nii.gz", tmp_path, scan)


@pytest.fixture
def cases(app_environment) -> Iterator[Path]:
    """Where the server's cases are; other files find none of ours."""
    folder = Path(app_environment["MAESEGMENT_CASES"])
    shutil.rmtree(folder, ignore_errors=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_a_user_stores_it_in_two_clicks_and_the_next_one_in_one(cases: Path, user: User, real_data, tmp_path):
    names = ("hippocampus_008", "hippocampus_011")
    for name in names:
        path = real_data / f"hippocampus_mr/images/{name}.nii.gz"
        image = read_volume(path)
        truth = read_label_map(real_data / f"hippocampus_mr/labels/{name}.nii.gz").array
        files = {"hippocampus_anterior": truth == 1, "posterior": truth == 2, "kidney_left": truth > 0, "b": truth == 1}
        for one, mask in files.items():
            nib.save(nib.Nifti1Image(mask.astype(np.uint8), image.ijk_to_ras), tmp_path / f"{one}.nii.gz")
        show(user, "data")
        user.upload(path)
        user.until(lambda name=name: name in user.panel() and not user.see("data-busy"), f"{name} is open")
        show(user, "segment")
        user.choose("model-select", "hippocampus")
        show(user, "data")
        user.find("upload-segmentation").send_keys("\n".join(str(tmp_path / f"{one}.nii.gz") for one in files))
        user.until(lambda: user.find("open-segmentation").is_enabled() and not user.see("opening-busy"), "it is open")
        show(user, "improve")
        user.until(lambda: user.find("add-case").is_enabled(), "it can be added")
        user.press("add-case")
        if name == names[0]:
            user.press("rest-case")
            user.until(lambda: user.find("confirm-case").is_enabled(), "all is answered")
            user.press("confirm-case")
        user.until(lambda: "case-000" in user.text("case-said"), "the case is stored")
    (folder,) = cases.iterdir()
    store = CaseStore(folder)
    first, second = store.list()
    assert first.labels == second.labels == ("posterior",)
    np.testing.assert_array_equal(store.read_label_map(second.id).array > 0, truth == 2)
    assert user.problems() == []
