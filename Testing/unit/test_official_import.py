"""Official checkpoints give the same function in our network, or a clear refusal."""

from __future__ import annotations

import re

import pytest
import torch

from MAESegmentLib.errors import WeightsError
from MAESegmentLib.networks import NnFormerConfig, import_official
from Testing.official_nnformer import PUBLISHED, REDUCED, Reference, official_index, state_dict

PRESETS = ("synapse", "acdc", "brats")


def imported(preset: str, **changes: torch.Tensor):
    design = REDUCED[preset]
    return import_official({**state_dict(design), **changes}, preset, crop_size=design.crop, drop_path=0.0)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_imported_network_reproduces_the_official_forward(preset: str) -> None:
    design = REDUCED[preset]
    image = torch.randn(2, design.channels, *design.crop, generator=torch.Generator().manual_seed(1))
    network = imported(preset)
    with torch.no_grad():
        expected = Reference(design, state_dict(design))(image)
        logits = network(image)
    assert not network.training
    assert logits.shape == (2, design.classes, *design.crop)
    assert expected[0].std() > 0.1
    torch.testing.assert_close(logits, expected[0], rtol=0, atol=1e-4)


def test_deep_supervision_heads_keep_their_order() -> None:
    design = REDUCED["synapse"]
    image = torch.randn(1, design.channels, *design.crop)
    network = imported("synapse").train()
    assert network.config.deep_supervision
    with torch.no_grad():
        for logits, expected in zip(network(image), Reference(design, state_dict(design))(image), strict=True):
            torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_key_of_a_published_checkpoint_has_its_place(preset: str) -> None:
    network = import_official(state_dict(PUBLISHED[preset], device="meta"), preset)
    published = NnFormerConfig.preset(preset, mask_padding=False, mask_shift=preset != "acdc")
    assert network.config == published


def test_sizes_are_read_from_the_checkpoint() -> None:
    config = imported("acdc").config
    assert (config.in_channels, config.out_channels, config.embed_dim) == (2, 5, 8)
    assert config.windows == ((3, 5, 5), (3, 5, 5), (7, 4, 4), (3, 2, 2))
    assert config.heads == (1, 2, 4, 8)
    assert imported("brats").config.decoder_heads == (2, 4, 8)


def test_dataparallel_prefixes_and_half_precision_are_accepted() -> None:
    design = REDUCED["brats"]
    source = {f"module.{k}": v.half() if v.is_floating_point() else v for k, v in state_dict(design).items()}
    network = import_official(source, "brats", crop_size=design.crop)
    for key, value in imported("brats").state_dict().items():
        torch.testing.assert_close(network.state_dict()[key], value, rtol=1e-3, atol=1e-3)
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert all(p.requires_grad for p in network.parameters())


def test_offsets_that_shared_a_bias_get_equal_rows_of_their_own() -> None:
    table = imported("synapse").state_dict()["encoder.stages.0.0.attention.bias.table"]
    assert table.shape[0] == 343
    assert len(torch.unique(table[:, 0])) == len(official_index((4, 4, 4)).unique()) == 115


def test_the_network_shares_no_memory_with_the_checkpoint() -> None:
    design = REDUCED["brats"]
    source = state_dict(design)
    network = import_official(source, "brats", crop_size=design.crop)
    with torch.no_grad():
        source["model_down.norm0.weight"].zero_()
    assert network.encoder.norms[0].weight.abs().min() > 0


SHARED = "relative_position_index"
DOWN, UP = "model_down.layers.0.blocks.0.attn", "decoder.layers.1.blocks.1"


def shifted(change: int) -> torch.Tensor:
    """An index that is no function of the offset, or (1000) one beyond the table."""
    index = official_index((4, 4, 4))
    if change > 1:
        return index + change
    index[3, 5] += change
    return index


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_down.extra.weight": torch.zeros(1)}, "unknown model_down.extra.weight"),
        ({f"{UP}.mlp.fc2.bias": None}, f"missing {UP}.mlp.fc2.bias"),
        ({f"{UP}.attn.{SHARED}": None}, f"missing {UP}.attn.{SHARED}"),
        ({f"{DOWN}.{SHARED}": shifted(1)}, DOWN),
        ({f"decoder.layers.0.blocks.1.attn.{SHARED}": shifted(1)}, "decoder.layers.0.blocks.1.attn"),
        ({f"decoder.layers.0.blocks.1.attn.{SHARED}": shifted(1000)}, SHARED),
    ],
)
def test_a_checkpoint_that_is_not_complete_and_consistent_is_refused_by_key(
    changes: dict[str, torch.Tensor | None], said: str
) -> None:
    design = REDUCED["synapse"]
    changed = {**state_dict(design), **changes}
    source = {key: value for key, value in changed.items() if value is not None}
    with pytest.raises(WeightsError, match=re.escape(said)):
        import_official(source, "synapse", crop_size=design.crop)


@pytest.mark.parametrize(("preset", "other"), [("brats", "synapse"), ("synapse", "brats"), ("brats", "acdc")])
def test_a_checkpoint_of_another_task_is_refused(preset: str, other: str) -> None:
    with pytest.raises(WeightsError, match=r"shape of|tokens"):
        import_official(state_dict(REDUCED[preset]), other, crop_size=REDUCED[preset].crop)


@pytest.mark.parametrize(
    ("source", "preset", "said"),
    [
        (state_dict(REDUCED["acdc"]), "acdc", r"(?s)crop.*crop size"),
        ({"epoch": 3, "state_dict": state_dict(REDUCED["brats"])}, "brats", r"\n.*state_dict"),
        ({"conv.weight": torch.zeros(3)}, "synapse", ""),
        ({}, "synapse", ""),
        (state_dict(REDUCED["brats"]), "swin", "swin"),
    ],
    ids=["crop size", "whole file", "another network", "nothing", "unknown preset"],
)
def test_something_else_is_refused_with_what_to_do(source: dict, preset: str, said: str) -> None:
    with pytest.raises(WeightsError) as refusal:
        import_official(source, preset, crop_size=(14, 128, 64))
    assert re.search(said, str(refusal.value))
