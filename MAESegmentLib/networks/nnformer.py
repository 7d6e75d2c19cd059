"""nnFormer (arXiv 2109.03201): an encoder and decoder of 3D window attention with a convolutional stem.

Tokens are kept channels-last, (B, D, H, W, C): linear layers and layer norms read them as they are, and the permuted
view that convolutions take is the channels_last_3d memory format.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Block, WindowAttention
from .config import NnFormerConfig, Triple
from .cpu_kernels import by_rows, expand_tokens, strided_conv, to_voxels


def _to_conv(tokens: Tensor) -> Tensor:  # (B, D, H, W, C) -> (B, C, D, H, W)
    return tokens.permute(0, 4, 1, 2, 3)


def _to_tokens(volume: Tensor) -> Tensor:  # (B, C, D, H, W) -> (B, D, H, W, C)
    return volume.permute(0, 2, 3, 4, 1).contiguous()


class ConvPair(nn.Module):
    """Strided conv, GELU, LN, conv (and GELU, LN unless `last`): half of the embedding."""

    def __init__(self, channels_in: int, channels_out: int, stride: Triple, *, last: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels_in, channels_out, 3, stride, padding=1)
        self.norm1 = nn.LayerNorm(channels_out)
        self.conv2 = nn.Conv3d(channels_out, channels_out, 3, padding=1)
        self.norm2 = None if last else nn.LayerNorm(channels_out)

    def forward(self, volume: Tensor) -> Tensor:  # (B, C, D, H, W) -> (B, C', D', H', W')
        volume = _to_conv(_gelu_norm(self.norm1, _to_tokens(self.conv1(volume))))
        volume = self.conv2(volume)
        if self.norm2 is not None:
            volume = _to_conv(_gelu_norm(self.norm2, _to_tokens(volume)))
        return volume


def _gelu_norm(norm: nn.Module, tokens: Tensor) -> Tensor:
    return by_rows(lambda rows: norm(F.gelu(rows)), tokens, tokens.shape[-1])


class Embedding(nn.Module):
    """Voxels to tokens by overlapping convolutions, (B, C, D, H, W) -> (B, D', H', W', embed_dim)."""

    def __init__(self, config: NnFormerConfig) -> None:
        super().__init__()
        self.token_size = config.token_size
        first, second = config.embed_strides
        half = config.embed_dim // 2
        self.pair1 = ConvPair(config.in_channels, half, first, last=False)
        self.pair2 = ConvPair(half, config.embed_dim, second, last=True)
        self.norm = nn.LayerNorm(config.embed_dim)

    def forward(self, image: Tensor) -> Tensor:
        d, h, w = (-size % token for size, token in zip(image.shape[2:], self.token_size, strict=True))
        if d or h or w:
            image = F.pad(image, (0, w, 0, h, 0, d))
        return self.norm(_to_tokens(self.pair2(self.pair1(image))))


class Down(nn.Module):
    """GELU, LN and a strided convolution that doubles the channels.

    Without padding an odd axis (7 -> 3) is covered exactly; an even one gets one token of padding on the far side, so
    that the last tokens count and `Up` can return to the same grid.
    """

    def __init__(self, dim: int, stride: Triple, padding: Triple) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        kernel: Triple = tuple(3 if s > 1 else 1 for s in stride)  # type: ignore[assignment]
        self.conv = nn.Conv3d(dim, 2 * dim, kernel, stride, padding)
        self.padding = padding
        self.unpadded = tuple(s > 1 and p == 0 for s, p in zip(stride, padding, strict=True))

    def forward(self, tokens: Tensor) -> Tensor:
        volume = _to_conv(self.norm(F.gelu(tokens)))
        d, h, w = (
            max(1 - size % 2, 3 - size) if unpadded else 0
            for size, unpadded in zip(volume.shape[2:], self.unpadded, strict=True)
        )
        if d or h or w:
            volume = F.pad(volume, (0, w, 0, h, 0, d))
        return _to_tokens(strided_conv(volume, self.conv, self.padding))


class Up(nn.Module):
    """LN and a transposed convolution that halves the channels and lands on the grid of the skip connection."""

    def __init__(self, dim: int, stride: Triple) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2 * dim)
        self.stride = stride
        self.conv = nn.ConvTranspose3d(2 * dim, dim, stride, stride)

    def forward(self, tokens: Tensor, grid: Sequence[int]) -> Tensor:
        tokens = self.norm(tokens)
        extra = [max(0, g - n * s) for g, n, s in zip(grid, tokens.shape[1:4], self.stride, strict=True)]
        if any(extra):
            volume = F.conv_transpose3d(_to_conv(tokens), self.conv.weight, self.conv.bias, self.stride, 0, extra)
            return _to_tokens(volume[:, :, : grid[0], : grid[1], : grid[2]])
        parts = expand_tokens(tokens, self.conv).permute(0, 1, 5, 2, 6, 3, 7, 4)
        volume = parts.reshape(len(tokens), *(n * s for n, s in zip(tokens.shape[1:4], self.stride, strict=True)), -1)
        return volume[:, : grid[0], : grid[1], : grid[2]]


