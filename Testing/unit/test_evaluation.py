"""Evaluation says how far two label maps agree, and never takes a missing structure for a bad or a perfect one."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from MAESegmentLib.bundle import ModelStore
from MAESegmentLib.cases.case import Case
from MAESegmentLib.cli.main import main
from MAESegmentLib.errors import Cancelled, DatasetError, GeometryError, VolumeReadError
from MAESegmentLib.evaluation.cases import (
    TRAINED_ON_THIS,
    Measure,
    ModelPredictions,
    evaluate_cases,
    match_labels,
    within_annotated_slices,
)
from MAESegmentLib.evaluation.metrics import Status, evaluate_label_maps
from MAESegmentLib.evaluation.report import COLUMNS, Figure, mean_dice, remarks, summarise, write_metrics_csv
from MAESegmentLib.images import LabelMap, Volume, read_volume, write_label_map
from MAESegmentLib.images.hashing import voxel_hash
from MAESegmentLib.images.labels import Label
from MAESegmentLib.images.orientation import Reordering
from MAESegmentLib.inference.settings import InferenceSettings, Prediction
from Testing.phantoms import affine

FRONT, BACK = Label(1, "front"), Label(2, "back")


def cube(start: tuple[int, int, int], size: int = 6, *, spacing=(1.0, 1.0, 1.0), value: int = 1) -> LabelMap:
    """A cube of `size` voxels in a grid of 24^3."""
    array = np.zeros((24, 24, 24), np.uint8)
    array[tuple(slice(s, s + size) for s in start)] = value
    return LabelMap(array, affine("LAS", array.shape, spacing))


def empty() -> LabelMap:
    return cube((0, 0, 0), 0)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.tuples(*[st.floats(0.4, 5.0)] * 3))
def test_a_map_agrees_perfectly_with_itself(seed, spacing):
    array = (np.random.default_rng(seed).random((9, 8, 7)) > 0.7).astype(np.uint8)
    array[4, 4, 4] = 1
    label_map = LabelMap(array, affine("RAS", array.shape, spacing))
    (score,) = evaluate_label_maps(label_map, label_map, [FRONT])
    assert (score.dice, score.hd95_mm, score.surface_dice, score.volume_error_ml) == (1.0, 0.0, 1.0, 0.0)
    assert score.status is Status.OK


@settings(max_examples=20)
@given(st.integers(0, 2), st.integers(6, 10), st.tuples(*[st.floats(0.5, 4.0)] * 3))
def test_a_disjoint_cube_is_as_far_in_mm_as_it_was_moved(axis, moved, spacing):
    start = [4, 4, 4]
    reference = cube(tuple(start), spacing=spacing)
    start[axis] += moved
    (score,) = evaluate_label_maps(reference, cube(tuple(start), spacing=spacing), [FRONT])
    # The far face is 5 % or more of the surface, so the 95th percentile is the whole shift.
    assert score.hd95_mm == pytest.approx(moved * spacing[axis], rel=1e-4)
    assert score.dice == 0.0
    assert score.volume_error_ml == pytest.approx(0.0)


def test_figures_of_a_moved_and_of_a_smaller_cube():
    spacing = (2.0, 2.5, 4.0)  # 0.02 ml a voxel
    (moved,) = evaluate_label_maps(cube((4, 4, 4)), cube((6, 4, 4)), [FRONT])
    (smaller,) = evaluate_label_maps(cube((4, 4, 4), spacing=spacing), cube((4, 4, 4), 5, spacing=spacing), [FRONT])
    (border,) = evaluate_label_maps(cube((0, 0, 0)), cube((0, 0, 18)), [FRONT])
    assert moved.dice == pytest.approx(2 / 3)
    assert smaller.volume_error_ml == pytest.approx((125 - 216) * 0.02)
    assert border.hd95_mm == pytest.approx(18.0), "a structure at the image border has a surface there"


def test_surface_dice_counts_what_lies_within_the_tolerance():
    reference, moved = cube((4, 4, 4), spacing=(1.5, 1, 1)), cube((5, 4, 4), spacing=(1.5, 1, 1))
    strict, loose = (
        evaluate_label_maps(reference, moved, [FRONT], tolerance_mm=tolerance)[0].surface_dice
        for tolerance in (1.0, 2.0)
    )
    assert strict < 1.0 == loose


def test_distances_do_not_depend_on_where_the_structure_lies():
    near = evaluate_label_maps(cube((0, 0, 0)), cube((2, 1, 0)), [FRONT])[0]
    middle = evaluate_label_maps(cube((8, 8, 8)), cube((10, 9, 8)), [FRONT])[0]
    assert (near.dice, near.hd95_mm, near.surface_dice) == (middle.dice, middle.hd95_mm, middle.surface_dice)


@pytest.mark.parametrize("prediction", [empty(), cube((4, 4, 4))], ids=["absent", "predicted"])
def test_a_structure_absent_from_the_reference_is_neither_zero_nor_perfect(prediction):
    (score,) = evaluate_label_maps(empty(), prediction, [FRONT])
    assert score.status is Status.NOT_IN_REFERENCE
    assert (score.dice, score.hd95_mm, score.surface_dice, score.volume_error_ml) == (None, None, None, None)
    summary = summarise([score])[0]
    assert summary.dice.n == 0
    assert mean_dice([summary]) is None


def test_maps_on_different_grids_are_refused():
    with pytest.raises(GeometryError, match=r"case k .* different grids"):
        evaluate_label_maps(cube((4, 4, 4)), cube((4, 4, 4), spacing=(1, 1, 2)), [FRONT], case="k")


def test_summary_counts_a_missed_structure_as_dice_zero_and_names_the_case():
    scores = [
        *evaluate_label_maps(cube((4, 4, 4)), cube((4, 4, 4)), [FRONT, BACK], case="good"),
        *evaluate_label_maps(cube((4, 4, 4)), empty(), [FRONT, BACK], case="bad"),
    ]
    missed = scores[2]
    assert missed.status is Status.MISSING_IN_PREDICTION
    assert (missed.dice, missed.hd95_mm, missed.surface_dice) == (0.0, None, None)
    assert missed.volume_error_ml == pytest.approx(-0.216)
    front, back = summarise(scores)
    assert (front.dice.n, front.dice.mean, front.hd95_mm.n) == (2, 0.5, 1)
    assert front.missing_in_prediction == ("bad",)
    assert back.not_in_reference == ("good", "bad")
    assert mean_dice([front, back]) == 0.5
    assert any("missing in the prediction of bad" in remark for remark in remarks([front, back]))


def test_figures_ignore_what_does_not_exist():
    figure = Figure.of([None, 1.0, 3.0, math.nan])
    assert (figure.n, figure.mean, figure.median, figure.lowest, figure.highest) == (2, 2.0, 2.0, 1.0, 3.0)
    assert figure.std == pytest.approx(math.sqrt(2))
    assert Figure.of([None]) == Figure(0)


def test_csv_has_the_agreed_columns_and_empty_cells_for_missing_figures(tmp_path):
    scores = evaluate_label_maps(cube((4, 4, 4)), empty(), [FRONT, BACK], case="a,b")
    with write_metrics_csv(tmp_path / "metrics.csv", scores).open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert tuple(rows[0]) == COLUMNS == ("case", "label", "dice", "hd95_mm", "surface_dice", "volume_error_ml")
    assert rows[1:] == [["a,b", "front", "0", "", "", "-0.216"], ["a,b", "back", "", "", "", ""]]


def test_model_labels_are_matched_by_name_not_by_value():
    (score,) = evaluate_label_maps(cube((4, 4, 4)), empty(), [FRONT], unknown=["front"])
    assert (score.status, score.dice) == (Status.NOT_KNOWN, None)
    model = [Label(7, "Left_Parotid"), Label(9, "extra")]
    values, unknown = match_labels(model, [Label(1, "left parotid"), Label(2, "mandible")])
    assert values == {7: 1}
    assert unknown == ("mandible",)
    result = LabelMap(np.array([[[0, 7, 9]]], np.uint8), np.eye(4)).with_values(values)
    assert result.array.tolist() == [[[0, 1, 0]]]


def test_a_model_of_another_anatomy_is_refused_with_both_lists():
    with pytest.raises(DatasetError, match=r"'liver'.*'front'"):
        match_labels([Label(1, "liver")], [FRONT])


class EchoesReference:
    """Predicts the reference; `ends` maps case ids to what is raised instead."""

    unknown = ()

    def __init__(self, reference: LabelMap, ends: dict[str, Exception]) -> None:
        self._reference, self._ends = reference, ends

    def label_map(self, case: Case) -> LabelMap:
        if case.id in self._ends:
            raise self._ends[case.id]
        return self._reference


def labelled_cases(folder: Path, names: str) -> list[Case]:
    reference = folder / "reference.nii.gz"
    write_label_map(reference, cube((4, 4, 4)), [FRONT])
    return [Case(name, (folder / f"{name}.nii.gz",), reference) for name in names]


def test_a_damaged_case_is_set_aside_and_the_others_are_evaluated(tmp_path):
    predictions = EchoesReference(cube((4, 4, 4)), {"b": VolumeReadError("the file is truncated"), "e": MemoryError()})
    seen: list[tuple[int, int, str]] = []
    cases = [*labelled_cases(tmp_path, "abc"), Case("d", (tmp_path / "d.nii.gz",)), *labelled_cases(tmp_path, "e")]
    result = evaluate_cases(cases, predictions, Measure([FRONT]), on_case=lambda *step: seen.append(step))
    assert [score.case for score in result.scores] == ["a", "c"]
    assert result.failures == {
        "b": "the file is truncated",
        "d": "there is no label map.",
        "e": "There is not enough memory for this case.",
    }
    assert seen[0] == (0, 5, "a")
    assert seen[-1] == (5, 5, "")


def test_cancelling_ends_the_whole_evaluation(tmp_path):
    with pytest.raises(Cancelled):
        evaluate_cases(labelled_cases(tmp_path, "ab"), EchoesReference(empty(), {"a": Cancelled()}), Measure([FRONT]))


class Predicts:
    """A predictor whose answer is known, with one warning."""

    def __init__(self, label_map: LabelMap) -> None:
        self._label_map = label_map

    def predict(self, volume: Volume) -> Prediction:
        assert volume.grid.matches(self._label_map.grid)
        return Prediction(self._label_map, 0.0, "cpu", warnings=("short of memory",))


@pytest.mark.parametrize("version", [1, 2])
def test_a_case_the_model_was_trained_on_is_pointed_out(tmp_path, version):
    body = cube((4, 4, 4), value=5)
    for name in ("seen", "new"):
        image = np.random.default_rng(len(name)).random((24, 24, 24), np.float32)
        nib.save(nib.Nifti1Image(image, body.ijk_to_ras), tmp_path / f"{name}.nii.gz")
    cases = [Case(name, (tmp_path / f"{name}.nii.gz",)) for name in ("seen", "new")]
    trained_on = {voxel_hash(read_volume(tmp_path / "seen.nii.gz").array, version)}
    predictions = ModelPredictions(Predicts(body), [Label(5, "Front")], [FRONT], trained_on=trained_on)
    for case in cases:
        assert np.array_equal(predictions.label_map(case).array, cube((4, 4, 4)).array)
    assert predictions.warnings == {"seen": (TRAINED_ON_THIS, "short of memory"), "new": ("short of memory",)}


@pytest.mark.parametrize("orientation", ["RAS", "LPI", "SRA", "AIL"])
def test_what_lies_beyond_the_annotated_slices_counts_on_neither_side(orientation):
    reference, prediction = (np.zeros((10, 10, 10), np.uint8) for _ in range(2))
    reference[4:6, 4:6, 3:6] = FRONT.value
    prediction[4:6, 4:6, 1:9] = FRONT.value  # right, and longer than was drawn
    prediction[0, 0, 4] = FRONT.value  # wrong
    prediction[8:, 8:, :] = BACK.value  # is judged everywhere
    turn = Reordering.to(orientation, np.eye(4))
    matrix = np.eye(4) @ turn.indices((10, 10, 10))
    truth, given = (LabelMap(turn.apply(array), matrix) for array in (reference, prediction))
    expected = np.where(
        (np.arange(10) < 3) | (np.arange(10) > 5), np.where(prediction == FRONT.value, 0, prediction), prediction
    )
    found = within_annotated_slices(truth, given, [FRONT.value])
    np.testing.assert_array_equal(found.array, turn.apply(expected))
    np.testing.assert_array_equal(given.array, turn.apply(prediction), "the prediction itself stays")
    untouched = within_annotated_slices(LabelMap(np.zeros_like(truth.array), matrix), given, [FRONT.value])
    np.testing.assert_array_equal(untouched.array, given.array)


@pytest.fixture
def dataset(tmp_path, phantom) -> Path:
    """Three labelled cases; `predictions` holds a perfect map, an empty one, and a damaged file."""
    for name in ("images", "labels", "predictions"):
        (tmp_path / name).mkdir()
    body = phantom.oblique()
    for case in ("one", "two", "three"):
        nib.save(nib.Nifti1Image(body.volume.array[0], body.volume.ijk_to_ras), tmp_path / f"images/{case}.nii.gz")
        write_label_map(tmp_path / f"labels/{case}.nii.gz", body.label_map, body.labels)
    write_label_map(tmp_path / "predictions/one.nii.gz", body.label_map, body.labels)
    nothing = LabelMap(np.zeros_like(body.label_map.array), body.label_map.ijk_to_ras)
    write_label_map(tmp_path / "predictions/two.nii.gz", nothing, body.labels)
    (tmp_path / "predictions/three.nii.gz").write_bytes(b"not an image")
    description = {"labels": {"background": 0, "front": 1, "back": 2}, "splits": {"test": ["one", "two"]}}
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    return tmp_path


def evaluate(dataset: Path, *words: str) -> int:
    out = dataset / "out"
    return main(
        ["evaluate", "--data", str(dataset), "--predictions", str(dataset / "predictions"), "--out", str(out), *words]
    )


def test_evaluate_writes_figures_prints_a_table_and_lists_a_damaged_case(dataset, capsys):
    assert evaluate(dataset, "--split", "test") == 0
    assert evaluate(dataset) == 1
    rows = list(csv.DictReader((dataset / "out/metrics.csv").open()))
    names = [(case, label) for case in ("one", "two") for label in ("front", "back")]
    assert [(row["case"], row["label"]) for row in rows] == names
    assert [row["dice"] for row in rows] == ["1", "1", "0", "0"]
    summary = json.loads((dataset / "out/summary.json").read_text())
    assert summary["mean_dice"] == 0.5
    assert summary["labels"][0]["missing_in_prediction"] == ["two"]
    assert set(summary["failed_cases"]) == {"three"}
    printed = capsys.readouterr().out
    for said in ("front", "missing in the prediction of two", "1 of 3 cases could not be evaluated", "three: "):
        assert said in printed


def test_evaluate_refuses_an_unknown_model_before_any_work(dataset, capsys):
    words = ["evaluate", "--data", str(dataset), "-m", "no-such-model", "--out", str(dataset / "out")]
    assert main(words) == 2
    assert "no-such-model" in capsys.readouterr().err
    assert not (dataset / "out/metrics.csv").exists()


def test_reference_labels_agree_with_themselves_on_real_cases(real_data, tmp_path):
    data = real_data / "headneck_ct"
    words = ["--split", "validation:1", "--predictions", str(data / "labels"), "--out", str(tmp_path)]
    assert main(["evaluate", "--data", str(data), *words]) == 0
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert rows
    assert {row["dice"] for row in rows} <= {"1", ""}


@pytest.mark.parametrize(("words", "overlap"), [((), "the model's"), (("--overlap", "0.25"), 0.25)])
def test_the_summary_says_with_which_overlap_a_model_was_measured(real_data, tmp_path, words, overlap):
    model = ModelStore().find("headneck-ct")
    options = ["-m", "headneck-ct", "--split", "pool:1", "--device", "cpu", "--out", str(tmp_path), *words]
    assert main(["evaluate", "--data", str(real_data / "headneck_ct"), *options]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    wanted = InferenceSettings.of_model(model.spec.inference).overlap if isinstance(overlap, str) else overlap
    assert summary["overlap"] == wanted
    assert summary["mean_dice"] > 0.5
