"""Segments of a file that names them are matched by name, never by number: in data sets, evaluation and cases."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from MAESegmentLib.cases.case import Case
from MAESegmentLib.cases.checks import meanings_of, read_image, read_labels, read_reference
from MAESegmentLib.cases.dataset import load_dataset
from MAESegmentLib.cases.store import CaseStore
from MAESegmentLib.cases.submission import CaseSubmission
from MAESegmentLib.cli.main import main
from MAESegmentLib.errors import ConfigurationError, DatasetError
from MAESegmentLib.images import LabelMap, write_label_map
from MAESegmentLib.images.labels import ByName, Label, loose_name, other_names, plain_name, same_names
from Testing.datasets import save
from Testing.dicom_series import head

LABELS = {"liver": 1, "spleen": 2}
SHAPE = (12, 12, 12)


def two_blocks(first: int, second: int) -> np.ndarray:
    """180 voxels of `first`, 75 of `second`."""
    array = np.zeros(SHAPE, np.uint8)
    array[1:7, 1:6, 1:7] = first
    array[8:11, 2:7, 2:7] = second
    return array


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(tmp_path / "images" / "c.nii.gz", np.random.default_rng(0).random(SHAPE, np.float32), np.eye(4))
    (tmp_path / "labels").mkdir()
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, **LABELS}}))
    return tmp_path


def draw(path: Path, array: np.ndarray, names: Mapping[int, str]) -> Path:
    path.parent.mkdir(exist_ok=True)
    write_label_map(path, LabelMap(array, np.eye(4)), [Label(value, name) for value, name in names.items()])
    return path


def sizes(array: np.ndarray) -> list[int]:
    return [int((array == value).sum()) for value in LABELS.values()]


@pytest.mark.parametrize("values", [(1, 2), (2, 1), (7, 3)])
@pytest.mark.parametrize("name", ["c.seg.nrrd", "c.nrrd"])
def test_training_reads_segments_by_name(folder: Path, values: tuple[int, int], name: str) -> None:
    liver, spleen = values
    draw(folder / "labels" / "c.seg.nrrd", two_blocks(liver, spleen), {liver: "Liver", spleen: "spleen "})
    (folder / "labels" / "c.seg.nrrd").rename(folder / "labels" / name)
    (case,) = load_dataset(folder).cases
    array = read_labels(case, read_image(case), LABELS, ["liver"]).array
    assert sizes(array) == [180, 75]


def test_a_cropped_segmentation_is_read_on_its_images_grid(folder: Path) -> None:
    array = two_blocks(2, 1)
    matrix = np.eye(4)
    matrix[:3, 3] = 1
    path = folder / "labels" / "c.seg.nrrd"
    write_label_map(path, LabelMap(array[1:11, 1:11, 1:11], matrix), [Label(2, "liver"), Label(1, "spleen")])
    (case,) = load_dataset(folder).cases
    found = read_reference(case, LABELS)
    np.testing.assert_array_equal(found.array, two_blocks(1, 2))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({1: "liver", 2: "Milz"}, r"segments that are not labels of the dataset: 'Milz'"),
        ({1: "Segment_1", 2: "Segment_2"}, r"'Segment_1', 'Segment_2'"),
        ({1: "liver", 2: "Liver "}, r"^Case c: Segments 'liver' and 'Liver ?' may both be 'liver'"),
    ],
)
def test_names_that_are_not_those_of_the_dataset_are_refused(folder: Path, names: dict[int, str], said: str) -> None:
    draw(folder / "labels" / "c.seg.nrrd", two_blocks(1, 2), names)
    (case,) = load_dataset(folder).cases
    with pytest.raises(DatasetError, match=said):
        read_labels(case, read_image(case), LABELS, ["liver"])


def test_a_segment_without_voxels_may_be_called_anything(folder: Path) -> None:
    draw(folder / "labels" / "c.seg.nrrd", two_blocks(1, 2), {1: "liver", 2: "spleen", 3: "note to myself"})
    (case,) = load_dataset(folder).cases
    assert sizes(read_labels(case, read_image(case), LABELS, ["liver"]).array) == [180, 75]


def test_a_name_that_two_labels_are_like_is_asked_about() -> None:
    array = np.ones((2, 2, 2), np.uint8)
    with pytest.raises(DatasetError, match="may be any of"):
        meanings_of(LabelMap(array, np.eye(4)), [Label(1, "left lung")], {"left-lung": 1, "left_lung": 2})


numbers = st.lists(st.integers(1, 250), min_size=1, max_size=5, unique=True)


@given(ours=numbers, theirs=st.permutations(range(1, 6)))
def test_any_numbering_of_the_same_names_means_the_same(ours: list[int], theirs: Sequence[int]) -> None:
    names = [f"part {n}" for n in range(len(ours))]
    labels = dict(zip(names, ours, strict=True))
    segments = [Label(theirs[n], name.upper()) for n, name in enumerate(names)]
    array = np.zeros((2, 3, 4), np.uint8)
    array.flat[: len(segments)] = [segment.value for segment in segments]
    meanings = meanings_of(LabelMap(array, np.eye(4)), segments, labels)
    assert not meanings.unclear
    found = LabelMap(array, np.eye(4)).with_values(meanings.values).array
    assert found.flat[: len(segments)] == pytest.approx([labels[name] for name in names])


@given(st.text(min_size=1, max_size=12))
def test_a_name_is_found_by_itself_before_any_that_is_alike(name: str) -> None:
    assert same_names(name, [name.upper(), f" {name}", name]) == [name]
    assert loose_name(f" {name} ") == loose_name(name)
    assert plain_name(loose_name(name)) == plain_name(name)


def evaluate(folder: Path, *more: str) -> int:
    words = ["evaluate", "--data", str(folder), "--predictions", str(folder / "predictions"), "-o", str(folder / "out")]
    return main([*words, *more])


def dice(folder: Path) -> list[tuple[str, str]]:
    with (folder / "out" / "metrics.csv").open(newline="") as stream:
        return [(row["label"], row["dice"]) for row in csv.DictReader(stream)]


@pytest.mark.parametrize("reference", [(1, 2), (2, 1)])
@pytest.mark.parametrize("prediction", [(1, 2), (2, 1)])
def test_evaluate_matches_segments_by_name_on_both_sides(folder: Path, reference, prediction) -> None:
    for place, (liver, spleen) in (("labels", reference), ("predictions", prediction)):
        draw(folder / place / "c.seg.nrrd", two_blocks(liver, spleen), {liver: "liver", spleen: "spleen"})
    assert evaluate(folder) == 0
    assert dice(folder) == [("liver", "1"), ("spleen", "1")]


def test_evaluate_refuses_a_prediction_whose_names_it_does_not_know(folder: Path, capsys) -> None:
    draw(folder / "labels" / "c.seg.nrrd", two_blocks(1, 2), {1: "liver", 2: "spleen"})
    draw(folder / "predictions" / "c.seg.nrrd", two_blocks(1, 2), {1: "liver", 2: "Milz"})
    assert evaluate(folder) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "'Milz'" in printed
    assert "names no spleen" in printed


@pytest.mark.parametrize("ending", ["seg.nrrd", "nii.gz"])
def test_evaluate_leaves_out_further_structures_of_a_prediction_and_says_so(folder: Path, capsys, ending: str) -> None:
    draw(folder / "labels" / "c.nii.gz", two_blocks(1, 2), LABELS_BY_VALUE)
    more = two_blocks(1, 2)
    more[0, 0, 0] = 3
    draw(folder / "predictions" / f"c.{ending}", more, {**LABELS_BY_VALUE, 3: "kidney"})
    assert evaluate(folder) == 0
    assert dice(folder) == [("liver", "1"), ("spleen", "1")]
    assert "left out" in " ".join(capsys.readouterr().out.split())


LABELS_BY_VALUE = {1: "liver", 2: "spleen"}


def test_what_was_not_annotated_counts_on_neither_side(folder: Path) -> None:
    (folder / "dataset.json").write_text(json.dumps({"labels": {**LABELS, "ignore": 255}}))
    reference, prediction = two_blocks(1, 2), two_blocks(1, 2)
    reference[:, :, 9:], prediction[:, :, 9:] = 255, 1
    draw(folder / "labels" / "c.nii.gz", reference, {**LABELS_BY_VALUE, 255: "x"})
    draw(folder / "predictions" / "c.nii.gz", prediction, LABELS_BY_VALUE)
    assert evaluate(folder) == 0
    assert dice(folder) == [("liver", "1"), ("spleen", "1")]


def test_the_case_store_takes_segments_by_name_and_no_other_names_for_them(folder: Path, capsys) -> None:
    scan, store = folder / "images" / "c.nii.gz", folder / "store"
    drawn = draw(folder / "x.seg.nrrd", two_blocks(2, 1), {2: "liver", 1: "spleen"})
    words = ["cases", "add", str(scan), str(drawn), "--store", str(store)]
    assert main([*words, "--labels", "1=liver,2=spleen"]) == 2
    error = capsys.readouterr().err
    assert "liver" in error
    assert not store.exists()
    assert main(words) == 0
    kept = CaseStore(store)
    values = {label.name: label.value for label in kept.labels()}
    array = kept.read_label_map("case-0001").array
    assert [int((array == values[name]).sum()) for name in ("liver", "spleen")] == [180, 75]


def test_segments_that_differ_only_in_case_are_not_stored_as_one(folder: Path, capsys) -> None:
    scan, store = folder / "images" / "c.nii.gz", folder / "store"
    drawn = draw(folder / "x.seg.nrrd", two_blocks(1, 2), {1: "Front", 2: "front"})
    words = ["cases", "add", str(scan), str(drawn), "--store", str(store)]
    assert main(words) == 2
    assert "'Front' and 'front' differ only in case" in capsys.readouterr().err
    assert main([*words, "--map", "front=Front", "--new-label", "Front"]) == 0
    assert "2 segments are stored as one label, 'Front'" in capsys.readouterr().err
    assert [int((CaseStore(store).read_label_map("case-0001").array == 1).sum())] == [255]


def test_a_name_that_is_no_unicode_is_not_stored() -> None:
    with pytest.raises(ConfigurationError, match="not Unicode"):
        CaseSubmission((Label(1, "liver"),), group="M\udcfcller")


# --- on the image's grid, whatever the format -------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".nii.gz", ".seg.nrrd"])
@pytest.mark.parametrize(("apart", "fits"), [(0.005, True), (0.02, False), (0.045, False), (0.5, False)])
def test_label_map_off_a_regular_grid_is_refused_alike_in_every_format(
    folder: Path, ending: str, apart: float, fits: bool
) -> None:
    matrix = np.eye(4)
    matrix[0, 3] = apart
    labels = [Label(value, name) for name, value in LABELS.items()]
    write_label_map(folder / "labels" / f"c{ending}", LabelMap(two_blocks(1, 2), matrix), labels)
    (case,) = load_dataset(folder).cases
    if fits:
        label_map = read_labels(case, read_image(case), LABELS, ["liver"])
        np.testing.assert_array_equal(label_map.ijk_to_ras, np.eye(4))
    else:
        with pytest.raises(DatasetError, match=f"Case c: .*origins differ by {apart:.3g} mm"):
            read_labels(case, read_image(case), LABELS, ["liver"])


@pytest.mark.parametrize("ending", [".nii.gz", ".seg.nrrd"])
@pytest.mark.parametrize(("apart", "fits"), [(0.04, True), (0.5, False)])
def test_label_map_on_dicom_slices_may_be_off_as_far_as_slices_may(
    folder: Path, ending: str, apart: float, fits: bool
) -> None:
    series = head(8).write(folder / "dicom")
    scan = read_image(Case("c", (series,)))
    array = np.zeros(scan.grid.shape, np.uint8)
    array[1:3, 1:3, 1:3] = 1
    matrix = scan.ijk_to_ras.copy()
    matrix[2, 3] += apart
    path = folder / "labels" / f"c{ending}"
    write_label_map(path, LabelMap(array, matrix), [Label(1, "liver")])
    case = Case("c", (series,), path)
    if fits:
        label_map = read_labels(case, scan, LABELS, ["liver"])
        np.testing.assert_array_equal(label_map.ijk_to_ras, scan.ijk_to_ras)
    else:
        with pytest.raises(DatasetError, match=r"Case c: .*origins differ by 0\.5 mm"):
            read_labels(case, scan, LABELS, ["liver"])


# --- what is wrong, in few words --------------------------------------------------------------------------------------


def test_scan_as_label_map_is_suspected_without_listing_its_values(folder: Path) -> None:
    array = np.random.default_rng(0).integers(0, 3000, SHAPE).astype(np.int16)
    save(folder / "labels" / "c.nii.gz", array, np.eye(4))
    (case,) = load_dataset(folder).cases
    with pytest.raises(DatasetError, match=r"Case c: .*, \.\.\. \(\d+ in all\)") as caught:
        read_labels(case, read_image(case), LABELS, ["liver"])
    assert len(caught.value.message) < 200
    assert "may be a scan" in caught.value.hint


def test_names_that_differ_by_case_or_spaces_alone_are_one() -> None:
    known = ByName([("Left  Lung", 1), ("liver", 2), ("left lung", 3)])
    assert (dict(known), len(known)) == ({"Left  Lung": 3, "liver": 2}, 2)
    assert (known["LEFT LUNG"], known.get("spleen"), "Liver" in known) == (3, None, True)
    assert other_names(["Liver", "Spleen", "spleen ", "left lung"], known) == ("Spleen",)
