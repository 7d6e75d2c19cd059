"""The masked autoencoder: what it hides, what it is scored on, what it hands to a segmentation network."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from MAESegmentLib.errors import ConfigurationError, WeightsError
from MAESegmentLib.networks import MaeConfig, MaskedAutoencoder, NnFormer, NnFormerConfig, transfer_encoder
from MAESegmentLib.networks.masking import join_units, random_unit_mask, split_units

CPU = torch.device("cpu")
ENCODER = NnFormerConfig(
    in_channels=1,
    out_channels=2,
    crop_size=(12, 16, 16),
    embed_dim=16,
    depths=(2, 1),
    heads=(2, 2),
    embed_strides=((1, 2, 2), (1, 1, 1)),
    windows=((3, 4, 4), (2, 2, 2)),
    down_strides=((2, 2, 2),),
    global_stages=(False, True),
    drop_path=0.0,
)
CONFIG = MaeConfig(ENCODER, unit=(3, 4, 4), mask_ratio=0.6, decoder_dim=16, decoder_depth=1)


def autoencoder(seed: int = 0, **changes: object) -> MaskedAutoencoder:
    torch.manual_seed(seed)
    return MaskedAutoencoder(replace(CONFIG, **changes)).eval()  # type: ignore[arg-type]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- masking ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(12, 16, 16), (10, 13, 16)])
def test_masked_voxels_have_no_influence_on_the_prediction(size: tuple[int, int, int]) -> None:
    model, image = autoencoder(), torch.randn(2, 1, *size)
    with torch.no_grad():
        first = model(image, generator=seeded(1))
        changed = torch.where(first.mask.bool(), 100 * torch.randn_like(image), image)
        second = model(changed, generator=seeded(1))
    assert torch.equal(first.mask, second.mask)
    assert torch.equal(first.prediction, second.prediction)
    assert not torch.equal(first.loss, second.loss)


def test_visible_voxels_do_influence_the_prediction_of_masked_ones() -> None:
    model, image = autoencoder(), torch.randn(1, 1, 12, 16, 16)
    with torch.no_grad():
        first = model(image, generator=seeded(1))
        second = model(torch.where(first.mask.bool(), image, image + 1), generator=seeded(1))
    masked = first.mask.bool()
    assert not torch.equal(first.prediction[masked], second.prediction[masked])


@pytest.mark.parametrize(("ratio", "expected"), [(0.5, 32), (0.6, 38), (0.75, 48), (0.999, 63), (0.001, 1)])
def test_a_fixed_ratio_masks_that_many_units_of_every_image(ratio: float, expected: int) -> None:
    mask = random_unit_mask(5, (4, 4, 4), (ratio, ratio), CPU, seeded(0))
    assert mask.sum(dim=(1, 2, 3, 4)).tolist() == [expected] * 5
    assert set(mask.unique().tolist()) == {0.0, 1.0}


def test_a_range_of_ratios_is_sampled_anew_for_every_image() -> None:
    mask = random_unit_mask(200, (4, 5, 5), (0.4, 0.8), CPU, seeded(0))
    ratios = mask.mean(dim=(1, 2, 3, 4))
    assert (ratios.min() >= 0.4, ratios.max() <= 0.8) == (True, True)
    assert ratios.min() < 0.45
    assert ratios.max() > 0.75


def test_the_mask_is_made_of_whole_units() -> None:
    output = autoencoder()(torch.randn(1, 1, 12, 16, 16), generator=seeded(0))
    units = split_units(output.mask, CONFIG.unit)
    assert torch.equal(units.amin(-1), units.amax(-1))
    assert units.amax(-1).sum() == round(0.6 * 4 * 4 * 4)


def test_splitting_into_units_and_joining_are_inverse() -> None:
    volume = torch.randn(2, 3, 6, 8, 4)
    assert torch.equal(join_units(split_units(volume, (3, 4, 2)), (3, 4, 2), (6, 8, 4)), volume)
    assert torch.equal(split_units(volume, (3, 4, 2))[1, 2, 1], volume[1, 2, :3, :4, 2:].reshape(-1))


@pytest.mark.parametrize(
    ("size_mm", "spacing", "token", "unit"),
    [
        (8.0, (1.0, 1.0, 1.0), (2, 2, 2), (8, 8, 8)),
        (8.0, (4.0, 1.0, 1.0), (1, 4, 4), (2, 8, 8)),
        (10.0, (2.5, 0.9, 0.9), (1, 2, 2), (4, 12, 12)),
        (2.0, (5.0, 1.0, 1.0), (1, 4, 4), (1, 4, 4)),
    ],
)
def test_units_given_in_mm_follow_the_spacing_in_whole_tokens(size_mm, spacing, token, unit) -> None:
    assert MaeConfig.unit_from_mm(size_mm, spacing, token) == unit


# --- loss ------------------------------------------------------------------------------------------------------------


def test_the_loss_is_the_mean_square_over_masked_real_voxels() -> None:
    """Sizes are not multiples of the unit: the padding of the last units must not count."""
    model, image = autoencoder(), torch.randn(2, 1, 10, 13, 15)
    output = model(image, generator=seeded(2))
    assert output.prediction.shape == image.shape
    assert output.mask.shape == image.shape
    masked = output.mask.bool()
    assert output.loss.item() == pytest.approx((output.prediction - image)[masked].square().mean().item(), rel=1e-5)


def test_normalised_targets_standardise_every_unit() -> None:
    model, image = autoencoder(normalise_target=True), 5 + 3 * torch.randn(1, 1, 12, 16, 16)
    output = model(image, generator=seeded(2))
    units = split_units(image, CONFIG.unit)
    target = (units - units.mean(-1, keepdim=True)) / units.std(-1, keepdim=True)
    masked = split_units(output.mask, CONFIG.unit).bool()
    expected = (split_units(output.prediction, CONFIG.unit) - target)[masked].square().mean()
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-3)


def test_a_constant_unit_gives_a_finite_normalised_loss() -> None:
    assert autoencoder(normalise_target=True)(torch.full((1, 1, 12, 16, 16), 7.0)).loss.isfinite()


def test_every_parameter_receives_a_gradient() -> None:
    model = autoencoder().train()
    model(torch.randn(2, 1, 12, 16, 16)).loss.backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []


def smooth_images(count: int, generator: torch.Generator) -> torch.Tensor:
    """Waves longer than a unit, of random phase: variance 1, so predicting the mean costs 1."""
    axes = torch.meshgrid(*[torch.arange(n, dtype=torch.float32) for n in (12, 16, 16)], indexing="ij")
    phases = 2 * torch.pi * torch.rand(3, count, 1, 1, 1, generator=generator)
    waves = [torch.cos(2 * torch.pi * axis / 24 + phase) for axis, phase in zip(axes, phases, strict=True)]
    images = torch.stack([sum(waves)], dim=1)  # type: ignore[list-item]
    return (images - images.mean()) / images.std()


def test_training_on_smooth_images_beats_predicting_the_mean() -> None:
    model, generator = autoencoder().train(), seeded(0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(40):
        optimiser.zero_grad()
        model(smooth_images(2, generator), generator=generator).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    with torch.no_grad():
        unseen = smooth_images(8, seeded(99))
        assert model.eval()(unseen, generator=seeded(5)).loss < 0.6


# --- reconstruction --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalise", [False, True])
def test_a_reconstruction_keeps_visible_voxels_and_hides_masked_ones(normalise: bool) -> None:
    image = 40 + 10 * torch.randn(1, 1, 10, 13, 16)
    result = autoencoder(normalise_target=normalise).reconstruct(image, generator=seeded(0))
    masked = result.mask.bool()
    assert result.original is image
    assert result.reconstructed.shape == image.shape
    assert torch.equal(result.reconstructed[~masked], image[~masked])
    assert torch.equal(result.masked[~masked], image[~masked])
    assert (result.masked[masked] == 0).all()


def test_a_reconstruction_from_normalised_targets_returns_to_the_input_intensities() -> None:
    """The untrained prediction is about 0 per unit, so each unit must come back at its own mean."""
    image = torch.randn(1, 1, 12, 16, 16) + 50 * torch.arange(12.0).view(1, 1, 12, 1, 1).div(3).floor()
    model = autoencoder(normalise_target=True)
    torch.nn.init.zeros_(model.decoder.head.weight)
    torch.nn.init.zeros_(model.decoder.head.bias)
    result = model.reconstruct(image, generator=seeded(0))
    means = split_units(image, CONFIG.unit).mean(-1, keepdim=True)
    expected = join_units(means.expand(-1, -1, -1, 48), CONFIG.unit, (12, 16, 16))
    masked = result.mask.bool()
    torch.testing.assert_close(result.reconstructed[masked], expected[masked], rtol=0, atol=1e-3)


def test_a_given_mask_is_used_as_it_is() -> None:
    mask = torch.zeros(1, 1, 4, 4, 4)
    mask[..., 1, 2, 3] = 1
    result = autoencoder().reconstruct(torch.randn(1, 1, 12, 16, 16), mask)
    assert result.mask.sum() == 3 * 4 * 4
    assert (result.mask[..., 3:6, 8:12, 12:16] == 1).all()


# --- transfer --------------------------------------------------------------------------------------------------------


def test_a_transferred_encoder_computes_what_the_pretrained_one_does() -> None:
    model, network, image = autoencoder(), NnFormer(ENCODER).eval(), torch.randn(1, 1, 9, 14, 16)
    transfer_encoder(model.state_dict(), network)
    with torch.no_grad():
        for ours, theirs in zip(network.encoder(image), model.encoder(image), strict=True):
            assert torch.equal(ours, theirs)


def test_the_report_accounts_for_every_key_of_both_sides() -> None:
    model, network = autoencoder(), NnFormer(ENCODER)
    report = transfer_encoder(model.state_dict(), network)
    assert set(report.loaded) | set(report.fresh) == set(network.state_dict())
    assert set(report.loaded) | set(report.unused) == set(model.state_dict())
    assert set(report.loaded) == {k for k in network.state_dict() if k.startswith("encoder.")}
    assert "mask_token" in report.unused
    counts = [len(report.loaded), len(report.fresh), len(report.unused)]
    assert str(report) == "{} tensors taken over, {} new, {} of the source unused".format(*counts)


def broken(kind: str) -> dict[str, torch.Tensor]:
    source = autoencoder().state_dict()
    if kind == "missing key":
        del source["encoder.stages.0.1.mlp.2.bias"]
    elif kind == "wrong shape":
        source["encoder.stages.0.1.mlp.2.bias"] = torch.zeros(15)
    elif kind == "other names":
        source = {f"backbone.{key}": value for key, value in source.items()}
    return source


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("missing key", r"missing encoder\.stages\.0\.1\.mlp\.2\.bias"),
        ("wrong shape", r"encoder\.stages\.0\.1\.mlp\.2\.bias \(15,\) instead of \(16,\)"),
        ("other names", "missing encoder"),
    ],
)
def test_a_partial_encoder_is_refused_and_nothing_changes(kind: str, named: str) -> None:
    network = NnFormer(ENCODER)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with pytest.raises(WeightsError, match=named):
        transfer_encoder(broken(kind), network)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


# --- configuration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [0.7, (0.5, 0.8)])
def test_configurations_survive_json(ratio: float | tuple[float, float]) -> None:
    config = replace(CONFIG, mask_ratio=ratio, normalise_target=True)
    restored = MaeConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert restored == config
    assert hash(restored) == hash(config)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"unit": (3, 3, 4)}, "mask unit"),
        ({"unit": (3, 4)}, "unit"),
        ({"mask_ratio": 1.0}, "mask_ratio"),
        ({"mask_ratio": 0.0}, "mask_ratio"),
        ({"mask_ratio": (0.8, 0.5)}, "mask_ratio"),
        ({"decoder_dim": 15}, "decoder_dim"),
    ],
)
def test_impossible_settings_are_refused_by_name(changes: dict, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        replace(CONFIG, **changes)
    with pytest.raises(ConfigurationError, match="colour"):
        MaeConfig.from_dict({**CONFIG.to_dict(), "colour": "red"})
