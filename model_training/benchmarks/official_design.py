"""The official nnFormer design, written plainly on the parameters of one of our networks: what speed is compared with.

It keeps what makes that design slow and what ours avoids: explicit attention matrices with their softmax, the bias of
every pair gathered and the shift mask built again in each forward, a pad, a roll and a copy into windows and back,
convolutions on channels-first copies of tokens that everything else reads channels-last. Nothing is slowed down on
purpose: attention runs over all windows at once, as in the official code. Output and gradients equal those of
`NnFormer` (a test says so), for configurations that attend to padding, as the official code does, and crops that the
strides divide.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from MAESegmentLib.networks import NnFormer
from MAESegmentLib.networks.attention import Block, WindowAttention, offset_index
from MAESegmentLib.networks.config import Triple
from MAESegmentLib.networks.nnformer import ConvPair, DecoderStage, Down, Up

#: Added to the scores of pairs that the shift's wrap-around brought together.
_APART = -100.0


class OfficialDesign(nn.Module):
    """Computes what `network` computes; both share their parameters."""

    def __init__(self, network: NnFormer) -> None:
        super().__init__()
        if network.config.mask_padding:
            raise ValueError("The official design attends to padding: make the network with mask_padding=False.")
        self.network = network

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """image (B, C, D, H, W) -> logits of the same size; while training with deep supervision, of every level."""
        network: Any = self.network  # torch types modules in lists as plain modules
        skips = self._encode(image)
        tokens, levels = skips.pop(), []
        for stage, skip in zip(network.decoder, reversed(skips), strict=True):
            tokens = _decode(stage, tokens, skip, network.config.mask_shift)
            levels.append(tokens)
        outputs = [
            head(level.permute(0, 4, 1, 2, 3).contiguous())
            for head, level in zip(network.heads, reversed(levels), strict=False)
        ]
        return outputs if network.training and network.config.deep_supervision else outputs[0]

    def _encode(self, image: Tensor) -> list[Tensor]:
        encoder: Any = self.network.encoder
        embedding = encoder.embedding
        volume = _embed_pair(embedding.pair2, _embed_pair(embedding.pair1, image))
        tokens = _norm_volume(embedding.norm, volume).permute(0, 2, 3, 4, 1).contiguous()
        outputs = []
        for stage, blocks in enumerate(encoder.stages):
            mask = _mask(blocks[-1].attention, tokens) if self.network.config.mask_shift else None
            for block in blocks:
                tokens = _transform(block, tokens, mask)
            outputs.append(encoder.norms[stage](tokens))
            if stage < len(encoder.downs):
                tokens = _down(encoder.downs[stage], tokens)
        return outputs


def _embed_pair(pair: ConvPair, volume: Tensor) -> Tensor:
    volume = pair.conv2(_norm_volume(pair.norm1, F.gelu(pair.conv1(volume))))
    return volume if pair.norm2 is None else _norm_volume(pair.norm2, F.gelu(volume))


def _norm_volume(norm: nn.LayerNorm, volume: Tensor) -> Tensor:
    """A layer norm over the channels of a channels-first volume, by way of tokens."""
    tokens = norm(volume.flatten(2).transpose(1, 2).contiguous())
    return tokens.transpose(1, 2).contiguous().view(volume.shape)


def _down(down: Down, tokens: Tensor) -> Tensor:
    volume = down.norm(F.gelu(tokens)).permute(0, 4, 1, 2, 3).contiguous()
    return down.conv(volume).permute(0, 2, 3, 4, 1).contiguous()


def _up(up: Up, tokens: Tensor, grid: list[int]) -> Tensor:
    volume = up.norm(tokens).permute(0, 4, 1, 2, 3).contiguous()
    return up.conv(volume, output_size=grid).permute(0, 2, 3, 4, 1).contiguous()


def _decode(stage: DecoderStage, tokens: Tensor, skip: Tensor, masked: bool) -> Tensor:
    blocks: Any = stage.blocks
    up = _up(stage.up, tokens, list(skip.shape[1:4]))
    mask = _mask(blocks[-1].attention, skip) if masked and len(blocks) else None
    stream = _transform(stage.skip_block, up + skip, None, skip=skip, up=up)
    for block in blocks:
        stream = _transform(block, stream, mask)
    return stream


def _transform(
    block: Block, stream: Tensor, mask: Tensor | None, *, skip: Tensor | None = None, up: Tensor | None = None
) -> Tensor:
    """One block on tokens (B, D, H, W, C); `mask` (windows, L, L) counts only where the block is shifted."""
    attention, shape = block.attention, stream.shape
    window, shift = _layout(attention, stream)
    parts = [stream] if skip is None or up is None else [skip, up]
    windows = [_partition(_rolled(_padded(block.norm1(part), window), shift, -1), window) for part in parts]
    attended = _attend(attention, *windows, window=window, mask=mask if any(shift) else None)
    padded: Triple = tuple(-(-g // w) * w for g, w in zip(shape[1:4], window, strict=True))  # type: ignore[assignment]
    merged = _rolled(_merge(attended, window, padded), shift, 1)
    stream = stream + block.drop_path(merged[:, : shape[1], : shape[2], : shape[3]].contiguous())
    mixed = block.norm2(stream)
    for layer in block.mlp:
        mixed = layer(mixed)
    return stream + block.drop_path(mixed)


def _attend(
    attention: WindowAttention, keys: Tensor, query: Tensor | None = None, *, window: Triple, mask: Tensor | None
) -> Tensor:
    """Windows (B * windows, L, C) -> the same shape."""
    count, length, channels = keys.shape
    heads = attention.heads
    projected = attention.projection_in(keys).reshape(count, length, -1, heads, channels // heads)
    parts = list(projected.permute(2, 0, 3, 1, 4).contiguous())
    if query is not None:
        parts.insert(0, query.reshape(count, length, heads, -1).permute(0, 2, 1, 3).contiguous())
    q, k, v = parts
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1).contiguous()
    index = offset_index(window, attention.bias.window, keys.device)
    bias = attention.bias.table[index.view(-1)].view(length, length, heads).permute(2, 0, 1).contiguous()
    scores = scores + bias.unsqueeze(0)
    if mask is not None:
        scores = scores.view(-1, len(mask), heads, length, length) + mask[:, None]
        scores = scores.view(-1, heads, length, length)
    mixed = (scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(count, length, channels).contiguous()
    return attention.projection_out(mixed)


def _layout(attention: WindowAttention, tokens: Tensor) -> tuple[Triple, Triple]:
    """Window and shift of this block along each axis, as configured for this grid."""
    grid = tokens.shape[1:4]
    wanted = grid if attention.covers_grid else attention.window
    window = tuple(min(w, g) for w, g in zip(wanted, grid, strict=True))
    shift = tuple(w // 2 if attention.shifted and g > w else 0 for w, g in zip(window, grid, strict=True))
    return window, shift  # type: ignore[return-value]


def _mask(attention: WindowAttention, tokens: Tensor) -> Tensor | None:
    """(windows, L, L) for the shifted blocks of a stage."""
    window, shift = _layout(attention, tokens)
    if not any(shift):
        return None
    padded = [-(-g // w) * w for g, w in zip(tokens.shape[1:4], window, strict=True)]
    regions = torch.zeros((1, *padded, 1), device=tokens.device)
    cuts = [
        [slice(0, -w), slice(-w, -s), slice(-s, None)] if s else [slice(None)]
        for w, s in zip(window, shift, strict=True)
    ]
    for number, (d, h, w) in enumerate(product(*cuts)):
        regions[:, d, h, w, :] = number
    labels = _partition(regions, window).squeeze(-1)
    difference = labels.unsqueeze(1) - labels.unsqueeze(2)
    return difference.masked_fill(difference != 0, _APART).masked_fill(difference == 0, 0.0)


def _padded(tokens: Tensor, window: Triple) -> Tensor:
    d, h, w = (-g % size for g, size in zip(tokens.shape[1:4], window, strict=True))
    return F.pad(tokens, (0, 0, 0, w, 0, h, 0, d))


def _rolled(tokens: Tensor, shift: Triple, sign: int) -> Tensor:
    return torch.roll(tokens, [sign * s for s in shift], dims=(1, 2, 3)) if any(shift) else tokens


def _partition(tokens: Tensor, window: Triple) -> Tensor:
    batch, pd, ph, pw, channels = tokens.shape
    d, h, w = window
    tokens = tokens.view(batch, pd // d, d, ph // h, h, pw // w, w, channels)
    return tokens.permute(0, 1, 3, 5, 2, 4, 6, 7).contiguous().view(-1, d * h * w, channels)


def _merge(windows: Tensor, window: Triple, padded: Triple) -> Tensor:
    (d, h, w), (pd, ph, pw) = window, padded
    channels = windows.shape[-1]
    tokens = windows.view(-1, pd // d, ph // h, pw // w, d, h, w, channels)
    return tokens.permute(0, 1, 4, 2, 5, 3, 6, 7).contiguous().view(-1, pd, ph, pw, channels)
