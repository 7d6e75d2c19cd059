"""A network that knows the answer by grey value: what comes out must lie where it was put in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from MAESegmentLib.errors import Cancelled, DeviceMemoryError, GeometryError, WeightsError
from MAESegmentLib.images.roi import Roi
from MAESegmentLib.images.volume import Volume
from MAESegmentLib.inference.segmenter import Segmenter
from MAESegmentLib.inference.settings import InferenceSettings, Prediction
from MAESegmentLib.preprocessing.intensity import IntensityRecipe
from MAESegmentLib.preprocessing.plan import Preprocessing
from Testing.phantoms import Phantom, PhantomFactory

UNCHANGED = IntensityRecipe("ct", lower=-1e4, upper=1e4, mean=0.0, std=1.0)
phantoms = PhantomFactory()


class NearestGrey(torch.nn.Module):
    """Class k where the voxel is nearer to one of `greys[k]` than to any other: (B, 1, ...) -> (B, K, ...)."""

    def __init__(self, *greys: tuple[float, ...]) -> None:
        super().__init__()
        self.greys = greys

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        scores = [torch.stack([-(image[:, 0] - g).abs() for g in group]).amax(dim=0) for group in self.greys]
        return torch.stack(scores, dim=1)


PHANTOM_NETWORK = NearestGrey((20.0, 300.0), (700.0,), (1000.0,))
BRIGHT = NearestGrey((0.0,), (1000.0,))


def segmenter(network: torch.nn.Module = PHANTOM_NETWORK, **changes) -> Segmenter:
    spacing = changes.pop("spacing", (1.0, 1.0, 1.0))
    patch_size = changes.pop("patch_size", (12, 12, 12))
    values = changes.pop("values", (0, 1, 2) if network is PHANTOM_NETWORK else (0, 1))
    chosen = InferenceSettings(**{"device": "cpu", "precision": "fp32", **changes})
    return Segmenter(network, Preprocessing("RAS", spacing, patch_size, UNCHANGED), values, chosen)


def centroid(mask: np.ndarray, matrix: np.ndarray) -> np.ndarray:  # RAS mm
    return matrix[:3, :3] @ np.argwhere(mask).mean(axis=0) + matrix[:3, 3]


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def assert_on_input_grid(prediction: Prediction, scan: Phantom) -> None:
    assert prediction.label_map.array.shape == scan.volume.array.shape[1:]
    np.testing.assert_array_equal(prediction.label_map.ijk_to_ras, scan.volume.ijk_to_ras)


@settings(max_examples=15)
@given(
    orientation=st.sampled_from(["RAS", "LAS", "LPS", "PIL", "SLA", "IAR", "ASR"]),
    rotation=st.tuples(*[st.floats(-35, 35)] * 3),
    shape=st.tuples(*[st.integers(5, 26)] * 3),
)
def test_labels_fall_on_the_voxels_they_were_made_from(orientation, rotation, shape) -> None:
    scan = phantoms(orientation, shape=shape, rotation_degrees=rotation)
    prediction = segmenter().predict(scan.volume)
    assert_on_input_grid(prediction, scan)
    np.testing.assert_array_equal(prediction.label_map.array, scan.label_map.array)


@settings(max_examples=15)
@given(
    orientation=st.sampled_from(["RAS", "LAS", "PIL", "SLA"]),
    rotation=st.tuples(*[st.floats(-30, 30)] * 3),
    # Coarser, and a body of 3 to 4 mm is a matter of chance.
    network_spacing=st.tuples(*[st.floats(0.6, 1.4)] * 3),
)
def test_labels_keep_their_place_when_resampled(orientation, rotation, network_spacing) -> None:
    scan = phantoms(orientation, shape=(22, 25, 14), spacing=(1.0, 0.9, 1.7), rotation_degrees=rotation)
    expected = scan.label_map.array == 2
    one_structure = Volume(1000.0 * expected[None], scan.volume.ijk_to_ras)
    prediction = segmenter(BRIGHT, spacing=network_spacing).predict(one_structure)
    assert_on_input_grid(prediction, scan)
    found = prediction.label_map.array == 1
    assert dice(found, expected) > 0.75
    shift = centroid(found, scan.volume.ijk_to_ras) - centroid(expected, scan.volume.ijk_to_ras)
    # Voxels of 1.4 mm cannot place a body of a few of them better than to a third of one.
    assert np.linalg.norm(shift) < max(0.5, max(network_spacing) / 3)


@pytest.mark.parametrize("make", ["las", "oblique", "anisotropic"])
def test_every_kind_of_grid_gives_its_own_labels(phantom: PhantomFactory, make: str) -> None:
    scan = getattr(phantom, make)()
    spacing = (1.0, 1.0, 3.0) if make == "anisotropic" else (1.0, 1.0, 1.0)
    prediction = segmenter(spacing=spacing).predict(scan.volume)
    np.testing.assert_array_equal(prediction.label_map.array, scan.label_map.array)


@pytest.mark.parametrize(("values", "dtype"), [((0, 7, 3), np.uint8), ((0, 300, 2), np.uint16)])
def test_classes_become_the_label_values_of_the_model(phantom: PhantomFactory, values, dtype) -> None:
    scan = phantom()
    labels = segmenter(values=values).predict(scan.volume).label_map.array
    assert labels.dtype == dtype
    np.testing.assert_array_equal(labels, np.array(values)[scan.label_map.array])


def test_mirroring_and_batches_leave_a_symmetric_network_unchanged(phantom: PhantomFactory) -> None:
    scan = phantom.oblique()
    prediction = segmenter(mirroring=True, batch_size=3, overlap=0.25).predict(scan.volume)
    np.testing.assert_array_equal(prediction.label_map.array, scan.label_map.array)


def test_half_precision_that_overflows_is_repeated_in_full(phantom: PhantomFactory) -> None:
    class Overflowing(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            scores = PHANTOM_NETWORK(image)
            return scores * float("inf") if torch.is_autocast_enabled("cpu") else scores

    scan = phantom()
    prediction = segmenter(Overflowing(), precision="bf16", values=(0, 1, 2)).predict(scan.volume)
    np.testing.assert_array_equal(prediction.label_map.array, scan.label_map.array)


def test_weights_that_give_no_finite_scores_are_named(phantom: PhantomFactory) -> None:
    class Broken(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return PHANTOM_NETWORK(image) * float("nan")

    with pytest.raises(WeightsError, match="not finite"):
        segmenter(Broken(), values=(0, 1, 2)).predict(phantom().volume)


# Region of interest


def test_only_voxels_within_the_roi_are_labelled(phantom: PhantomFactory) -> None:
    scan = phantom.las()
    roi = Roi((-6.0, -9.0, -6.0), (0.0, 9.0, 6.0))
    labels = segmenter().predict(scan.volume, roi=roi).label_map.array
    block = roi.voxels(scan.volume.grid)
    expected = np.zeros_like(labels)
    expected[block] = scan.label_map.array[block]
    np.testing.assert_array_equal(labels, expected)
    assert 0 < (labels > 0).sum() < (scan.label_map.array > 0).sum()


@pytest.mark.parametrize("degrees", [(0, 0, 25), (25, 0, 25), (10, -35, 60)])
def test_in_an_oblique_scan_too_nothing_outside_the_roi_is_labelled(
    phantom: PhantomFactory, degrees: tuple[int, int, int]
) -> None:
    scan = phantom()
    turned = scan.volume.ijk_to_ras.copy()
    turned[:3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ turned[:3]
    volume, roi = replace(scan.volume, ijk_to_ras=turned), Roi((-6.0, -9.0, -6.0), (1.0, 5.0, 6.0))
    found = segmenter().predict(volume, roi=roi, want_probabilities=True, want_entropy=True)
    everywhere = tuple(slice(0, n) for n in volume.grid.shape)
    held = roi.holds(volume.grid, everywhere)
    block = np.zeros_like(held)
    block[roi.voxels(volume.grid)] = True
    assert (scan.label_map.array[block & ~held] > 0).any()
    np.testing.assert_array_equal(found.label_map.array, np.where(held, scan.label_map.array, 0))
    assert found.probabilities is not None
    assert found.entropy is not None
    np.testing.assert_array_equal(found.probabilities.array.argmax(axis=0), found.label_map.array)
    assert set(found.probabilities.array[:, ~held].max(axis=1)) == {0.0, 1.0}
    assert not found.entropy.array[0, ~held].any()


def test_the_roi_block_holds_exactly_the_voxels_in_the_box(phantom: PhantomFactory) -> None:
    grid = phantom("LPS", spacing=(1.0, 2.0, 1.5)).volume.grid
    block = Roi((-3.2, -7.0, -4.0), (5.1, 4.0, 6.2)).voxels(grid)
    indices = np.argwhere(np.ones(grid.shape))
    ras = indices @ grid.ijk_to_ras[:3, :3].T + grid.ijk_to_ras[:3, 3]
    inside = np.all((ras >= (-3.2, -7.0, -4.0)) & (ras <= (5.1, 4.0, 6.2)), axis=1)
    assert {tuple(i) for i in indices[inside]} == {
        tuple(i) for i in indices if all(s.start <= n < s.stop for n, s in zip(i, block, strict=True))
    }


def test_a_roi_outside_the_volume_is_refused_with_the_volumes_extent(phantom: PhantomFactory) -> None:
    with pytest.raises(GeometryError, match="outside the volume") as caught:
        segmenter().predict(phantom().volume, roi=Roi((100.0, 0.0, 0.0), (120.0, 9.0, 9.0)))
    assert "mm" in caught.value.hint


# Progress, cancel, notes


def test_cancel_stops_at_the_next_batch_of_windows(phantom: PhantomFactory) -> None:
    answers = iter([False, False, False, True])
    stages: list[tuple[str, float]] = []
    with pytest.raises(Cancelled):
        segmenter().predict(
            phantom().volume,
            progress=lambda stage, fraction: stages.append((stage, fraction)),
            should_cancel=lambda: next(answers),
        )
    assert stages[-1][0] == "segment"
    assert stages[-1][1] < 0.5


def test_stages_are_reported_in_order(phantom: PhantomFactory) -> None:
    stages: list[str] = []
    segmenter().predict(phantom().volume, progress=lambda stage, _: stages.append(stage))
    assert list(dict.fromkeys(stages)) == ["prepare", "segment", "restore"]


def test_what_the_reader_noted_is_passed_on(phantom: PhantomFactory) -> None:
    volume = phantom().volume
    noted = Volume(volume.array, volume.ijk_to_ras, notes=("3 voxels were NaN.",))
    assert "3 voxels were NaN." in segmenter().predict(noted).warnings


def test_finding_nothing_is_a_warning(phantom: PhantomFactory) -> None:
    assert not segmenter().predict(phantom().volume).warnings
    volume = Volume(np.full((1, 20, 20, 20), 20.0, np.float32), np.eye(4))
    assert segmenter().predict(volume).warnings[0].startswith("0 of 2 structures found: check that the model")


def test_memory_running_out_midway_falls_back_and_says_so(phantom: PhantomFactory) -> None:
    class Greedy(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            if len(image) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 5.00 GiB.")
            return PHANTOM_NETWORK(image)

    scan = phantom()
    prediction = segmenter(Greedy(), batch_size=4, values=(0, 1, 2)).predict(scan.volume)
    np.testing.assert_array_equal(prediction.label_map.array, scan.label_map.array)
    assert "one window at a time" in prediction.warnings[0]


# Research outputs


def test_probabilities_and_entropy_lie_on_the_input_grid(phantom: PhantomFactory) -> None:
    scan = phantom.oblique()
    prediction = segmenter(spacing=(1.3, 1.0, 1.6)).predict(scan.volume, want_probabilities=True, want_entropy=True)
    assert prediction.probabilities is not None
    assert prediction.entropy is not None
    probabilities, entropy = prediction.probabilities.array, prediction.entropy.array
    assert probabilities.shape == (3, *scan.label_map.array.shape)
    np.testing.assert_allclose(probabilities.sum(axis=0), 1.0, atol=1e-4)
    np.testing.assert_array_equal(probabilities.argmax(axis=0), prediction.label_map.array)
    assert entropy.min() >= 0
    assert entropy.max() <= 1.0001
    np.testing.assert_array_equal(prediction.entropy.ijk_to_ras, scan.volume.ijk_to_ras)


def test_outside_a_roi_background_is_certain(phantom: PhantomFactory) -> None:
    roi = Roi((-6.0, -6.0, -6.0), (0.0, 0.0, 0.0))
    prediction = segmenter().predict(phantom().volume, roi=roi, want_probabilities=True, want_entropy=True)
    assert prediction.probabilities is not None
    assert prediction.entropy is not None
    assert prediction.probabilities.array[:, 0, 0, 0].tolist() == [1.0, 0.0, 0.0]
    assert prediction.entropy.array[0, 0, 0, 0] == 0.0


def test_maps_larger_than_memory_are_refused_before_any_work() -> None:
    huge = Volume(np.broadcast_to(np.float32(0), (1, 20_000, 20_000, 20_000)), np.eye(4))
    with pytest.raises(DeviceMemoryError, match="GiB"):
        segmenter().predict(huge, want_probabilities=True)


# GPU


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_gpu_labels_equal_cpu_labels(phantom: PhantomFactory, precision: str, tiny_network: Callable) -> None:
    scan = phantom.oblique(noise=20.0)
    network = tiny_network()
    on_cpu = segmenter(network, values=(0, 1, 2), patch_size=(16, 16, 16)).predict(scan.volume, want_probabilities=True)
    on_gpu = segmenter(
        network, values=(0, 1, 2), patch_size=(16, 16, 16), device="cuda", precision=precision, allow_cpu=False
    ).predict(scan.volume, want_probabilities=True)
    assert on_gpu.device == "cuda:0"
    assert on_cpu.probabilities is not None
    assert on_gpu.probabilities is not None
    tolerance = 2e-3 if precision == "fp32" else 5e-2  # TF32 convolutions; half precision
    np.testing.assert_allclose(on_gpu.probabilities.array, on_cpu.probabilities.array, atol=tolerance)


@pytest.mark.gpu
def test_gpu_out_of_memory_falls_back_to_the_cpu(phantom: PhantomFactory) -> None:
    class TooLarge(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            if image.is_cuda:
                torch.empty(2**50, device=image.device)
            return PHANTOM_NETWORK(image)

    scan = phantom()
    prediction = segmenter(TooLarge(), device="cuda", values=(0, 1, 2)).predict(scan.volume)
    np.testing.assert_array_equal(prediction.label_map.array, scan.label_map.array)
    assert prediction.device == "cpu"
    assert len(prediction.warnings) == 3


@pytest.fixture
def tiny_network() -> Callable[[], torch.nn.Module]:
    def make() -> torch.nn.Module:
        from MAESegmentLib.networks import NnFormer
        from Testing.bundles import tiny_network_config

        torch.manual_seed(0)
        return NnFormer(tiny_network_config()).eval()

    return make
