"""Volumes unlike those of the cases that a model learnt from are told; where they come from and what may be one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from MAESegmentLib.bundle.usage.cleaning import inherited
from MAESegmentLib.bundle.usage.sizes import KEY, Volumes, unlike_text, volumes_of
from MAESegmentLib.cases.dataset import load_dataset
from MAESegmentLib.errors import ConfigurationError
from MAESegmentLib.images.labels import Label
from MAESegmentLib.images.roi import Roi
from MAESegmentLib.images.volume import LabelMap
from MAESegmentLib.images.volumetry import values_at_border
from MAESegmentLib.inference import InferenceSettings, Predictor
from MAESegmentLib.training.data.annotated_volumes import doubts, volumes_by_case, volumes_entry
from MAESegmentLib.training.data.prepared import IGNORED, PreparedCase
from MAESegmentLib.training.finetune import finetune
from MAESegmentLib.training.run_context import RunContext
from MAESegmentLib.training.settings import FineTuneSettings
from model_training.volumes import measured
from Testing.bundles import save_by_grey, save_tiny, tiny_spec
from Testing.datasets import write_dataset
from Testing.phantoms import PhantomFactory

PARTS = (Label(1, "left cerebrum"), Label(2, "hippocampus"), Label(3, "thalamus"))
QUICK = FineTuneSettings(steps=1, validate_every=1, device="cpu", threads=1)


def test_of_many_cases_twice_the_largest_is_let_through_and_of_few_four_times() -> None:
    many, few = Volumes(4.0, 10.0, 10), Volumes(4.0, 10.0, 9)
    assert [many.is_too_large(ml) for ml in (10.0, 20.0, 20.1)] == [False, False, True]
    assert [few.is_too_large(ml) for ml in (20.1, 40.0, 40.1)] == [False, False, True]
    assert [many.is_too_small(ml) for ml in (0.0, 1.9, 2.0)] == [False, True, False]
    assert [few.is_too_small(ml) for ml in (0.9, 1.0)] == [True, False]


def test_a_warning_names_what_is_unlike_and_what_was_learnt_from() -> None:
    known = {1: Volumes(315.0, 590.0, 18), 2: Volumes(1.4, 5.0, 18), 3: Volumes(5.5, 9.0, 18)}
    assert unlike_text({1: 500.0, 2: 3.0, 3: 0.0}, known, PARTS, set()) == ""
    text = unlike_text({1: 3333.0, 2: 0.3, 3: 8.0}, known, PARTS, set())
    assert "left cerebrum 3333 ml (315 to 590 ml in 18 cases), hippocampus 0.30 ml (1.4 to 5.0 ml in 18 cases)" in text
    assert "thalamus" not in text
    assert "Check that the model is made for this scan" in text
    assert unlike_text({2: 0.3}, known, PARTS, {2}) == "", "one that is cut off may be small"
    assert unlike_text({2: 30.0}, known, PARTS, {2})
    assert unlike_text({1: 9999.0}, {}, PARTS, set()) == "", "a model of a version before knows none"
    many = [Label(n, f"part {n}") for n in range(1, 6)]
    assert " and 2 more." in unlike_text(
        dict.fromkeys(range(1, 6), 99.0), dict.fromkeys(range(1, 6), known[2]), many, set()
    )


@pytest.mark.parametrize(
    "stored",
    [
        [1],
        {"1": 5},
        {"one": {}},
        {"1": {"smallest_ml": 1.0, "largest_ml": 2.0}},
        {"1": {"smallest_ml": 2.0, "largest_ml": 1.0, "cases": 3}},
        {"1": {"smallest_ml": 0, "largest_ml": 1.0, "cases": 3}},
        {"1": {"smallest_ml": True, "largest_ml": 1.0, "cases": 3}},
        {"1": {"smallest_ml": 1.0, "largest_ml": float("inf"), "cases": 3}},
        {"1": {"smallest_ml": 1.0, "largest_ml": 2.0, "cases": 0}},
        {"1": {"smallest_ml": 1.0, "largest_ml": 2.0, "cases": 3, "run": "rm"}},
    ],
)
def test_what_is_no_table_of_volumes_is_refused(stored: object) -> None:
    with pytest.raises(ConfigurationError):
        volumes_of({KEY: stored})


def test_structures_at_any_end_of_the_grid_may_be_cut_off() -> None:
    array = np.zeros((6, 7, 8), np.uint8)
    array[2:4, 2:4, 2:4] = 1
    array[3, 3, 7], array[0, 3, 3], array[5, 5, 5], array[2, 6, 2] = 2, 3, 4, 5
    assert values_at_border(LabelMap(array, np.eye(4))) == {2, 3, 4, 5}


def test_learnt_is_what_was_annotated_throughout_and_what_the_base_knew() -> None:
    labels = [Label(7, "liver"), Label(8, "spleen")]
    first, second, partial = np.zeros((3, 4, 4, 4), np.uint8)
    first[0], second[:3], partial[:] = 1, 1, 1
    partial[0, 0, 0] = IGNORED
    cases = [
        PreparedCase(f"c{n}", np.zeros((1, 4, 4, 4)), (2.0, 5.0, 10.0), one)
        for n, one in enumerate((first, second, partial))
    ]
    found = volumes_by_case(cases, labels)
    assert volumes_entry(found, {}) == {"7": {"smallest_ml": 1.6, "largest_ml": 4.8, "cases": 2}}
    before = {7: Volumes(2.0, 9.0, 30), 8: Volumes(1.0, 1.0, 1)}
    known = volumes_of({KEY: volumes_entry(found, before)})
    assert known == {7: Volumes(1.6, 9.0, 30), 8: Volumes(1.0, 1.0, 1)}


def test_a_contour_far_larger_than_in_the_other_cases_is_doubted_and_not_learnt_as_a_volume() -> None:
    found = {7: {f"c{n}": 20.0 + n for n in range(6)} | {"wrong": 1359.0, "cut off": 0.5}, 8: {"a": 1.0, "b": 900.0}}
    (sentence,) = doubts(found, [Label(7, "cord"), Label(8, "spleen")])
    assert "cord is far larger in wrong (1359 ml) than in the other cases (median 22.5 ml)" in sentence
    known = volumes_of({KEY: volumes_entry(found, {})})
    assert known == {7: Volumes(0.5, 25.0, 7), 8: Volumes(1.0, 900.0, 2)}


def test_fine_tuning_names_such_a_contour_once(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", 5)
    wrong = sorted((tmp_path / "data" / "labels").iterdir())[0]
    image = nib.load(wrong)
    array = np.asarray(image.dataobj).astype(np.uint8)
    array[2:-2, 2:-2, 2:-2] = 1
    nib.save(nib.Nifti1Image(array, image.affine), wrong)
    said: list[str] = []
    context = RunContext(lambda progress: said.append(progress.message))
    dataset, base = load_dataset(tmp_path / "data"), save_tiny(tmp_path / "base")
    model = finetune(dataset, base, tmp_path / "out", QUICK, validation="none", context=context)
    (warning,) = [text for text in said if "far larger in" in text]
    assert warning.startswith("Warning: front is far larger in case_0 (")
    assert "far larger in case_0" in model.card


def test_a_contour_of_what_a_case_lists_as_unknown_is_left_out(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", 2)
    whole, base = load_dataset(tmp_path / "data"), save_tiny(tmp_path / "base")
    first, second = whole.cases
    dataset = replace(whole, cases=(replace(first, unknown=("front",)), replace(second, unknown=("back",))))
    said: list[str] = []
    context = RunContext(lambda progress: said.append(progress.message))
    model = finetune(dataset, base, tmp_path / "out", QUICK, validation="none", context=context)
    assert [one.cases for one in volumes_of(model.spec.inference).values()] == [1, 1]
    assert any("Its contours of front are left out" in text for text in said)


def test_fine_tuning_keeps_the_volumes_of_its_cases_with_the_model(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", 2)
    dataset = load_dataset(tmp_path / "data")
    base = save_tiny(tmp_path / "base")
    model = finetune(dataset, base, tmp_path / "out", QUICK, validation="none")
    known = volumes_of(model.spec.inference)
    for value, found in measured(model, dataset.cases, model.labels).items():
        assert known[value].cases == found.cases == 2
        assert known[value].largest_ml == pytest.approx(found.largest_ml, rel=0.2)
        assert known[value].smallest_ml == pytest.approx(found.smallest_ml, rel=0.2)
    assert set(known) == {label.value for label in model.labels}
    assert KEY in inherited(model.spec.inference, model.labels, model.labels)
    assert KEY not in inherited(model.spec.inference, model.labels, model.labels[:1])


def test_what_a_box_cuts_off_may_be_small(tmp_path: Path, phantom: PhantomFactory) -> None:
    scan = phantom()
    known = {str(label.value): Volumes(1e3, 1e4, 20).to_dict() for label in tiny_spec().labels}
    spec = tiny_spec(inference={"overlap": 0.5, "mirroring": False, KEY: known})
    bundle = save_by_grey(tmp_path / "model", {20.0: 0, 300.0: 0, 700.0: 1, 1000.0: 2}, spec)
    predictor = Predictor(bundle, InferenceSettings(device="cpu", precision="fp32"))
    whole = predictor.predict(scan.volume)
    assert any("Unlike the volumes" in text for text in whole.warnings)
    first, *_others, last = np.argwhere(whole.label_map.array) @ scan.volume.ijk_to_ras[:3, :3].T
    middle = scan.volume.ijk_to_ras[:3, 3] + (first + last) / 2
    roi = Roi(tuple(middle - 3.0), tuple(middle + 3.0))
    found = predictor.predict(scan.volume, roi=roi)
    assert found.label_map.array.any()
    assert not any("Unlike the volumes" in text for text in found.warnings)


@pytest.mark.parametrize(("largest", "warns"), [(0.01, True), (1e4, False)])
def test_a_result_unlike_what_was_learnt_from_comes_with_a_warning(
    tmp_path: Path, phantom: PhantomFactory, largest: float, *, warns: bool
) -> None:
    stored = {str(label.value): Volumes(1e-4, largest, 20).to_dict() for label in tiny_spec().labels}
    spec = tiny_spec(inference={"overlap": 0.5, "mirroring": False, KEY: stored})
    bundle = save_by_grey(tmp_path / "model", {20.0: 0, 300.0: 0, 700.0: 1, 1000.0: 2}, spec)
    settings = InferenceSettings(device="cpu", precision="fp32")
    found = Predictor(bundle, settings).predict(phantom().volume)
    assert found.label_map.array.any()
    assert any("Unlike the volumes" in text for text in found.warnings) == warns
