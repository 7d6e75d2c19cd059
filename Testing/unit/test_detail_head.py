"""The convolutional head at full resolution beside nnFormer's own."""

from __future__ import annotations

from dataclasses import replace

import torch

from MAESegmentLib.networks import NnFormer, NnFormerConfig
from Testing.unit.test_nnformer import TINY, tiny


def test_detail_head_adds_nothing_at_first_and_then_sees_single_voxels() -> None:
    """Tokens of 2 voxels blur what it sees; it has all voxels of an image that is no multiple of a token."""
    network, image = tiny(detail_channels=6), torch.randn(2, 1, 7, 9, 11)
    with torch.no_grad():
        before = network(image)
        torch.testing.assert_close(before, to_voxels_alone(network, image))
    loss = network.train()(image)[0].square().mean()
    loss.backward()
    assert network.detail.out.weight.grad.abs().sum() > 0
    with torch.no_grad():
        network.eval().detail.out.weight.normal_()
        change = network(image) - before
        assert change.shape == (2, 3, 7, 9, 11)
        brighter, tokens = image.clone(), torch.zeros(2, 7, 5, 6, 8)
        brighter[:, :, 6, 8, 10] += 5
        own = network.detail(tokens, brighter) - network.detail(tokens, image)
    changed = own.abs().sum((0, 1)).nonzero()
    assert changed.min(0).values.tolist() == [4, 6, 8], "two convolutions reach two voxels far"


def test_network_without_a_detail_head_is_described_as_before_there_was_one() -> None:
    assert "detail_channels" not in TINY.to_dict()
    detailed = replace(TINY, detail_channels=6)
    assert NnFormerConfig.from_dict(detailed.to_dict()) == detailed
    assert NnFormerConfig.from_dict(TINY.to_dict()) == TINY


def to_voxels_alone(network: NnFormer, image: torch.Tensor) -> torch.Tensor:
    """Without its detail head."""
    alone = NnFormer(replace(network.config, detail_channels=0)).eval()
    alone.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("detail.")})
    logits: torch.Tensor = alone(image)
    return logits
