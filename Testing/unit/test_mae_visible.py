"""Encoding only visible units: it costs less, nothing hidden leaks, and the encoder is still nnFormer's."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from MAESegmentLib.errors import ConfigurationError
from MAESegmentLib.networks import MaeConfig, MaskedAutoencoder, NnFormer, NnFormerConfig, transfer_encoder
from MAESegmentLib.networks.masking import random_unit_mask
from MAESegmentLib.networks.visible import unpack

ENCODER = NnFormerConfig(
    in_channels=1,
    out_channels=2,
    crop_size=(16, 16, 16),
    embed_dim=8,
    depths=(2, 1, 1),
    heads=(1, 1, 2),
    embed_strides=((1, 2, 2), (1, 1, 1)),
    windows=((2, 2, 2), (2, 2, 2), (4, 4, 4)),
    down_strides=((1, 2, 2), (2, 2, 2)),
    global_stages=(False, False, True),
    drop_path=0.0,
)
#: Two local stages fit into a unit; the third joins units, as does the decoder's second block, which is shifted.
CONFIG = MaeConfig(
    ENCODER, unit=(2, 8, 8), mask_ratio=0.5, decoder_dim=8, decoder_depth=2, decoder_heads=1, encoding="visible"
)
IMAGE = torch.randn(2, 1, 8, 16, 24, generator=torch.Generator().manual_seed(0))
GRID = (4, 2, 3)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def autoencoder(config: MaeConfig = CONFIG) -> MaskedAutoencoder:
    torch.manual_seed(0)
    return MaskedAutoencoder(config).eval()


def mask(ratio: float = 0.5, batch: int = 2) -> torch.Tensor:
    return random_unit_mask(batch, GRID, (ratio, ratio), torch.device("cpu"), torch.Generator().manual_seed(1))


def encoder_flops(ratio: float, config: MaeConfig = CONFIG) -> int:
    """With gradients, because the fast attention that the CPU takes without them is not counted."""
    model = autoencoder(config)
    with FlopCounterMode(display=False) as counter:
        model.encode(IMAGE, mask(ratio))
    return counter.get_total_flops()


def test_the_cost_of_the_encoder_falls_with_the_ratio() -> None:
    """Linearly, down to that of the stage that joins units; without masked units it would be the dense cost."""
    quarter, half, three_quarters = (encoder_flops(ratio) for ratio in (0.25, 0.5, 0.75))
    dense = encoder_flops(0.5, replace(CONFIG, encoding="dense"))
    assert quarter - half == half - three_quarters
    assert dense == quarter + (quarter - half)
    assert three_quarters < 0.4 * dense


def test_masked_voxels_have_no_influence_and_visible_ones_have() -> None:
    model, hidden = autoencoder(), mask()
    voxels = hidden.repeat_interleave(2, 2).repeat_interleave(8, 3).repeat_interleave(8, 4).bool()
    with torch.no_grad():
        first = model(IMAGE, hidden).prediction
        assert torch.equal(first, model(torch.where(voxels, 100.0, IMAGE), hidden).prediction)
        other = model(torch.where(voxels, IMAGE, IMAGE + 1), hidden).prediction
    assert not torch.equal(first[voxels], other[voxels])


def test_packed_stages_see_one_unit_and_the_global_stage_sees_them_all() -> None:
    model, visible = autoencoder(), torch.zeros(1, 1, *GRID)
    changed = IMAGE[:1].clone()
    changed[..., :2, :8, :8] += 1  # the first unit
    with torch.no_grad():
        before, after = model.encode(IMAGE[:1], visible), model.encode(changed, visible)
        alone = model.encoder(changed[..., :2, :8, :8])
    for stage, cells in ((0, (2, 4, 4)), (1, (2, 2, 2))):
        d, h, w = cells
        torch.testing.assert_close(after[stage][:, :d, :h, :w], alone[stage])
        assert torch.equal(after[stage][:, d:], before[stage][:, d:])
        assert torch.equal(after[stage][:, :, :, w:], before[stage][:, :, :, w:])
    assert not torch.equal(after[2][:, -1, -1, -1], before[2][:, -1, -1, -1])


def test_units_return_to_their_places_and_masked_ones_hold_the_token() -> None:
    visible = torch.zeros(2, 2, 1, 3, dtype=torch.bool)
    visible[0, 1, 0, 2] = visible[1, 0, 0, 0] = True
    packed = torch.randn(2, 1, 2, 2, 5)
    dense = unpack(packed, visible, torch.full((5,), 7.0))
    assert dense.shape == (2, 2, 2, 6, 5)
    assert torch.equal(dense[0, 1:, :, 4:], packed[0])
    assert torch.equal(dense[1, :1, :, :2], packed[1])
    assert (dense == 7.0).all(-1).sum() == 2 * 2 * 2 * 6 - 8


def test_images_may_have_different_numbers_of_visible_units() -> None:
    """As with a range of ratios: an image's result is that of the image alone."""
    model, hidden = autoencoder(), torch.cat([mask(0.25, 1), mask(0.75, 1)])
    with torch.no_grad():
        together = model(IMAGE, hidden).prediction
        alone = torch.cat([model(IMAGE[i : i + 1], hidden[i : i + 1]).prediction for i in range(2)])
    torch.testing.assert_close(together, alone)


def test_sizes_that_are_no_whole_units_are_padded() -> None:
    output = autoencoder()(IMAGE[..., :7, :13, :20], generator=torch.Generator().manual_seed(0))
    assert output.prediction.shape == (2, 1, 7, 13, 20)
    assert output.loss.isfinite()


def test_every_parameter_learns_from_visible_units() -> None:
    model = autoencoder().train()
    model(IMAGE, mask()).loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_a_segmentation_network_takes_the_encoder_over() -> None:
    report = transfer_encoder(autoencoder().state_dict(), NnFormer(ENCODER))
    assert {key for key in report.unused if not key.startswith("decoder.")} == {f"visible.tokens.{n}" for n in range(3)}


@pytest.mark.parametrize(("unit", "stages"), [((2, 8, 8), 2), ((1, 4, 4), 1), ((1, 8, 8), 1), ((4, 4, 4), 1)])
def test_as_many_local_stages_run_in_a_unit_as_it_holds_whole_cells_of(unit: tuple[int, int, int], stages: int) -> None:
    config = replace(CONFIG, unit=unit)
    assert config.packed_stages == stages
    assert autoencoder(config)(IMAGE).loss.isfinite()


def test_units_and_networks_that_cannot_be_packed_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"unit \(1, 2, 2\) must be a multiple of \(1, 4, 4\)"):
        replace(CONFIG, unit=(1, 2, 2))
    with pytest.raises(ConfigurationError, match="global"):
        replace(CONFIG, encoder=replace(ENCODER, global_stages=(True, True, True)))
    with pytest.raises(ConfigurationError, match="encoding"):
        replace(CONFIG, encoding="sparse")  # type: ignore[arg-type]


def test_the_encoding_survives_json_and_dense_reads_as_in_versions_before() -> None:
    assert MaeConfig.from_dict(json.loads(json.dumps(CONFIG.to_dict()))) == CONFIG
    dense = replace(CONFIG, encoding="dense")
    assert "encoding" not in dense.to_dict()
    assert MaeConfig.from_dict(dense.to_dict()) == dense
