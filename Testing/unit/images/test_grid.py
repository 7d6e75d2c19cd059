"""Two grids match, or it is said in what they differ, with a figure that shows it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from MAESegmentLib.errors import GeometryError
from MAESegmentLib.images.volume import Grid, LabelMap, Volume
from Testing.phantoms import affine

SHAPE = (8, 8, 8)


def moved(mm: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[0, 3] = mm
    return matrix


def turned(degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return matrix


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (Grid(SHAPE, moved(0.02)), "origins differ by 0.02 mm"),
        (Grid(SHAPE, moved(1200)), "origins differ by 1200 mm"),
        (Grid((8, 8, 9), np.eye(4)), "shapes differ (8 x 8 x 9 and 8 x 8 x 8 voxels)"),
        (Grid(SHAPE, np.diag([1, 1, 1.0015, 1])), "spacings differ (1 x 1 x 1.002 and 1 x 1 x 1 mm)"),
        (Grid((900, 8, 8), np.diag([1.00002, 1, 1, 1])), "spacings differ (1.00002 x 1 x 1 and 1 x 1 x 1 mm)"),
        (Grid(SHAPE, turned(0.3)), "axes differ by 0.3 degrees"),
        (Grid(SHAPE, np.diag([-1, 1, 1, 1])), "axes run differently (LAS and RAS)"),
        (Grid((8, 9, 8), moved(3)), "shapes differ (8 x 9 x 8 and 8 x 8 x 8 voxels); origins differ by 3 mm"),
        (Grid(SHAPE, np.diag([0, 1, 1, 1])), "the voxel positions of one are not defined"),
        (Grid(SHAPE, moved(np.nan)), "the voxel positions of one are not defined"),
    ],
)
def test_what_differs_is_said_and_nothing_else(other: Grid, said: str) -> None:
    assert other.difference(Grid((*other.shape[:1], 8, 8), np.eye(4))) == said


changes = st.builds(
    affine,
    orientation=st.sampled_from(["RAS", "LPS"]),
    spacing=st.tuples(*[st.sampled_from([1.0, 1.0 + 1e-6, 1.0001, 1.01])] * 3),
    rotation_degrees=st.tuples(*[st.sampled_from([0.0, 1e-4, 0.02, 1.0])] * 3),
    centre=st.tuples(*[st.sampled_from([0.0, 0.004, 0.02, 5.0])] * 3),
)


@given(first=changes, second=changes, size=st.sampled_from([8, 300]))
def test_there_is_a_difference_exactly_where_grids_do_not_match(first, second, size):
    one, other = (Grid((size, 8, 8), matrix) for matrix in (first, second))
    text = one.difference(other)
    assert (text == "") == one.matches(other)
    if text:
        assert any(character.isdigit() for character in text) or "axes run" in text


def sheared(first: int, second: int, cosine: float, spacing: tuple[float, float, float]) -> Grid:
    """A grid turned in space whose axes `first` and `second` are at right angles but for `cosine`."""
    directions = np.eye(3)
    directions[first, second] = cosine
    directions[second, second] = np.sqrt(1 - cosine**2)
    matrix = np.eye(4)
    matrix[:3, :3] = turned(30)[:3, :3] @ directions @ np.diag(spacing)
    return Grid(SHAPE, matrix)


@pytest.mark.parametrize("axes", [(0, 1), (1, 0), (0, 2), (2, 1)])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.3, 0.3, 5.0), (5.0, 0.3, 0.3), (40.0, 40.0, 40.0)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_grid_may_be_sheared_by_rounding_and_not_by_more(
    axes: tuple[int, int], spacing: tuple[float, float, float], sign: int
) -> None:
    sheared(*axes, sign * 0.9e-3, spacing).check()
    with pytest.raises(GeometryError, match=r"sheared by 0\.1 degrees"):
        sheared(*axes, sign * 1.1e-3, spacing).check()
    with pytest.raises(GeometryError, match=r"sheared by 15\.0 degrees"):
        sheared(*axes, sign * np.sin(np.radians(15)), spacing).check()


def test_a_crop_keeps_every_voxel_where_it_lies() -> None:
    matrix = affine("LPS", SHAPE, (0.7, 0.9, 2.5), (20.0, 10.0, 5.0))
    array = np.arange(8**3, dtype=np.uint16).reshape(SHAPE)
    block = (slice(1, 6), slice(2, 8), slice(3, 5))
    for whole in (Volume(array[None], matrix), LabelMap(array, matrix)):
        part = whole.crop(block)
        assert part.array.reshape(5, 6, 2)[1, 2, 1] == array[2, 4, 4]
        np.testing.assert_allclose(part.ijk_to_ras @ [1, 2, 1, 1], matrix @ [2, 4, 4, 1])
