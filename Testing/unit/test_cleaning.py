"""Stray pieces and holes: what goes, what stays, and who is told."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from MAESegmentLib.bundle import Bundle
from MAESegmentLib.bundle.usage.cleaning import KEY, Cleaning, inherited
from MAESegmentLib.cli.main import main
from MAESegmentLib.images.labels import Label
from MAESegmentLib.images.reading import read_label_map
from MAESegmentLib.images.volume import LabelMap
from MAESegmentLib.images.volumetry import voxel_ml
from MAESegmentLib.images.writing import write_volume
from MAESegmentLib.inference import InferenceSettings, Predictor
from MAESegmentLib.inference.islands import Cleaned, Runs, clean, cleaned_text
from Testing.bundles import save_tiny, tiny_spec
from Testing.phantoms import PhantomFactory

#: Voxels of 0.5 x 1 x 3 mm.
ML = 0.0015
MAPS = st.tuples(*[st.integers(1, 9)] * 3).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 0, 1, 1, 2]))
)
RECIPES = st.dictionaries(
    st.sampled_from([1, 2, 3]),
    st.builds(
        Cleaning,
        smallest_mm3=st.sampled_from([0.0, 3.0, 6.0, 50.0]),
        smallest_share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
        close_holes=st.booleans(),
    ),
)


def cleaned(labels: np.ndarray, recipes: dict[int, Cleaning]) -> np.ndarray:
    result = labels.copy()
    clean(result, recipes, ML)
    return result


@given(MAPS, RECIPES)
@settings(deadline=None, max_examples=200)
def test_cleaning_removes_closes_and_does_nothing_else(labels: np.ndarray, recipes: dict[int, Cleaning]) -> None:
    result = cleaned(labels, recipes)
    for value in (1, 2):
        before, after, recipe = labels == value, result == value, recipes.get(value, Cleaning())
        added = after & ~before
        closed = ndimage.binary_fill_holes(before) if recipe.close_holes else before
        assert not np.any(added & ~closed)
        assert after.any() == before.any()
        assert not np.any(added & (labels == 3 - value) & (result == 3 - value))
        if value not in recipes:
            assert np.array_equal(after, before)
    assert np.array_equal(cleaned(result, recipes), result)


@given(MAPS, RECIPES, st.sampled_from([(0,), (1,), (2,), (0, 1, 2)]), st.permutations([0, 1, 2]))
@settings(deadline=None, max_examples=100)
def test_cleaning_does_not_depend_on_how_the_map_lies_in_memory(
    labels: np.ndarray, recipes: dict[int, Cleaning], flipped: tuple[int, ...], order: list[int]
) -> None:
    other = np.flip(labels.transpose(order), flipped)
    expected = np.flip(cleaned(labels, recipes).transpose(order), flipped)
    np.testing.assert_array_equal(cleaned(other, recipes), expected)


@given(MAPS, st.booleans())
@settings(deadline=None, max_examples=100)
def test_pieces_are_those_of_another_implementation(labels: np.ndarray, corners: bool) -> None:
    runs = Runs.of(labels, lambda slab: slab == 1)
    if not len(runs):
        return
    pieces = runs.pieces(corners=corners)
    expected, count = ndimage.label(labels == 1, np.ones((3, 3, 3)) if corners else None)
    assert len(set(zip(pieces, expected[runs.slab, runs.row, runs.start], strict=True))) == pieces.max() + 1 == count
    assert sorted(np.bincount(pieces, runs.sizes)) == sorted(np.bincount(expected.ravel())[1:])


def two_parts() -> np.ndarray:
    """100, 60 and 4 voxels of label 1; a hole of one voxel in the first."""
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[1:6, 1:6, 1:5] = 1
    labels[3, 3, 3] = 0
    labels[10:15, 10:14, 10:13] = 1
    labels[18, 16:20, 18] = 1
    return labels


def test_size_is_in_mm3_and_two_real_parts_stay() -> None:
    labels = two_parts()
    assert np.count_nonzero(cleaned(labels, {1: Cleaning(smallest_mm3=6.0)})) == 163  # 4 voxels of 1.5 mm3
    assert np.count_nonzero(cleaned(labels, {1: Cleaning(smallest_mm3=6.1)})) == 159
    assert np.count_nonzero(cleaned(labels, {1: Cleaning(smallest_share=0.5)})) == 159
    assert np.count_nonzero(cleaned(labels, {1: Cleaning(smallest_share=1.0)})) == 99
    assert np.count_nonzero(cleaned(labels, {1: Cleaning(smallest_mm3=1e9)})) == 99  # the largest always stays


def test_what_changed_is_counted() -> None:
    labels = two_parts()
    changed, left = clean(labels, {1: Cleaning(smallest_share=1.0, close_holes=True), 7: Cleaning()}, ML)
    assert left == []
    found = changed.pop(1)
    assert changed == {}
    assert (found.islands, found.holes) == (2, 1)
    assert found.removed_ml == pytest.approx(64 * ML)
    assert found.share == pytest.approx(64 / 163)
    assert Cleaned.from_dict(found.to_dict()) == found
    text = cleaned_text({"Cord": found})
    assert text == "Cord -0.10 ml in 2 stray pieces; Cord +0.00 ml in 1 closed hole"


def test_a_fine_tuned_model_cleans_and_has_boxes_placed_for_only_the_same_structures() -> None:
    inference = {"overlap": 0.5, KEY: {"1": {"smallest_share": 0.5}}, "locator": {"model": "brain"}}
    labels = (Label(1, "Cord"), Label(2, "Brainstem"))
    assert inherited(inference, labels, labels) == inference
    assert inherited(inference, labels, labels[:1]) == {"overlap": 0.5}
    assert inherited(inference, labels, (Label(1, "Vessels"), labels[1])) == {"overlap": 0.5}


# Where results are made: a network that was never trained gives nothing but stray pieces --------------------------

LARGEST = {"smallest_share": 1.0}


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    spec = tiny_spec(inference={KEY: {"1": LARGEST, "2": {"smallest_mm3": 0.0}}})
    return save_tiny(tmp_path_factory.mktemp("models") / "noisy", spec)


@pytest.fixture
def scan(tmp_path: Path, phantom: PhantomFactory) -> Path:
    return write_volume(tmp_path / "head.nii.gz", phantom.anisotropic(noise=40.0).volume)


def run(noisy: Bundle, *words: object) -> None:
    assert main([*map(str, words), "-m", str(noisy.path), "--device", "cpu"]) == 0


def test_segment_cleans_and_says_so_unless_told_not_to(
    noisy: Bundle,
    scan: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("MAESegmentLib.inference.predictor.MUCH", 0.0)
    run(noisy, "segment", scan, "--no-clean", "-o", tmp_path / "raw.nii.gz")
    assert "cleaned" not in capsys.readouterr().out
    run(noisy, "segment", scan, "-o", tmp_path / "clean.nii.gz")
    said = capsys.readouterr()
    raw, result = (read_label_map(tmp_path / f"{name}.nii.gz") for name in ("raw", "clean"))
    _pieces, count = ndimage.label(raw.array == 1, np.ones((3, 3, 3)))
    assert count > 1
    assert ndimage.label(result.array == 1, np.ones((3, 3, 3)))[1] == 1
    np.testing.assert_array_equal(result.array == 2, raw.array == 2)
    removed = np.count_nonzero(raw.array == 1) - np.count_nonzero(result.array == 1)
    assert f"cleaned: anterior -{removed * voxel_ml(raw):.2f} ml in {count - 1} stray piece" in said.out
    assert "warning: " in said.err
    assert "was removed as stray: check that nothing is missing" in said.err


def test_batch_keeps_what_was_cleaned_and_continues_a_table_of_the_version_before(
    noisy: Bundle, scan: Path, tmp_path: Path
) -> None:
    run(noisy, "batch", scan.parent, "-o", tmp_path / "out")
    table = tmp_path / "out" / "volumes.csv"
    (row,) = csv.DictReader(table.read_text().splitlines())
    assert row["cleaned"].startswith("anterior -")
    old = [line.rpartition(",")[0] for line in table.read_text().splitlines()]
    table.write_text("\n".join(old) + "\n")
    write_volume(scan.parent / "second.nii.gz", PhantomFactory()(noise=30.0).volume)
    run(noisy, "batch", scan.parent, "-o", tmp_path / "out")
    rows = {row["volume"]: row for row in csv.DictReader(table.read_text().splitlines())}
    assert rows["head"]["cleaned"] == ""
    assert rows["second"]["cleaned"].startswith("anterior -")
    assert all(None not in row for row in rows.values())


def test_models_without_a_recipe_and_maps_of_the_network_are_as_before(noisy: Bundle, phantom: PhantomFactory) -> None:
    volume = phantom.anisotropic(noise=40.0).volume
    chosen = InferenceSettings(device="cpu", precision="fp32", check_familiarity=False)
    prediction = Predictor(noisy, chosen).predict(volume, want_probabilities=True)
    raw = Predictor(noisy, replace(chosen, clean=False)).predict(volume, want_probabilities=True)
    assert (raw.cleaned, raw.warnings) == ({}, ())
    assert prediction.probabilities is not None
    assert raw.probabilities is not None
    np.testing.assert_array_equal(prediction.probabilities.array, raw.probabilities.array)
    assert isinstance(prediction.label_map, LabelMap)
    assert "clean" not in chosen.decisive()
    assert replace(chosen, clean=False).decisive()["clean"] is False


def test_too_little_memory_leaves_the_result_and_says_so(
    noisy: Bundle, phantom: PhantomFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = phantom.anisotropic(noise=40.0).volume
    chosen = InferenceSettings(device="cpu", precision="fp32", check_familiarity=False)
    raw = Predictor(noisy, replace(chosen, clean=False)).predict(volume).label_map.array
    monkeypatch.setattr("MAESegmentLib.inference.islands.memory_problem", lambda _needed: "it needs 9 GiB")
    prediction = Predictor(noisy, chosen).predict(volume)
    np.testing.assert_array_equal(prediction.label_map.array, raw)
    assert "Too little memory to remove stray pieces of anterior" in prediction.warnings[0]
