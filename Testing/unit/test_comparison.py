"""Two segmentations of one scan, compared by the names of their structures."""

from __future__ import annotations

import numpy as np
import pytest

from MAESegmentLib.errors import GeometryError
from MAESegmentLib.evaluation.comparison import Row, compare_label_maps
from MAESegmentLib.images.labels import Label
from MAESegmentLib.images.volume import LabelMap

LABELS = (Label(1, "front"), Label(2, "back"))
#: Oblique voxels of 2 x 2.5 x 4 mm: 0.02 ml.
MATRIX = np.array([[0, -2.5, 0, 7], [-2, 0, 0, -3], [0, 0, 4, 11], [0, 0, 0, 1]], float)


def label_map(*blocks: tuple[int, slice], matrix: np.ndarray = MATRIX) -> LabelMap:
    """(10, 4, 5) voxels, each block over a range of I."""
    array = np.zeros((10, 4, 5), np.uint8)
    for value, rows in blocks:
        array[rows] = value
    return LabelMap(array, matrix)


def test_volumes_dice_and_where_they_differ() -> None:
    first, second = label_map((1, slice(0, 4)), (2, slice(6, 8))), label_map((1, slice(1, 5)), (2, slice(6, 8)))
    found = compare_label_maps(first, second, LABELS)
    assert found.rows == (
        Row("front", pytest.approx(1.6), pytest.approx(1.6), 0.75),
        Row("back", pytest.approx(0.8), pytest.approx(0.8), 1.0),
    )
    assert np.flatnonzero(found.disagreement.array.any(axis=(1, 2))).tolist() == [0, 4]
    assert found.disagreement.array.dtype == np.uint8
    assert found.disagreement.array.max() == 1
    assert found.disagreement.grid.matches(first.grid)
    assert found.disagreement_ml == pytest.approx(0.8)


def test_one_voxel_taken_for_another_structure_is_a_disagreement() -> None:
    found = compare_label_maps(label_map((1, slice(0, 4))), label_map((2, slice(0, 4))), LABELS)
    assert found.rows == (Row("front", pytest.approx(1.6), 0.0, 0.0), Row("back", 0.0, pytest.approx(1.6), 0.0))
    assert found.disagreement.array.sum() == 80


def test_the_same_structure_under_another_value_is_the_same() -> None:
    other = (Label(7, "Back"), Label(1000, "front"))
    array = np.zeros((10, 4, 5), np.uint16)
    array[:4] = 1000
    found = compare_label_maps(label_map((1, slice(0, 4))), LabelMap(array, MATRIX), LABELS, other)
    assert found.rows[0] == Row("front", pytest.approx(1.6), pytest.approx(1.6), 1.0)
    assert found.rows[1] == Row("back", 0.0, 0.0, None)
    assert not found.disagreement.array.any()


def test_a_structure_that_one_model_does_not_know_is_no_disagreement() -> None:
    first = label_map((1, slice(0, 4)), (2, slice(4, 6)))
    second = label_map((1, slice(0, 4)), (3, slice(8, 10)))
    found = compare_label_maps(first, second, LABELS, (LABELS[0], Label(3, "middle")))
    assert found.rows == (
        Row("front", pytest.approx(1.6), pytest.approx(1.6), 1.0),
        Row("back", pytest.approx(0.8), None, None),
        Row("middle", None, pytest.approx(0.8), None),
    )
    assert not found.disagreement.array.any()


def test_where_one_finds_nothing_the_dice_is_zero() -> None:
    found = compare_label_maps(label_map((1, slice(0, 4))), label_map(), LABELS)
    assert found.rows[0].dice == 0.0
    assert found.rows[1].dice is None


def test_a_value_that_no_label_names_is_background() -> None:
    found = compare_label_maps(label_map((9, slice(0, 4))), label_map(), LABELS)
    assert not found.disagreement.array.any()


def test_label_maps_of_other_grids_are_refused() -> None:
    moved = MATRIX.copy()
    moved[0, 3] += 1
    with pytest.raises(GeometryError, match="different grids"):
        compare_label_maps(label_map(), label_map(matrix=moved), LABELS)