class Encoder(nn.Module):
    """Embedding and stages; what pretraining trains and fine-tuning starts from."""

    def __init__(self, config: NnFormerConfig) -> None:
        super().__init__()
        self.embedding = Embedding(config)
        rates = _ramp(config.drop_path, sum(config.depths))
        self.stages = nn.ModuleList()
        self.downs = nn.ModuleList()
        self.norms = nn.ModuleList()
        for stage, (depth, dim) in enumerate(zip(config.depths, config.dims, strict=True)):
            first = sum(config.depths[:stage])
            self.stages.append(
                nn.ModuleList(
                    _block(config, stage, config.heads[stage], rates[first + b], shifted=b % 2 == 1)
                    for b in range(depth)
                )
            )
            self.norms.append(nn.LayerNorm(dim))
            if stage < len(config.depths) - 1:
                self.downs.append(Down(dim, config.down_strides[stage], config.down_paddings[stage]))

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, C, D, H, W) -> normalised tokens of every stage, finest first."""
        return self.encode_tokens(self.embedding(image))

    def encode_tokens(self, tokens: Tensor, first_stage: int = 0) -> list[Tensor]:
        """The stages from `first_stage` on, which masked pretraining enters with mask tokens in place."""
        outputs = []
        for stage in range(first_stage, len(self.stages)):
            tokens = self.run_stage(stage, tokens)
            outputs.append(self.norms[stage](tokens))
            if stage < len(self.downs):
                tokens = self.downs[stage](tokens)
        return outputs

    def run_stage(self, stage: int, tokens: Tensor) -> Tensor:
        """The blocks of one stage, without its norm."""
        for block in self.stages[stage]:  # type: ignore[attr-defined]
            tokens = block(tokens)
        return tokens


class DecoderStage(nn.Module):
    """Up-sampling, one skip-attention block, then self-attention blocks (shifted on odd positions)."""

    def __init__(self, config: NnFormerConfig, stage: int, rates: Sequence[float]) -> None:
        super().__init__()
        heads = config.decoder_heads[stage]
        self.up = Up(config.dims[stage], config.down_strides[stage])
        self.skip_block = _block(config, stage, heads, rates[0], shifted=False, cross=True)
        self.blocks = nn.ModuleList(
            _block(config, stage, heads, rate, shifted=b % 2 == 1) for b, rate in enumerate(rates[1:], start=1)
        )

    def forward(self, tokens: Tensor, skip: Tensor) -> Tensor:
        up = self.up(tokens, skip.shape[1:4])
        stream = self.skip_block(up + skip, skip=skip, up=up)
        for block in self.blocks:
            stream = block(stream)
        return stream


def _block(
    config: NnFormerConfig, stage: int, heads: int, drop_path: float, *, shifted: bool, cross: bool = False
) -> Block:
    attention = WindowAttention(
        config.dims[stage],
        heads,
        config.windows[stage],
        shifted=shifted and not config.global_stages[stage],
        covers_grid=config.global_stages[stage],
        cross=cross,
        mask_padding=config.mask_padding,
        mask_shift=config.mask_shift,
    )
    return Block(attention, config.dims[stage], config.mlp_ratio, drop_path)


class Detail(nn.Module):
    """Logits (B, K, D, H, W) from the finest tokens and the image's own voxels, which tokens blur; not in nnFormer.

    They are added to those of the tokens, and start at 0: a network that gets this head answers as before.
    """

    def __init__(self, config: NnFormerConfig) -> None:
        super().__init__()
        width = config.detail_channels
        self.tokens = nn.ConvTranspose3d(config.dims[0], width, config.token_size, config.token_size)
        self.image = nn.Conv3d(config.in_channels, width, 3, padding=1)
        self.norm1 = nn.LayerNorm(width)
        self.conv = nn.Conv3d(width, width, 3, padding=1)
        self.norm2 = nn.LayerNorm(width)
        self.out = nn.Conv3d(width, config.out_channels, 1)

    def forward(self, tokens: Tensor, image: Tensor) -> Tensor:
        d, h, w = image.shape[2:]
        features = to_voxels(tokens, self.tokens)[:, :, :d, :h, :w] + self.image(image)
        features = _to_conv(_gelu_norm(self.norm1, _to_tokens(features)))
        features = _to_conv(_gelu_norm(self.norm2, _to_tokens(self.conv(features))))
        logits: Tensor = self.out(features)
        return logits

    def start_at_zero(self) -> None:
        nn.init.zeros_(self.out.weight)
        if self.out.bias is not None:
            nn.init.zeros_(self.out.bias)


class NnFormer(nn.Module):
    """The segmentation network. Input (B, C, D, H, W) of any size from one token up; output logits of the same size.

    While training with `deep_supervision`, `forward` returns a list: logits at full size, then at the coarser
    decoder levels, each a factor `down_strides` smaller.
    """

    def __init__(self, config: NnFormerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        depths = config.decoder_depths
        rates = _ramp(config.drop_path, sum(depths))
        self.decoder = nn.ModuleList()  # coarsest first
        used = 0
        for stage in reversed(range(len(depths))):
            self.decoder.append(DecoderStage(config, stage, rates[used : used + depths[stage]]))
            used += depths[stage]
        token = config.token_size
        levels = len(depths) if config.deep_supervision else 1
        self.heads = nn.ModuleList(  # finest first
            nn.ConvTranspose3d(config.dims[stage], config.out_channels, token, token) for stage in range(levels)
        )
        self.detail = Detail(config) if config.detail_channels else None
        self.apply(_initialise)
        if self.detail is not None:
            self.detail.start_at_zero()

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        *skips, tokens = self.encoder(image)
        levels = []
        for stage, skip in zip(self.decoder, reversed(skips), strict=True):
            tokens = stage(tokens, skip)
            levels.append(tokens)
        levels.reverse()
        d, h, w = image.shape[2:]
        full = to_voxels(levels[0], self.heads[0])[:, :, :d, :h, :w]
        if self.detail is not None:
            full = full + self.detail(levels[0], image)
        if not (self.training and self.config.deep_supervision):
            return full
        return [full, *(to_voxels(level, head) for head, level in zip(self.heads[1:], levels[1:], strict=False))]


def _ramp(highest: float, count: int) -> list[float]:
    return [highest * i / max(1, count - 1) for i in range(count)]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv3d):
        # Layer norms follow, so the scale only has to keep early gradients alive.
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
