"""From the input grid to the network's and back, checked by positions in space."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from MAESegmentLib.errors import ConfigurationError, GeometryError
from MAESegmentLib.images.reading import read_volume
from MAESegmentLib.images.volume import LabelMap, Volume
from MAESegmentLib.preprocessing.grid import NetworkGrid
from MAESegmentLib.preprocessing.intensity import IntensityRecipe
from MAESegmentLib.preprocessing.plan import Preprocessing, pad_to
from Testing.phantoms import PhantomFactory, affine

ORIENTATIONS = ["".join(p) for axes in permutations(("RL", "AP", "SI")) for p in product(*axes)]
#: Leaves grey values as they are.
UNCHANGED = IntensityRecipe("ct", lower=-1e6, upper=1e6, mean=0.0, std=1.0)

orientations = st.sampled_from(ORIENTATIONS)
sizes = st.tuples(*[st.integers(2, 9)] * 3)
spacings = st.tuples(*[st.floats(0.4, 5.0)] * 3)
angles = st.tuples(*[st.floats(-40, 40)] * 3)


def positions(shape: tuple[int, ...], matrix: np.ndarray) -> np.ndarray:
    """World position of every voxel, (3, I, J, K)."""
    indices = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")).astype(float)
    return np.einsum("ab,bijk->aijk", matrix[:3, :3], indices) + matrix[:3, 3].reshape(3, 1, 1, 1)


def same_spacing(volume: Volume, orientation: str) -> Preprocessing:
    spacing = tuple(NetworkGrid.fit(volume.grid, orientation, (1, 1, 1)).canonical_spacing)
    return Preprocessing(orientation, spacing, (8, 8, 8), UNCHANGED)


@settings(max_examples=60)
@given(given_as=orientations, wanted=orientations, shape=sizes, spacing=spacings, rotation=angles)
def test_every_voxel_keeps_its_place_in_space_at_equal_spacing(given_as, wanted, shape, spacing, rotation) -> None:
    matrix = affine(given_as, shape, spacing, rotation, centre=(5, -7, 3))
    volume = Volume(positions(shape, matrix), matrix)
    prepared = same_spacing(volume, wanted).prepare(volume)
    expected = positions(prepared.grid.shape, prepared.grid.ijk_to_ras)
    np.testing.assert_allclose(prepared.image, expected, atol=1e-3)


@settings(max_examples=60)
@given(given_as=orientations, wanted=orientations, shape=sizes, spacing=spacings, target=spacings)
def test_resampling_keeps_extent_and_comes_near_the_wanted_spacing(given_as, wanted, shape, spacing, target) -> None:
    volume = Volume(np.zeros((1, *shape)), affine(given_as, shape, spacing, (10, 20, -15), centre=(9, 8, 7)))
    grid = NetworkGrid.fit(volume.grid, wanted, target)
    np.testing.assert_allclose(grid.spacing * grid.shape, grid.canonical_spacing * grid.canonical_shape)
    extent = grid.canonical_spacing * grid.canonical_shape
    assert np.all(
        np.abs(extent / grid.spacing - extent / np.array(target)) <= np.maximum(0.5, 1 - extent / target) + 1e-9
    )
    # Same middle and same extent: the box of both grids is the same.
    middle = grid.ijk_to_ras @ [*((np.array(grid.shape) - 1) / 2), 1]
    np.testing.assert_allclose(middle[:3], (9, 8, 7), atol=1e-6)


@settings(max_examples=25)
@given(given_as=orientations, wanted=orientations, rotation=angles, target=st.tuples(*[st.floats(0.7, 3.5)] * 3))
def test_a_blob_stays_within_a_voxel_of_its_place_when_resampled(given_as, wanted, rotation, target) -> None:
    shape = (20, 17, 14)
    matrix = affine(given_as, shape, (1.0, 1.2, 1.6), rotation)
    centre = np.array([1.5, -2.0, 0.7])
    distance = np.linalg.norm(positions(shape, matrix) - centre.reshape(3, 1, 1, 1), axis=0)
    volume = Volume(np.exp(-0.5 * (distance / 2.5) ** 2)[None], matrix)
    prepared = Preprocessing(wanted, target, (8, 8, 8), UNCHANGED).prepare(volume)
    weight = prepared.image[0]
    where = positions(weight.shape, prepared.grid.ijk_to_ras)
    found = (where * weight).sum(axis=(1, 2, 3)) / weight.sum()
    assert np.linalg.norm(found - centre) < 0.5 * min(target)


def test_orientation_files_give_identical_voxels(real_data: Path) -> None:
    files = sorted((real_data / "geometry" / "orientations").glob("*.nii.gz"))
    assert len(files) == 8
    prepared = []
    for file in files:
        volume = read_volume(file)
        prepared.append(Preprocessing("RAS", (2.0, 3.0, 2.5), (8, 8, 8), IntensityRecipe("zscore")).prepare(volume))
    for other in prepared[1:]:
        assert np.array_equal(other.image, prepared[0].image)
        np.testing.assert_allclose(other.grid.ijk_to_ras, prepared[0].grid.ijk_to_ras, atol=1e-3)


def test_nothing_is_resampled_when_the_spacing_is_right(phantom: PhantomFactory) -> None:
    volume = phantom.oblique(noise=5.0).volume
    prepared = same_spacing(volume, "RAS").prepare(volume)
    assert not prepared.grid.resamples
    np.testing.assert_array_equal(prepared.image[0], prepared.grid.to_canonical(volume.array[0]))


def test_channels_are_prepared_like_single_volumes(phantom: PhantomFactory) -> None:
    volume = phantom.oblique(channels=2, noise=5.0).volume
    recipe = Preprocessing("RAS", (2.0, 2.0, 2.0), (8, 8, 8), IntensityRecipe("zscore"))
    both = recipe.prepare(volume).image
    for index in range(2):
        alone = recipe.prepare(Volume(volume.array[index : index + 1], volume.ijk_to_ras)).image[0]
        assert np.array_equal(both[index], alone)


def test_coarser_resampling_averages_rather_than_skips() -> None:
    stripes = np.zeros((1, 24, 24, 24), np.float32)
    stripes[:, ::2] = 1.0
    image = Preprocessing("RAS", (4.0, 4.0, 4.0), (2, 2, 2), UNCHANGED).prepare(Volume(stripes, np.eye(4))).image
    assert image.min() > 0.4
    assert image.max() < 0.6


def test_labels_at_equal_spacing_are_only_reordered(phantom: PhantomFactory) -> None:
    scan = phantom("PIL")
    recipe = same_spacing(scan.volume, "RAS")
    labels = recipe.prepare_labels(scan.label_map, recipe.grid_for(scan.volume))
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, phantom("RAS", shape=tuple(labels.shape)).label_map.array)


def test_resampled_labels_keep_their_values_and_volume(phantom: PhantomFactory) -> None:
    scan = phantom("LPS", shape=(40, 40, 40), spacing=(0.6, 0.6, 0.6))
    values = scan.label_map.array.astype(np.uint16) * 300
    recipe = Preprocessing("RAS", (0.9, 0.9, 0.9), (8, 8, 8), UNCHANGED)
    labels = recipe.prepare_labels(LabelMap(values, scan.label_map.ijk_to_ras), recipe.grid_for(scan.volume))
    assert labels.dtype == np.int64
    assert set(np.unique(labels).tolist()) == {0, 300, 600}
    for value in (300, 600):
        before, after = (values == value).sum() * 0.6**3, float((labels == value).sum()) * 0.9**3
        assert abs(after / before - 1) < 0.05


def test_labels_of_another_grid_are_refused(phantom: PhantomFactory) -> None:
    recipe = same_spacing(phantom().volume, "RAS")
    with pytest.raises(GeometryError, match="does not lie on its image's grid"):
        recipe.prepare_labels(phantom.oblique().label_map, recipe.grid_for(phantom().volume))


def test_padding_reaches_the_patch_and_says_where_the_image_starts() -> None:
    image = torch.ones(1, 4, 9, 6)
    padded, (d, h, w) = pad_to(image, (8, 8, 9))
    assert padded.shape == (1, 8, 9, 9)
    assert torch.equal(padded[:, d : d + 4, h : h + 9, w : w + 6], image)
    assert padded.sum() == image.sum()


@pytest.mark.parametrize(
    "wrong", [{"orientation": "RAR"}, {"orientation": "XYZ"}, {"spacing": (1.0, 0.0, 1.0)}, {"patch_size": (8, 8)}]
)
def test_preprocessing_that_cannot_work_is_refused(wrong: dict) -> None:
    right = {"orientation": "RAS", "spacing": (1.0, 1.0, 1.0), "patch_size": (8, 8, 8), "intensity": UNCHANGED}
    with pytest.raises(ConfigurationError):
        Preprocessing(**{**right, **wrong})
