"""Pretexts that hide parts of the image: what is hidden does not leak, and what is learnt is what is claimed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from MAESegmentLib.networks import MaeConfig, NnFormer, transfer_matching
from model_training.studies.data_efficiency.pretexts.own_decoder import NnFormerAutoencoder
from Testing.bundles import tiny_network_config

NETWORK = replace(
    tiny_network_config(),
    embed_strides=((2, 2, 2), (1, 1, 1)),
    depths=(2, 2, 1),  # a shifted block each: windows alone would not reach across units
    heads=(1, 2, 2),
    windows=((2, 2, 2), (2, 2, 2), (2, 2, 2)),
    down_strides=((2, 2, 2), (2, 2, 2)),
    global_stages=(False, False, True),
    down_paddings=None,
    decoder_depths=None,
    decoder_heads=None,
    drop_path=0.0,
)
CONFIG = MaeConfig(NETWORK, unit=(4, 4, 4), mask_ratio=0.6, decoder_dim=8, decoder_depth=1, decoder_heads=1)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- nnFormer's own decoder -----------------------------------------------------------------------------------------


def own_decoder() -> NnFormerAutoencoder:
    torch.manual_seed(0)
    return NnFormerAutoencoder(CONFIG).eval()


def test_encoder_and_decoder_go_over_to_segmentation_and_only_heads_stay_new() -> None:
    model, network = own_decoder(), NnFormer(replace(NETWORK, deep_supervision=True))
    heads = tuple(key for key in network.state_dict() if key.startswith("heads."))
    chosen = {k: v for k, v in model.state_dict().items() if k.startswith(("encoder.", "decoder."))}
    report = transfer_matching(chosen, network, fresh=heads)
    assert report.fresh == heads
    assert report.unused == ()


@pytest.mark.parametrize("size", [(16, 16, 16), (10, 13, 16)])
def test_masked_voxels_do_not_reach_the_prediction_through_skips(size: tuple[int, int, int]) -> None:
    model, image = own_decoder(), torch.randn(2, 1, *size)
    with torch.no_grad():
        first = model(image, generator=seeded(1))
        changed = torch.where(first.mask.bool(), 100 * torch.randn_like(image), image)
        second = model(changed, generator=seeded(1))
    assert first.prediction.shape == image.shape
    assert torch.equal(first.prediction, second.prediction)


def test_masked_cells_of_every_skip_hold_the_token_of_their_stage() -> None:
    model = own_decoder()
    mask = torch.zeros(1, 1, 4, 4, 4)
    mask[..., 1:3, 0, 3] = 1
    skips = [torch.randn(1, 8, 8, 8, 8), torch.randn(1, 4, 4, 4, 16)]
    fine, coarse = model._densify(skips, mask)
    assert torch.equal(fine[0, 2:6, 0:2, 6:8], model.skip_tokens[0].expand(4, 2, 2, 8))
    assert torch.equal(coarse[0, 1:3, 0, 3], model.skip_tokens[1].expand(2, 16))
    assert torch.equal(coarse[0, 0], skips[1][0, 0])
    assert torch.equal(fine[0, 6:], skips[0][0, 6:])


def test_a_cell_that_is_partly_visible_keeps_its_skip() -> None:
    torch.manual_seed(0)
    model = NnFormerAutoencoder(replace(CONFIG, unit=(2, 2, 2)))  # half a cell of stage 1
    mask = torch.ones(1, 1, 4, 4, 4)
    mask[..., 0, 0, 0] = 0
    skips = [torch.randn(1, 4, 4, 4, 8), torch.randn(1, 2, 2, 2, 16)]
    _, coarse = model._densify(skips, mask)
    assert torch.equal(coarse[0, 0, 0, 0], skips[1][0, 0, 0, 0])
    assert torch.equal(coarse[0, 1, 1, 1], model.skip_tokens[1])


def test_every_parameter_of_the_deep_autoencoder_receives_a_gradient() -> None:
    model = own_decoder().train()
    model(torch.randn(2, 1, 16, 16, 16), generator=seeded(0)).loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
