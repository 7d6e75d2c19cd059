"""Slab-wise blending of overlapping windows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers import sliding_window_inference

from MAESegmentLib.bundle.usage.sides import Sides
from MAESegmentLib.inference.windows import (
    WindowPlan,
    gaussian_weight,
    is_uniform,
    mirrored,
    rows_of_image,
    sliding_rows,
)

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network() -> Callable[[torch.Tensor], torch.Tensor]:
    """Its output depends on where a voxel lies in its window, so that blending matters."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv3d(2, 4, 3, padding=1), torch.nn.GELU(), torch.nn.Conv3d(4, 3, 3, padding=1)
    )


def blend(image: torch.Tensor, network: Callable, plan: WindowPlan, **options) -> torch.Tensor:  # -> (K, D, H, W)
    options = {"batch_size": 2, "device": CPU, "accumulate_on": CPU, **options}
    with torch.inference_mode():
        rows = [(row, torch.tensor(scores)) for row, scores in sliding_rows(image, network, plan, **options)]
    assert [row for row, _ in rows] == list(range(image.shape[1]))
    return torch.stack([scores for _, scores in rows], dim=1)


@pytest.mark.parametrize("size", [(8, 8, 8), (17, 9, 12), (25, 13, 8), (9, 20, 11)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.75])
def test_rows_equal_monais_sliding_window_inference(network, size, overlap) -> None:
    image = torch.randn(2, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = sliding_window_inference(
            image[None], (8, 6, 7), 2, network, overlap=overlap, mode="gaussian", sigma_scale=0.125
        )[0]
    found = blend(image, network, WindowPlan(size, (8, 6, 7), overlap))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_the_batch_size_does_not_change_the_result(network) -> None:
    image = torch.randn(2, 14, 10, 11)
    plan = WindowPlan((14, 10, 11), (8, 8, 8), 0.5)
    torch.testing.assert_close(
        blend(image, network, plan, batch_size=1), blend(image, network, plan, batch_size=5), atol=1e-6, rtol=1e-5
    )


@pytest.mark.parametrize("batch_size", [1, 3])
def test_windows_of_one_value_share_a_run_of_the_network(network, batch_size) -> None:
    image = torch.full((2, 24, 24, 16), -1.0)
    image[1] = 0.5
    image[:, 10:14, 10:14, 6:9] = torch.randn(2, 4, 4, 3, generator=torch.Generator().manual_seed(1))
    image[:, :, :, 12:] = 0.25  # a second value, met again and again beside the first
    plan = WindowPlan((24, 24, 16), (8, 8, 4), 0.5)
    windows: list[int] = []
    blended: list[float] = []

    def counting(patches: torch.Tensor) -> torch.Tensor:
        windows.append(len(patches))
        return network(patches)

    found = blend(image, counting, plan, batch_size=batch_size, on_batch=blended.append)
    uniform = [block for block in plan.blocks() if is_uniform(image[(slice(None), *block)])]
    assert 0 < len(uniform) < len(plan.blocks())
    assert len(plan.blocks()) - len(uniform) < sum(windows) < len(plan.blocks())
    assert blended == sorted(blended)
    with torch.inference_mode():
        expected = sliding_window_inference(
            image[None], (8, 8, 4), 1, network, overlap=0.5, mode="gaussian", sigma_scale=0.125
        )[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_scan_in_much_air_runs_the_network_on_air_once(network) -> None:
    image = torch.zeros(1, 8, 40, 40)
    image[:, 2:6, 16:20, 16:20] = 1.0
    windows: list[int] = []

    def counting(patches: torch.Tensor) -> torch.Tensor:
        windows.append(len(patches))
        return network(patches.expand(-1, 2, -1, -1, -1))

    blend(image, counting, WindowPlan((8, 40, 40), (8, 8, 8), 0.5), batch_size=1)
    assert sum(windows) == 1 + 4  # four of 81 windows reach the object


def test_one_voxel_makes_a_window_varied() -> None:
    for place in range(2 * 4 * 3 * 5):
        patch = torch.tensor([1.0, -2.0])[:, None, None, None].repeat(1, 4, 3, 5)
        assert is_uniform(patch)
        patch.view(-1)[place] += 1e-6  # rounding in resampling leaves as much
        assert is_uniform(patch)
        patch.view(-1)[place] += 1e-3
        assert not is_uniform(patch)


def test_progress_rises_from_zero_to_one(network) -> None:
    fractions: list[float] = []
    plan = WindowPlan((16, 8, 8), (8, 8, 8), 0.5)
    blend(torch.randn(2, 16, 8, 8), network, plan, batch_size=1, on_batch=fractions.append)
    assert fractions[0] == 0.0
    assert fractions[-1] == 1.0
    assert fractions == sorted(fractions)


def test_rows_come_before_later_windows_are_computed(network) -> None:
    """The point of it all: early rows are handed on while the rest of the volume has not been touched."""
    calls = 0

    def counting(patches: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return network(patches)

    plan = WindowPlan((80, 8, 8), (8, 8, 8), 0.5)
    rows = sliding_rows(torch.randn(2, 80, 8, 8), counting, plan, batch_size=1, device=CPU, accumulate_on=CPU)
    next(rows)
    assert calls == 1


def test_mirroring_is_the_mean_over_all_flips(network) -> None:
    patches = torch.randn(1, 2, 6, 6, 6)
    by_hand = (network(patches) + network(patches.flip(2)).flip(2)) / 2
    torch.testing.assert_close(mirrored(network, (0,))(patches), by_hand)


def test_mirroring_along_every_axis_makes_the_result_symmetric(network) -> None:
    symmetric = mirrored(network, (0, 1, 2))
    patches = torch.randn(1, 2, 6, 6, 6)
    torch.testing.assert_close(symmetric(patches.flip((2, 4))), symmetric(patches).flip((2, 4)), atol=1e-6, rtol=1e-5)


@given(
    sizes=st.tuples(*[st.tuples(st.integers(1, 30), st.integers(1, 20))] * 3),
    overlap=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.625, 0.9]),
)
def test_windows_lie_where_monai_puts_them(sizes, overlap) -> None:
    patch = tuple(p for _, p in sizes)
    image = tuple(max(n, p) for n, p in sizes)
    interval = tuple(p if p >= n else max(1, int(p * (1 - overlap))) for n, p in zip(image, patch, strict=True))
    expected = sorted(dense_patch_slices(image, patch, interval), key=lambda block: block[0].start)
    assert WindowPlan(image, patch, overlap).blocks() == expected


@pytest.mark.parametrize("patch", [(40, 56, 40), (8, 6, 7), (1, 2, 3), (128, 128, 64)])
def test_weights_are_monais(patch) -> None:
    expected = compute_importance_map(patch, mode="gaussian", sigma_scale=0.125)
    torch.testing.assert_close(torch.from_numpy(gaussian_weight(patch)), expected, rtol=1e-6, atol=0)


@given(
    size=st.tuples(*[st.integers(1, 21)] * 3),
    shift=st.tuples(*[st.integers(0, 3)] * 3),
    overlap=st.sampled_from([0.0, 0.25, 0.5]),
    seed=st.integers(0, 99),
)
def test_shifted_copies_are_blended_with_the_others(size, shift, overlap, seed) -> None:
    """Beside a sum by hand over windows that each show the image, and nothing beyond it, from so much further on."""
    patch = (6, 8, 7)
    image = torch.randn(1, *size, generator=torch.Generator().manual_seed(seed))
    ramp = torch.arange(6.0 * 8 * 7).reshape(1, *patch) / 100

    def network(patches: torch.Tensor) -> torch.Tensor:  # what it says of a voxel depends on its place in the window
        return torch.cat([patches, patches * ramp], dim=1)

    room = [max(n, p) for n, p in zip(size, patch, strict=True)]
    before = [(r - n) // 2 for r, n in zip(room, size, strict=True)]
    wide = torch.zeros(1, *(r + s for r, s in zip(room, shift, strict=True)))
    inner = tuple(slice(b, b + n) for b, n in zip(before, size, strict=True))
    wide[(slice(None), *inner)] = image
    sums, weights = torch.zeros(2, *wide.shape[1:]), torch.zeros(wide.shape[1:])
    weight = torch.from_numpy(gaussian_weight(patch))
    copies = [(0, 0, 0), shift] if any(shift) else [(0, 0, 0)]
    for block in WindowPlan(tuple(room), patch, overlap).blocks():  # type: ignore[arg-type]
        for by in copies:
            place = tuple(slice(part.start + s, part.stop + s) for part, s in zip(block, by, strict=True))
            sums[(slice(None), *place)] += network(wide[(slice(None), *place)][None])[0] * weight
            weights[place] += weight
    options = {"batch_size": 2, "device": CPU, "accumulate_on": CPU, "shift": shift}
    rows = [(n, torch.tensor(row)) for n, row in rows_of_image(image, network, patch, overlap, **options)]
    assert [n for n, _ in rows] == list(range(size[0]))
    found = torch.stack([row for _, row in rows], dim=1)
    torch.testing.assert_close(found, (sums / weights)[(slice(None), *inner)], atol=1e-4, rtol=1e-4)


@given(axes=st.sets(st.integers(0, 2), min_size=1), axis=st.integers(0, 2), seed=st.integers(0, 99))
def test_what_is_said_of_a_mirrored_image_is_mirrored_with_its_sides_exchanged(axes, axis, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    kernel, patches = (torch.randn(shape, generator=generator) for shape in ((5, 1, 3, 3, 3), (2, 1, 6, 7, 5)))

    def network(patches: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv3d(patches, kernel, padding=1)

    averaged = mirrored(network, tuple(axes), Sides(axis, ((1, 3), (4, 2))))
    for flipped in axes:
        expected = averaged(patches).flip(flipped + 2)
        if flipped == axis:
            expected = expected[:, [0, 3, 4, 1, 2]]
        torch.testing.assert_close(averaged(patches.flip(flipped + 2)), expected, atol=1e-5, rtol=1e-4)
