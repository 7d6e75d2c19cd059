"""The segmentation network: sizes, attention, masks, deep supervision, export."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from MAESegmentLib.errors import ConfigurationError
from MAESegmentLib.networks import NnFormer, NnFormerConfig
from MAESegmentLib.networks.attention import DropPath, RelativePositionBias, WindowAttention, WindowLayout, offset_index
from MAESegmentLib.networks.cpu_kernels import (
    CACHED_NUMBERS,
    attend,
    by_rows,
    plain_attend,
    plain_cut,
    plain_join,
    to_voxels,
)
from MAESegmentLib.networks.nnformer import Down, Up

CPU = torch.device("cpu")
TINY = NnFormerConfig(
    in_channels=1,
    out_channels=3,
    crop_size=(8, 12, 12),
    embed_dim=8,
    depths=(2, 1, 1),
    heads=(1, 2, 2),
    embed_strides=((1, 2, 2), (1, 1, 1)),
    windows=((2, 3, 3), (2, 2, 2), (2, 2, 2)),
    down_strides=((2, 2, 2), (1, 2, 2)),
    global_stages=(False, False, True),
    deep_supervision=True,
)


def tiny(seed: int = 0, **changes: object) -> NnFormer:
    torch.manual_seed(seed)
    return NnFormer(replace(TINY, **changes)).eval()  # type: ignore[arg-type]


def attention(window: tuple[int, int, int], **changes: bool) -> WindowAttention:
    torch.manual_seed(0)
    flags = {"shifted": False, "covers_grid": False, "cross": False, "mask_padding": True, "mask_shift": True}
    layer = WindowAttention(8, 2, window, **{**flags, **changes})
    torch.nn.init.normal_(layer.bias.table)  # large enough to matter
    return layer


# --- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("preset", "millions"), [("synapse", 150.05), ("acdc", 37.16), ("brats", 37.61)])
def test_published_presets_have_the_published_parameter_count(preset: str, millions: float) -> None:
    with torch.device("meta"):
        network = NnFormer(NnFormerConfig.preset(preset))
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 2) == millions


triples = st.tuples(*[st.integers(1, 2)] * 3)


@settings(max_examples=30)
@given(
    size=st.tuples(*[st.integers(4, 13)] * 3),
    first=triples,
    second=triples,
    down=st.tuples(triples, triples),
    padded=st.booleans(),
    windows=st.tuples(*[st.tuples(*[st.integers(1, 4)] * 3)] * 3),
    last_is_global=st.booleans(),
)
def test_any_size_from_one_token_up_gives_logits_of_the_same_size(
    size, first, second, down, padded, windows, last_is_global
) -> None:
    config = NnFormerConfig(
        in_channels=1,
        out_channels=2,
        crop_size=(8, 8, 8),
        embed_dim=4,
        depths=(2, 2, 1),
        heads=(1, 2, 2),
        embed_strides=(first, second),
        windows=windows,
        down_strides=down,
        down_paddings=() if padded else ((0, 0, 0), (0, 0, 0)),
        global_stages=(False, False, last_is_global),
    )
    with torch.inference_mode():
        logits = NnFormer(config).eval()(torch.randn(1, 1, *size))
    assert logits.shape == (1, 2, *size)
    assert logits.isfinite().all()


@pytest.mark.parametrize("depth", [1, 2, 6, 14, 15, 16])
def test_the_acdc_layout_takes_any_number_of_slices(depth: int) -> None:
    config = replace(NnFormerConfig.preset("acdc"), embed_dim=4, heads=(1, 1, 1, 1), decoder_heads=(1, 1, 1))
    with torch.inference_mode():
        assert NnFormer(config).eval()(torch.randn(1, 1, depth, 16, 16)).shape == (1, 4, depth, 16, 16)


def test_images_of_a_batch_do_not_influence_each_other() -> None:
    network, images = tiny(), torch.randn(3, 1, 5, 9, 14)
    with torch.no_grad():
        together = network(images)
        apart = torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-5)


# --- attention -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [(4, 4, 4), (2, 3, 5), (1, 1, 4)])
def test_every_offset_has_a_bias_of_its_own(window: tuple[int, int, int]) -> None:
    index = offset_index(window, window, CPU)
    positions = torch.cartesian_prod(*[torch.arange(w) for w in window])
    offsets = (positions[:, None] - positions[None, :]).reshape(-1, 3)
    pairs = torch.cat([offsets, index.reshape(-1, 1)], dim=1).unique(dim=0)
    rows = (2 * window[0] - 1) * (2 * window[1] - 1) * (2 * window[2] - 1)
    assert len(pairs) == len(offsets.unique(dim=0)) == len(index.unique()) == rows
    assert (index.min(), index.max()) == (0, rows - 1)


def test_a_smaller_window_reads_the_same_offsets_of_the_table() -> None:
    bias = RelativePositionBias((3, 4, 4), heads=2)
    whole = bias((3, 4, 4))[0].view(2, 3, 4, 4, 3, 4, 4)
    part = bias((2, 3, 1))[0].view(2, 2, 3, 1, 2, 3, 1)
    assert torch.equal(part, whole[:, :2, :3, :1, :2, :3, :1])


def test_a_larger_window_interpolates_the_table() -> None:
    bias = RelativePositionBias((1, 1, 3), heads=1)
    with torch.no_grad():
        bias.table.copy_(torch.arange(5.0)[:, None])  # linear in the offset, so interpolation is exact
    scores = bias((1, 1, 5))[0, 0]
    assert torch.allclose(scores[0], torch.linspace(2, 0, 5))
    assert torch.allclose(scores[4], torch.linspace(4, 2, 5))


def explicit(layer: WindowAttention, tokens: torch.Tensor, query: torch.Tensor | None = None) -> torch.Tensor:
    """softmax(q k^T / sqrt(head dim) + bias + mask) v, written out."""
    layout = WindowLayout(tuple(tokens.shape[1:4]), layer.window, layer.shifted)  # type: ignore[arg-type]
    windows = layout.partition(tokens)
    parts = list(layer.projection_in(windows).chunk(2 if query is not None else 3, dim=-1))
    if query is not None:
        parts.insert(0, layout.partition(query))
    q, k, v = (p.unflatten(-1, (layer.heads, -1)).transpose(1, 2) for p in parts)
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5 + layer.bias(layout.window)
    mask = layout.mask(CPU, padding=layer.mask_padding, shift=layer.mask_shift)
    if mask is not None:
        scores = (scores.unflatten(0, (tokens.shape[0], -1)) + mask).flatten(0, 1)
    return layout.merge(layer.projection_out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2)))


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("grid", [(4, 6, 6), (5, 7, 6), (2, 3, 3)])
def test_fused_attention_equals_explicit_softmax(grid: tuple[int, int, int], shifted: bool) -> None:
    layer, tokens = attention((2, 3, 3), shifted=shifted), torch.randn(2, *grid, 8)
    torch.testing.assert_close(layer(tokens), explicit(layer, tokens), rtol=0, atol=1e-5)


def test_skip_attention_takes_keys_and_values_from_the_skip_and_queries_as_they_are() -> None:
    layer, skip, up = attention((2, 3, 3), cross=True), torch.randn(2, 5, 6, 6, 8), torch.randn(2, 5, 6, 6, 8)
    torch.testing.assert_close(layer(skip, up), explicit(layer, skip, up), rtol=0, atol=1e-5)


def changed_tokens(layer: WindowAttention, length: int, perturbed: int) -> list[int]:
    """Tokens of a row of `length` whose output changes at all when token `perturbed` changes."""
    tokens = torch.randn(1, 1, 1, length, 8)
    before = layer(tokens)
    tokens[..., perturbed, :] += 100
    return [t for t in range(length) if not torch.equal(layer(tokens)[..., t, :], before[..., t, :])]


def test_tokens_do_not_attend_across_the_wrap_around_of_the_shift() -> None:
    assert changed_tokens(attention((1, 1, 4), shifted=True), 8, perturbed=7) == [6, 7]
    assert changed_tokens(attention((1, 1, 4), shifted=True, mask_shift=False), 8, perturbed=7) == [0, 1, 6, 7]


def test_shifted_windows_reach_over_the_borders_of_unshifted_ones() -> None:
    assert changed_tokens(attention((1, 1, 4)), 8, perturbed=4) == [4, 5, 6, 7]
    assert changed_tokens(attention((1, 1, 4), shifted=True), 8, perturbed=4) == [2, 3, 4, 5]


@pytest.mark.parametrize("shifted", [False, True])
def test_padding_has_no_influence_on_attention(shifted: bool) -> None:
    """6 tokens in windows of 4: the cut-off window must compute what a window of that size would."""
    layer, tokens = attention((1, 1, 4), shifted=shifted, mask_shift=False), torch.randn(1, 1, 1, 6, 8)
    # unshifted: 0-3 | 4 5 and padding; shifted by two: 2-5 | padding and 0 1
    part = slice(0, 2) if shifted else slice(4, 6)
    alone = layer(tokens[..., part, :])
    torch.testing.assert_close(layer(tokens)[..., part, :], alone, rtol=0, atol=1e-6)
    layer.mask_padding = False
    assert (layer(tokens)[..., part, :] - alone).abs().max() > 1e-3


def test_a_mask_is_made_once_per_device_and_lives_there() -> None:
    layout = WindowLayout((5, 6, 6), (2, 3, 3), shifted=True)
    mask = layout.mask(CPU, padding=True, shift=True)
    assert mask is layout.mask(CPU, padding=True, shift=True)
    assert mask is not None
    assert mask.shape == (3 * 2 * 2, 1, 18, 18)
    elsewhere = layout.mask(torch.device("meta"), padding=True, shift=True)
    assert elsewhere is not None
    assert elsewhere.device.type == "meta"


def test_no_mask_where_every_pair_may_attend() -> None:
    assert WindowLayout((4, 6, 6), (2, 3, 3), shifted=False).mask(CPU, padding=True, shift=True) is None
    assert WindowLayout((2, 3, 3), (4, 4, 4), shifted=True).mask(CPU, padding=True, shift=True) is None


def test_a_grid_is_cut_and_joined_as_by_padding_rolling_and_permuting() -> None:
    tokens = torch.randn(2, 5, 7, 4, 3)
    layout = WindowLayout((5, 7, 4), (2, 3, 4), shifted=True)
    windows = layout.partition(tokens)
    assert torch.equal(windows, plain_cut(tokens, layout.cut).reshape(windows.shape))
    assert torch.equal(layout.merge(windows), plain_join(windows, layout.cut))
    assert torch.equal(layout.merge(windows), tokens)


@pytest.mark.parametrize("shifted", [False, True])
def test_gradients_find_their_way_back_through_windows(shifted: bool) -> None:
    """Padding takes none, and gives none to a token that it stands in for."""
    layout = WindowLayout((3, 5, 4), (2, 3, 4), shifted)
    tokens = torch.randn(2, 3, 5, 4, 2, dtype=torch.double, requires_grad=True)
    windows = layout.partition(tokens)
    assert int((windows == 0).sum()) == 2 * 2 * (4 * 6 * 4 - 3 * 5 * 4)
    assert torch.autograd.gradcheck(layout.partition, (tokens,))
    assert torch.autograd.gradcheck(layout.merge, (windows.detach().requires_grad_(),))


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("windows", [None, 2])
def test_attention_while_training_equals_the_library_and_has_its_gradients(windows: int | None, cross: bool) -> None:
    torch.manual_seed(0)
    projected = torch.randn(4, 6, 2 if cross else 3, 2, 3, dtype=torch.double, requires_grad=True)
    query = torch.randn(4, 6, 2, 3, dtype=torch.double, requires_grad=True) if cross else None
    bias = torch.randn(1, 2, 6, 6, dtype=torch.double, requires_grad=True)
    mask = None if windows is None else torch.randn(windows, 1, 6, 6, dtype=torch.double)
    plain = plain_attend(projected, query, bias if mask is None else (bias + mask).repeat(4 // len(mask), 1, 1, 1))
    torch.testing.assert_close(attend(projected, query, bias, mask), plain)
    assert torch.autograd.gradcheck(
        lambda keys, asked, added: attend(keys, asked, added, mask), (projected, query, bias)
    )


def test_training_works_after_inference_mode_filled_the_caches() -> None:
    """A cached inference tensor could not be saved for backward."""
    network, image = tiny(windows=((2, 2, 3), (1, 2, 2), (2, 2, 2))), torch.randn(1, 1, 5, 10, 14)
    with torch.inference_mode():
        network(image)
    network.train()(image)[0].mean().backward()


# --- training --------------------------------------------------------------------------------------------------------


def test_deep_supervision_gives_a_list_only_while_training() -> None:
    network, image = tiny(), torch.randn(2, 1, 8, 12, 12)
    assert network(image).shape == (2, 3, 8, 12, 12)
    full, half = network.train()(image)
    assert full.shape == (2, 3, 8, 12, 12)
    assert half.shape == (2, 3, 4, 6, 6)
    assert tiny(deep_supervision=False).train()(image).shape == (2, 3, 8, 12, 12)


def test_every_parameter_receives_a_gradient() -> None:
    network = tiny(drop_path=0.0).train()
    sum(logits.square().mean() for logits in network(torch.randn(2, 1, 8, 12, 12))).backward()
    dead = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []


def test_stochastic_depth_is_off_in_eval_and_on_in_training() -> None:
    network, image = tiny(drop_path=0.5, deep_supervision=False), torch.randn(1, 1, 8, 12, 12)
    with torch.no_grad():
        assert torch.equal(network(image), network(image))
        network.train()
        assert any(not torch.equal(network(image), network(image)) for _ in range(5))


def test_stochastic_depth_drops_whole_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    dropped = DropPath(0.25).train()(torch.ones(4000, 2, 3))
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert torch.equal(dropped[:, 0, 0], dropped[:, 1, 2])
    assert dropped.mean() == pytest.approx(1.0, abs=0.05)


def test_bfloat16_autocast_stays_close_to_float32() -> None:
    network, image = tiny(), torch.randn(1, 1, 7, 10, 14)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        low = network(image)
    exact = network(image)
    assert low.isfinite().all()
    assert (low.float() - exact).abs().max() < 0.05 * exact.abs().max()


def test_bfloat16_training_has_the_gradients_of_float32_roughly() -> None:
    network, image = tiny(drop_path=0.0).train(), torch.randn(2, 1, 8, 12, 12)
    gradients = []
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            loss = sum(logits.float().square().mean() for logits in network(image))
        loss.backward()  # outside of autocast, as in the training loop
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]))
        network.zero_grad()
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.98


@pytest.mark.parametrize(
    ("stride", "padding"), [((2, 2, 2), (1, 1, 1)), ((1, 2, 2), (0, 1, 1)), ((2, 2, 2), (0, 0, 0))]
)
def test_downsampling_to_few_tokens_is_the_convolution_of_its_weights(stride, padding) -> None:
    layer = Down(64, stride, padding)
    tokens = torch.randn(1, 2, 3, 5, 64).requires_grad_()
    volume = layer.norm(F.gelu(tokens)).movedim(-1, 1)
    if padding == (0, 0, 0):  # an even axis gets a token of padding on the far side
        volume = F.pad(volume, (0, 0, 0, 0, 0, 1))
    expected = layer.conv(volume).movedim(1, -1)
    found = layer(tokens)
    assert found.shape[1:4].numel() <= len(layer.conv.weight) / 8, "this test wants the matrix product"
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    parameters = (tokens, layer.conv.weight, layer.conv.bias)
    for gradient, wanted in zip(
        torch.autograd.grad(found.square().sum(), parameters),
        torch.autograd.grad(expected.square().sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-4)


def test_tokens_are_worked_on_some_rows_at_a_time_without_gradients() -> None:
    rows = []
    tokens = torch.randn(4, 9, 10, 11, 512)
    with torch.no_grad():
        found = by_rows(lambda part: rows.append(len(part)) or part * 2, tokens, 512)
    assert len(rows) > 1
    assert max(rows) * 512 <= CACHED_NUMBERS
    assert torch.equal(found, tokens * 2)


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("shifted", [False, True])
def test_windows_are_attended_to_some_at_a_time_without_gradients(cross, shifted, monkeypatch) -> None:
    attention = WindowAttention(
        16, 2, (2, 3, 2), shifted=shifted, covers_grid=False, cross=cross, mask_padding=True, mask_shift=True
    )
    tokens = [torch.randn(2, 5, 6, 7, 16) for _ in range(1 + cross)]
    expected = attention(*tokens)  # with gradients: all at once
    monkeypatch.setattr("MAESegmentLib.networks.cpu_kernels.CACHED_NUMBERS", 5 * 12 * 48)
    with torch.no_grad():
        torch.testing.assert_close(attention(*tokens), expected, rtol=1e-5, atol=1e-6)


def test_upsampling_is_the_transposed_convolution_of_its_weights() -> None:
    layer, tokens = Up(3, (1, 2, 2)), torch.randn(2, 3, 4, 2, 6)
    expected = layer.conv(layer.norm(tokens).movedim(-1, 1)).movedim(1, -1)
    torch.testing.assert_close(layer(tokens, (3, 8, 4)), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(layer(tokens, (3, 7, 3)), expected[:, :, :7, :3], rtol=0, atol=1e-5)
    torch.testing.assert_close(layer(tokens, (3, 9, 4))[:, :, :8], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(to_voxels(tokens, layer.conv), layer.conv(tokens.movedim(-1, 1)), rtol=0, atol=1e-5)


# --- tracing ---------------------------------------------------------------------------------------------------------


def test_the_exported_program_reproduces_eager_and_leaves_it_working() -> None:
    network = tiny(depths=(2, 1), **SHORT)
    image = torch.randn(1, 1, 7, 10, 14)
    program = torch.export.export(network, (image,), strict=False)
    other = torch.randn(1, 1, 7, 10, 14)
    with torch.no_grad():
        expected = network(other)
        assert type(expected) is torch.Tensor  # no fake tensor stayed in a cache
        torch.testing.assert_close(program.module()(other), expected, rtol=0, atol=1e-6)


def test_the_network_compiles_into_one_graph() -> None:
    network, image = tiny(depths=(2, 1), **SHORT), torch.randn(1, 1, 7, 10, 14)
    torch._dynamo.reset()
    with torch.no_grad():
        compiled = torch.compile(network, backend="eager", fullgraph=True)(image)
        torch.testing.assert_close(compiled, network(image), rtol=0, atol=1e-6)


#: Two stages, with a shifted block, padding and a global stage: little for a tracer to do, nothing left out.
SHORT = {
    "heads": (1, 2),
    "windows": ((2, 3, 3), (2, 2, 2)),
    "down_strides": ((2, 2, 2),),
    "down_paddings": None,
    "global_stages": (False, True),
    "decoder_depths": None,
    "decoder_heads": None,
}


# --- configuration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["synapse", "acdc", "brats", "small"])
def test_configurations_survive_json(preset: str) -> None:
    config = NnFormerConfig.preset(preset, in_channels=2, out_channels=7)
    restored = NnFormerConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert restored == config
    assert hash(restored) == hash(config)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"depths": (2,)}, "two stages"),
        ({"heads": (1, 2)}, "heads"),
        ({"heads": (1, 3, 2)}, "heads"),
        ({"decoder_heads": (1, 3)}, "heads"),
        ({"windows": ((2, 3, 3),)}, "windows"),
        ({"windows": ((2, 3), (2, 2), (2, 2))}, "windows"),
        ({"windows": ((0, 3, 3), (2, 2, 2), (2, 2, 2))}, "windows"),
        ({"embed_strides": ((1, 2, 2),)}, "embed_strides"),
        ({"down_strides": ((3, 2, 2), (1, 2, 2))}, "down_strides"),
        ({"down_paddings": ((1, 1, 1), (1, 1, 1))}, "down_paddings"),
        ({"embed_dim": 7}, "embed_dim"),
        ({"in_channels": 0}, "Channels"),
        ({"depths": (2, 0, 1)}, "depths"),
        ({"drop_path": 1.0}, "drop_path"),
    ],
)
def test_impossible_settings_are_refused_by_name(changes: dict, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        replace(TINY, **changes)


def test_unknown_settings_and_presets_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="colour"):
        NnFormerConfig.from_dict({**TINY.to_dict(), "colour": "red"})
    with pytest.raises(ConfigurationError, match="unet"):
        NnFormerConfig.preset("unet")
