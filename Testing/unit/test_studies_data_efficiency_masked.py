"""Pretexts that hide parts of the image: what is hidden does not leak, and what is learnt is what is claimed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from MAESegmentLib.networks import MaeConfig, NnFormer, transfer_matching
from model_training.studies.data_efficiency.pretexts.corruptions import bend_intensities, shuffle_locally
from model_training.studies.data_efficiency.pretexts.deepest import DeepestHead
from model_training.studies.data_efficiency.pretexts.fusion import Fusing
from model_training.studies.data_efficiency.pretexts.genesis import SPOILING_OPTIONS, Spoiling
from model_training.studies.data_efficiency.pretexts.own_decoder import NnFormerAutoencoder
from model_training.studies.data_efficiency.pretexts.simmim import SimMim
from Testing.bundles import tiny_network_config

NETWORK = replace(
    tiny_network_config(),
    embed_strides=((2, 2, 2), (1, 1, 1)),
    depths=(2, 2, 1),  # a shifted block each: windows alone would not reach across units
    heads=(1, 2, 2),
    windows=((2, 2, 2), (2, 2, 2), (2, 2, 2)),
    down_strides=((2, 2, 2), (2, 2, 2)),
    down_paddings=(),
    decoder_depths=(),
    decoder_heads=(),
    global_stages=(False, False, True),
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


# --- SimMIM ----------------------------------------------------------------------------------------------------------


def test_simmim_scores_absolute_differences_on_masked_voxels_only() -> None:
    torch.manual_seed(0)
    model, image = SimMim(CONFIG).eval(), torch.randn(2, 1, 10, 13, 16)
    output = model(image, generator=seeded(2))
    difference = (output.prediction - image)[output.mask.bool()].abs().mean()
    assert output.loss.item() == pytest.approx(difference.item(), rel=1e-5)


def test_simmims_head_sees_the_deepest_stage_alone() -> None:
    model = SimMim(CONFIG)
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"encoder", "mask_token", "decoder"}
    assert [tuple(p.shape) for p in model.decoder.parameters()] == [(32, 1, 8, 8, 8), (1,)]


def test_the_deepest_head_reaches_voxels_that_an_unpadded_convolution_dropped() -> None:
    """The third stage of the ACDC preset goes from 7 to 3 tokens: 3 cells of 2 voxels for 7."""
    config = replace(
        tiny_network_config(),
        embed_strides=((1, 2, 2), (1, 1, 1)),
        windows=((1, 2, 2), (1, 2, 2)),
        down_paddings=((0, 1, 1),),
    )
    deepest = NnFormer(config).encoder(torch.randn(1, 1, 7, 8, 8))[-1]
    assert deepest.shape[1] == 3
    painted = DeepestHead(config)(deepest, (7, 8, 8))
    assert painted.shape == (1, 1, 7, 8, 8)
    assert torch.equal(painted[:, :, 6], painted[:, :, 5])


# --- Models Genesis --------------------------------------------------------------------------------------------------


def test_bent_intensities_keep_their_order_or_reverse_it_within_the_range() -> None:
    image = torch.randn(1, 8, 8, 8)
    order = image.flatten().argsort()
    directions = set()
    for seed in range(12):
        bent = bend_intensities(image, seeded(seed))
        steps = bent.flatten()[order].diff()
        directions.add(bool(steps.sum() > 0))
        assert (steps >= -1e-6).all() or (steps <= 1e-6).all()
        assert bent.amin().item() == pytest.approx(image.amin().item(), abs=1e-4)
        assert bent.amax().item() == pytest.approx(image.amax().item(), abs=1e-4)
    assert directions == {True, False}


def test_shuffling_moves_voxels_within_small_windows_only() -> None:
    image = torch.arange(20**3, dtype=torch.float32).view(1, 20, 20, 20)
    moved = 0
    for seed in range(8):
        shuffled = shuffle_locally(image, seeded(seed), largest=0.2)
        assert torch.equal(shuffled.flatten().sort().values, image.flatten())
        came_from = torch.stack(torch.unravel_index(shuffled[0].long(), (20, 20, 20)))
        here = torch.stack(torch.meshgrid(*[torch.arange(20)] * 3, indexing="ij"))
        assert (came_from - here).abs().max() < 4
        moved += int((came_from != here).any(0).sum())
    assert moved > 8 * 20**3 / 3


def test_channels_are_shuffled_alike() -> None:
    image = torch.arange(12**3, dtype=torch.float32).view(1, 12, 12, 12).repeat(2, 1, 1, 1)
    shuffled = shuffle_locally(image, seeded(3), largest=0.3)
    assert torch.equal(shuffled[0], shuffled[1])


@pytest.mark.parametrize(("in_painting", "low", "high"), [(1.0, 0.003, 0.2), (0.0, 0.5, 0.93)])
def test_painting_hides_boxes_or_all_but_boxes(in_painting: float, low: float, high: float) -> None:
    spoil, image = Spoiling(intensity=0, shuffling=0, painting=1, in_painting=in_painting), torch.randn(1, 24, 24, 24)
    for seed in range(6):
        changed = (spoil(image, seeded(seed)) != image).float().mean().item()
        assert low < changed < high


def test_no_change_is_left_out_and_all_can_be_turned_off() -> None:
    image = torch.randn(1, 20, 20, 20)
    assert torch.equal(Spoiling(intensity=0, shuffling=0, painting=0)(image, seeded(0)), image)
    alone = [dict.fromkeys(SPOILING_OPTIONS, 0.0) | {name: 1.0} for name in ("intensity", "shuffling", "painting")]
    assert not any(torch.equal(Spoiling(**one)(image, seeded(1)), image) for one in alone)


def test_a_constant_image_stays_finite() -> None:
    spoil = Spoiling(intensity=1, shuffling=1, painting=1)
    assert spoil(torch.full((1, 12, 12, 12), 3.0), seeded(0)).isfinite().all()


def test_fusion_mixes_in_the_other_image_by_the_class_of_each_voxel() -> None:
    fusing = Fusing(levels=2, fewest=3, most=3, edges=(0.3, 0.5))
    classes = fusing.classes(torch.Size((12, 12, 12)), torch.Generator().manual_seed(0))
    assert set(classes.unique().tolist()) == {0, 1, 2}
    assert torch.equal(classes, fusing.classes(torch.Size((12, 12, 12)), torch.Generator().manual_seed(0)))
