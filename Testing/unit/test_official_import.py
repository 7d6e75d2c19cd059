"""Official checkpoints give the same function in our network, or a clear refusal."""

from __future__ import annotations

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


def test_dataparallel_prefixes_are_accepted() -> None:
    design = REDUCED["brats"]
    wrapped = {f"module.{key}": value for key, value in state_dict(design).items()}
    network = import_official(wrapped, "brats", crop_size=design.crop)
    for key, value in imported("brats").state_dict().items():
        assert torch.equal(network.state_dict()[key], value)


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


def test_half_precision_checkpoints_become_float32() -> None:
    design = REDUCED["brats"]
    source = {k: v.half() if v.is_floating_point() else v for k, v in state_dict(design).items()}
    network = import_official(source, "brats", crop_size=design.crop)
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert all(p.requires_grad for p in network.parameters())


def test_an_unknown_key_is_refused_by_name() -> None:
    with pytest.raises(WeightsError, match=r"unknown model_down.extra.weight"):
        imported("synapse", **{"model_down.extra.weight": torch.zeros(1)})


def test_a_missing_key_is_refused_by_name() -> None:
    source = state_dict(REDUCED["synapse"])
    del source["decoder.layers.1.blocks.1.mlp.fc2.bias"]
    with pytest.raises(WeightsError, match=r"missing decoder.layers.1.blocks.1.mlp.fc2.bias"):
        import_official(source, "synapse", crop_size=REDUCED["synapse"].crop)


def test_a_missing_index_buffer_is_refused() -> None:
    source = state_dict(REDUCED["synapse"])
    del source["decoder.layers.1.blocks.1.attn.relative_position_index"]
    with pytest.raises(WeightsError, match=r"missing decoder.layers.1.blocks.1.attn.relative_position_index"):
        import_official(source, "synapse", crop_size=REDUCED["synapse"].crop)


@pytest.mark.parametrize("attention", ["model_down.layers.0.blocks.0.attn", "decoder.layers.0.blocks.1.attn"])
def test_an_index_that_is_no_function_of_the_offset_is_refused(attention: str) -> None:
    index = official_index((4, 4, 4))
    index[3, 5] += 1
    with pytest.raises(WeightsError, match=attention):
        imported("synapse", **{f"{attention}.relative_position_index": index})


def test_an_index_beyond_the_table_is_refused() -> None:
    index = official_index((4, 4, 4)) + 1000
    with pytest.raises(WeightsError, match="relative_position_index"):
        imported("synapse", **{"decoder.layers.0.blocks.1.attn.relative_position_index": index})


@pytest.mark.parametrize(("preset", "other"), [("brats", "synapse"), ("synapse", "brats"), ("brats", "acdc")])
def test_a_checkpoint_of_another_task_is_refused(preset: str, other: str) -> None:
    with pytest.raises(WeightsError, match=r"shape of|tokens"):
        import_official(state_dict(REDUCED[preset]), other, crop_size=REDUCED[preset].crop)


def test_a_crop_size_that_contradicts_the_windows_is_refused() -> None:
    with pytest.raises(WeightsError, match="crop") as refusal:
        import_official(state_dict(REDUCED["acdc"]), "acdc", crop_size=(14, 128, 64))
    assert "crop size" in refusal.value.hint


def test_a_whole_checkpoint_file_is_refused_with_a_hint() -> None:
    with pytest.raises(WeightsError) as refusal:
        import_official({"epoch": 3, "state_dict": state_dict(REDUCED["brats"])}, "brats")  # type: ignore[dict-item]
    assert "state_dict" in refusal.value.hint


def test_something_else_than_nnformer_is_refused() -> None:
    with pytest.raises(WeightsError):
        import_official({"conv.weight": torch.zeros(3)}, "synapse")
    with pytest.raises(WeightsError):
        import_official({}, "synapse")
    with pytest.raises(WeightsError, match="swin"):
        import_official(state_dict(REDUCED["brats"]), "swin")
