"""Labels on the input grid are those of interpolated probabilities, although most of these are never computed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from MAESegmentLib.images.volume import Grid
from MAESegmentLib.inference import restore
from MAESegmentLib.inference.restore import RowRestorer
from MAESegmentLib.preprocessing.grid import NetworkGrid
from Testing.phantoms import affine


def restored(
    scores: torch.Tensor | np.ndarray, input_shape: tuple[int, int, int], values: list[int], **maps
) -> np.ndarray:
    """Labels (I, J, K) on an RAS grid of `input_shape` from (K, D, H, W)."""
    grid = NetworkGrid(Grid(input_shape, affine("RAS", input_shape)), "RAS", tuple(scores.shape[1:]))
    labels = np.full(input_shape, 99, np.uint8)
    restorer = RowRestorer(grid, values, labels, **maps)
    for row in range(scores.shape[1]):
        restorer.push(row, scores[:, row])
    return labels


def interpolated(scores: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """(K, I, J, K): every probability at every voxel, by torch's own trilinear interpolation."""
    return F.interpolate(scores.double().softmax(0)[None], size=shape, mode="trilinear", align_corners=False)[0]


@given(seed=st.integers(0, 2**31), given_shape=st.tuples(*[st.integers(2, 12)] * 3))
def test_a_gpus_tensors_give_the_labels_of_numpys_arrays(seed: int, given_shape: tuple[int, int, int]) -> None:
    scores = torch.randn((4, 5, 6, 7), generator=torch.Generator().manual_seed(seed))
    maps = [np.zeros((4, *given_shape), np.float32) for _ in range(2)]
    labels = [restored(one, given_shape, [0, 1, 2, 3]) for one in (scores, scores.numpy())]
    for one, found in zip((scores, scores.numpy()), maps, strict=True):
        restored(one, given_shape, [0, 1, 2, 3], probabilities=found)
    np.testing.assert_array_equal(*labels)
    np.testing.assert_allclose(*maps, atol=1e-6)


def assert_largest(labels: np.ndarray, probabilities: torch.Tensor, values: list[int]) -> None:
    """At every voxel the label's probability is the largest, but for rounding where two are equal."""
    index = torch.from_numpy(np.searchsorted(values, labels))[None]
    assert set(np.unique(labels).tolist()) <= set(values)
    behind = probabilities.amax(0) - probabilities.gather(0, index)[0]
    assert float(behind.max()) < 1e-5


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    classes=st.integers(2, 9),
    network=st.tuples(*[st.integers(2, 9)] * 3),
    given_shape=st.tuples(*[st.integers(2, 20)] * 3),
    background=st.sampled_from([-2.0, 0.0, 3.0, 8.0]),
    sharpness=st.sampled_from([0.5, 3.0, 30.0]),
)
def test_labels_are_those_of_the_largest_interpolated_probability(
    seed: int,
    classes: int,
    network: tuple[int, int, int],
    given_shape: tuple[int, int, int],
    background: float,
    sharpness: float,
) -> None:
    scores = torch.randn((classes, *network), generator=torch.Generator().manual_seed(seed)) * sharpness
    scores[0] += background
    values = [0, *range(3, 3 + classes - 1)]
    assert_largest(restored(scores.numpy(), given_shape, values), interpolated(scores, given_shape), values)


def test_a_large_plane_is_worked_on_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore, "_PART", 50)
    scores = torch.randn((4, 5, 7, 6), generator=torch.Generator().manual_seed(1)) * 4
    assert_largest(restored(scores, (9, 23, 17), [0, 1, 2, 3]), interpolated(scores, (9, 23, 17)), [0, 1, 2, 3])


def test_what_lies_between_the_voxels_of_a_coarser_scan_is_nowhere() -> None:
    scores = torch.zeros((2, 2, 4, 8))
    scores[0] = 9.0
    scores[1, :, :, 0] = 20.0  # the two voxels of the input, along this axis, see network voxels 1, 2, 5 and 6
    assert not restored(scores, (2, 4, 2), [0, 1]).any()


def test_nothing_but_background_is_background_everywhere() -> None:
    scores = torch.zeros((3, 4, 4, 4))
    scores[0] = 9.0
    assert not restored(scores, (8, 9, 10), [0, 1, 2]).any()


def test_labels_are_the_same_whether_maps_are_wanted_or_not() -> None:
    scores = torch.randn((5, 6, 7, 8), generator=torch.Generator().manual_seed(2)) * 3
    shape, values = (13, 15, 11), [0, 1, 2, 3, 4]
    maps = {"probabilities": np.zeros((5, *shape), np.float32), "entropy": np.zeros(shape, np.float32)}
    with_maps = restored(scores, shape, values, **maps)
    np.testing.assert_array_equal(with_maps, restored(scores, shape, values))
    np.testing.assert_allclose(maps["probabilities"], interpolated(scores, shape).numpy(), atol=1e-5)
