"""How uncertain a model is about a scan: measured with networks whose doubts are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from MAESegmentLib.bundle import Bundle
from MAESegmentLib.errors import Cancelled, ConfigurationError, GeometryError
from MAESegmentLib.images.reading import read_volume
from MAESegmentLib.images.volume import Grid, Volume
from MAESegmentLib.inference import InferenceSettings, Predictor, Roi
from MAESegmentLib.inference.ranking import Uncertainty, rank
from MAESegmentLib.inference.uncertainty import slice_axis, uncertainty_of, variations_of
from MAESegmentLib.preprocessing.intensity import IntensityRecipe
from MAESegmentLib.preprocessing.plan import Preprocessing
from Testing.bundles import save_tiny, tiny_spec
from Testing.phantoms import affine

CPU = InferenceSettings(device="cpu", precision="fp32", check_familiarity=False)
#: Grey values of air, of what the networks below do not know, and of the two structures.
AIR, DOUBTFUL, FIRST, SECOND = -900.0, 0.0, 500.0, 900.0


class ByGrey(nn.Module):
    """Sure by the grey value; what is `DOUBTFUL` is air or the first structure, the one as likely as the other."""

    def forward(self, image: Tensor) -> Tensor:  # (B, 1, D, H, W) -> (B, 3, D, H, W)
        grey = image * 500
        classes = [grey < 150, (grey > -150) & (grey < 700), grey >= 700]
        return 30.0 * torch.cat(classes, dim=1)


class BySide(nn.Module):
    """The first structure is the first half of W, whatever the image: flips along W contradict each other."""

    def forward(self, image: Tensor) -> Tensor:
        scores = torch.zeros((len(image), 3, *image.shape[2:]))
        scores[:, 2] = -30
        scores[:, 1] = torch.where(torch.arange(image.shape[-1]) < image.shape[-1] // 2, 30.0, -30.0)
        return scores


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Predictor]:
    """A predictor of a model for voxels of 1 mm with the given network and axes it may be flipped along."""
    root = tmp_path_factory.mktemp("models")

    def bundle(axes: tuple[int, ...]) -> Bundle:
        folder = root / f"tiny{len(axes)}"
        recipe = IntensityRecipe("ct", lower=-1000.0, upper=1000.0, mean=0.0, std=500.0)
        spec = tiny_spec(
            preprocessing=Preprocessing("RAS", (1.0, 1.0, 1.0), (16, 16, 16), recipe),
            inference={"overlap": 0.5, "mirror_axes": list(axes)},
        )
        return save_tiny(folder, spec)

    made: dict[tuple[int, ...], Bundle] = {}

    def predictor(network: nn.Module, axes: tuple[int, ...] = (0, 1, 2)) -> Predictor:
        made.setdefault(axes, bundle(axes) if axes not in made else made[axes])
        return Predictor(made[axes], CPU, network=network)

    return predictor


def body(orientation: str = "RAS", doubtful: slice | None = None, **grid: object) -> Volume:
    """24 x 24 x 20 voxels: two blocks; the slices `doubtful` along K of the first one are of unknown tissue."""
    array = np.full((24, 24, 20), AIR, np.float32)
    array[4:10, 5:15, 3:17] = FIRST
    array[14:20, 5:15, 3:17] = SECOND
    if doubtful is not None:
        array[4:10, 5:15, doubtful] = DOUBTFUL
    return Volume(array[None], affine(orientation, (24, 24, 20), **grid))


def test_a_network_without_doubts_is_certain(make: Callable[..., Predictor]) -> None:
    found = uncertainty_of(make(ByGrey()), body())
    assert found.entropy < 1e-3
    assert found.not_found == ()
    assert found.score == found.entropy


def test_doubt_is_measured_in_the_structure_that_has_it(make: Callable[..., Predictor]) -> None:
    """Half of the first structure could as well be air: half of its voxels have ln 2 of ln 3."""
    found = uncertainty_of(make(ByGrey()), body(doubtful=slice(3, 10)))
    assert found.per_label["anterior"] == pytest.approx(0.5 * np.log(2) / np.log(3), abs=1e-3)
    assert found.per_label["posterior"] < 1e-3
    assert found.entropy == pytest.approx(0.25 * np.log(2) / np.log(3), abs=1e-3)


def test_empty_surroundings_do_not_make_a_scan_certain(make: Callable[..., Predictor]) -> None:
    small = body(doubtful=slice(3, 10))
    large = Volume(np.pad(small.array, ((0, 0), (30, 30), (0, 0), (0, 40)), constant_values=AIR), small.ijk_to_ras)
    predictor = make(ByGrey())
    assert uncertainty_of(predictor, large).entropy == pytest.approx(uncertainty_of(predictor, small).entropy, abs=1e-3)


def test_variations_that_contradict_each_other_are_uncertain(make: Callable[..., Predictor]) -> None:
    found = uncertainty_of(make(BySide(), (2,)), body())
    assert found.per_label["anterior"] == pytest.approx(np.log(2) / np.log(3), abs=1e-2)
    assert found.not_found == ("posterior",)
    assert found.per_label["posterior"] == 1.0
    assert found.entropy == pytest.approx((1 + np.log(2) / np.log(3)) / 2, abs=1e-2)


def test_a_model_that_knows_sides_is_never_shown_a_mirror_image(make: Callable[..., Predictor]) -> None:
    one_window = Volume(np.zeros((1, 16, 16, 16), np.float32), affine(shape=(16, 16, 16)))
    assert uncertainty_of(make(BySide(), ()), one_window).per_label["anterior"] < 1e-3
    assert uncertainty_of(make(BySide(), (2,)), one_window).per_label["anterior"] > 0.5
    variations = variations_of(())
    assert len(set(variations)) == len(variations) == 4
    assert all(one.flips == () for one in variations)


@pytest.mark.parametrize(("axes", "count"), [((0,), 4), ((0, 1), 4), ((0, 1, 2), 8)])
def test_every_permitted_flip_is_among_the_variations(axes: tuple[int, ...], count: int) -> None:
    variations = variations_of(axes)
    assert len(set(variations)) == len(variations) == count
    assert {one.flips for one in variations} == {one.flips for one in variations_of(axes)[: 2 ** len(axes)]}
    assert len({one.flips for one in variations}) == 2 ** len(axes)
    assert (variations[0].flips, variations[0].gain, variations[0].offset) == ((), 1.0, 0.0)


# Where to look -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR", "SLA", "AIL"])
@pytest.mark.parametrize("turned", [(0.0, 0.0, 0.0), (12.0, -20.0, 7.0)])
def test_the_slice_is_given_in_the_scans_own_voxels_and_in_space(
    make: Callable[..., Predictor], orientation: str, turned: tuple[float, float, float]
) -> None:
    volume = body(orientation, doubtful=slice(12, 13), rotation_degrees=turned, centre=(30.0, -40.0, 5.0))
    found = uncertainty_of(make(ByGrey()), volume)
    assert (found.slice_axis, found.slice_index) == (2, 12)
    i, j, k, _ = np.linalg.inv(volume.ijk_to_ras) @ [*found.position_ras, 1.0]
    assert k == pytest.approx(12, abs=1e-6)
    assert (i, j) == (pytest.approx(6.5, abs=1.0), pytest.approx(9.5, abs=1.0))


def test_slices_run_across_the_longest_voxels(make: Callable[..., Predictor]) -> None:
    array = np.full((24, 10, 24), AIR, np.float32)
    array[4:18, :, 4:18] = FIRST
    array[4:18, 5, 4:18] = DOUBTFUL
    array[20:23, :, 4:18] = SECOND
    matrix = affine("RSA", array.shape, (1.0, 3.0, 1.0))
    found = uncertainty_of(make(ByGrey()), Volume(array[None], matrix))
    assert found.slice_axis == 1
    assert found.slice_index == 5


@pytest.mark.parametrize(
    ("spacing", "axis"),
    [((1, 1, 1), 2), ((1, 1, 0.5), 2), ((3, 1, 1), 0), ((1, 2.5, 2), 1), ((1, 1.02, 1), 2), ((4, 4, 4.001), 2)],
)
def test_slice_axis(spacing: tuple[float, float, float], axis: int) -> None:
    assert slice_axis(Grid((20, 20, 20), np.diag([*spacing, 1.0]))) == axis


def test_where_nothing_is_found_there_is_still_a_slice(make: Callable[..., Predictor]) -> None:
    empty = Volume(np.full((1, 24, 24, 20), AIR, np.float32), affine())
    found = uncertainty_of(make(ByGrey()), empty)
    assert found.not_found == ("anterior", "posterior")
    assert found.entropy == 1.0
    assert 0 <= found.slice_index < 20


def test_outside_the_region_of_interest_nothing_counts(make: Callable[..., Predictor]) -> None:
    volume = body(doubtful=slice(4, 6))
    to_ras = volume.ijk_to_ras
    low, high = (to_ras @ [*ijk, 1.0] for ijk in ((0, 0, 8), (23, 23, 19)))
    roi = Roi(tuple(low[:3]), tuple(high[:3]))
    predictor = make(ByGrey())
    assert uncertainty_of(predictor, volume).entropy > 0.01
    inside = uncertainty_of(predictor, volume, roi)
    assert inside.entropy < 1e-3
    assert 8 <= inside.slice_index <= 19
    with pytest.raises(GeometryError):
        uncertainty_of(predictor, volume, Roi((500, 500, 500), (600, 600, 600)))


# What a caller meets -------------------------------------------------------------------------------------------------


def test_progress_and_cancel(make: Callable[..., Predictor]) -> None:
    heard: list[tuple[str, float]] = []
    predictor = make(ByGrey())
    uncertainty_of(predictor, body(), progress=lambda stage, fraction: heard.append((stage, fraction)))
    assert [*dict.fromkeys(stage for stage, _ in heard)] == ["prepare", "segment"]
    assert heard[-1] == ("segment", 1.0)
    for stage in ("prepare", "segment"):
        fractions = [fraction for name, fraction in heard if name == stage]
        assert fractions == sorted(fractions)
    asked = iter([False, False])
    with pytest.raises(Cancelled):
        uncertainty_of(predictor, body(), should_cancel=lambda: next(asked, True))


def test_the_wrong_number_of_channels_is_refused(make: Callable[..., Predictor]) -> None:
    two = Volume(np.zeros((2, 24, 24, 20), np.float32), affine())
    with pytest.raises(ConfigurationError, match="has 2"):
        uncertainty_of(make(ByGrey()), two)


def test_it_can_be_written_down_and_read_back() -> None:
    found = Uncertainty(0.2, 1, 7, (1.0, 2.0, 3.0), {"liver": 0.2}, ("spleen",), 1.5, "cpu", ("Note.",))
    assert Uncertainty.from_dict(found.to_dict()) == found
    assert found.to_dict()["score"] == found.score
    written_before = {**found.to_dict(), "disagreement": 0.1, "unfamiliarity": None}
    assert Uncertainty.from_dict(written_before) == found


def test_the_least_certain_scan_comes_first_and_equal_ones_as_they_were_given() -> None:
    items = [Uncertainty(entropy, 2, 0, (0.0, 0.0, 0.0)) for entropy in (0.1, 0.3, 0.2, 0.3)]
    assert rank(items) == [1, 3, 2, 0]
    assert rank([]) == []


def test_a_real_scan_of_another_kind_is_less_certain_and_warned_of(real_data: Path) -> None:
    """The shipped hippocampus model, on a crop of its kind and on that crop's noise."""
    from MAESegmentLib.bundle import ModelStore

    bundle = ModelStore("none").find("hippocampus-mr")
    predictor = Predictor(bundle, InferenceSettings.of_model(bundle.spec.inference, device="cpu"))
    volume = read_volume(sorted((real_data / "hippocampus_mr" / "images").glob("*.nii.gz"))[0])
    shuffled = np.random.default_rng(0).permutation(volume.array.ravel()).reshape(volume.array.shape)
    known = uncertainty_of(predictor, volume)
    strange = uncertainty_of(predictor, Volume(shuffled, volume.ijk_to_ras))
    assert strange.entropy > known.entropy
    assert strange.warnings
    assert not known.warnings
    assert rank([known, strange]) == [1, 0]
