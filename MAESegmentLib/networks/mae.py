"""Masked autoencoder (arXiv 2111.06377) around the nnFormer encoder.

mask -> encode visible -> decode -> loss on masked voxels. Windows, shifts and strided convolutions need a dense grid,
so masked units stay in it: their voxels are zeroed before the convolutional stem, which would otherwise leak them into
visible tokens, and their tokens are replaced by one learned mask token after it. `visible.py` saves their cost instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Block, WindowAttention
from .config import MaeConfig, Triple
from .cpu_kernels import to_voxels
from .masking import expand_mask, join_units, pad_to_units, random_unit_mask, split_units, unit_grid
from .nnformer import Encoder, _initialise, _to_conv, _to_tokens
from .visible import VisibleEncoding

#: Keeps the standardisation of a constant unit finite (He et al. use 1e-6 on 8-bit images; ours are z-scores).
_VARIANCE_FLOOR = 1e-4


@dataclass(frozen=True)
class MaeOutput:
    """`loss`: mean square over masked voxels; `prediction` (B, C, D, H, W); `mask` (B, 1, D, H, W), 1 = masked."""

    loss: Tensor
    prediction: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Reconstruction:
    """The three images of the paper's figure 1, each (B, C, D, H, W); `reconstructed` keeps the visible voxels."""

    original: Tensor
    masked: Tensor
    reconstructed: Tensor
    mask: Tensor


class LightDecoder(nn.Module):
    """All encoder stages, projected and up-sampled to the token grid, through a few local blocks, to voxels.

    It has no skip connection of its own: visible content reaches a masked unit only through attention.
    """

    def __init__(self, config: MaeConfig) -> None:
        super().__init__()
        encoder, dim = config.encoder, config.decoder_dim
        self.projections = nn.ModuleList(nn.Linear(width, dim) for width in encoder.dims)
        self.blocks = nn.ModuleList(
            Block(self._attention(config, shifted=b % 2 == 1), dim, mlp_ratio=2.0, drop_path=0.0)
            for b in range(config.decoder_depth)
        )
        self.norm = nn.LayerNorm(dim)
        self.head = nn.ConvTranspose3d(dim, encoder.in_channels, encoder.token_size, encoder.token_size)

    @staticmethod
    def _attention(config: MaeConfig, *, shifted: bool) -> WindowAttention:
        return WindowAttention(
            config.decoder_dim,
            config.decoder_heads,
            config.encoder.windows[0],
            shifted=shifted,
            covers_grid=False,
            cross=False,
            mask_padding=True,
            mask_shift=True,
        )

    def forward(self, stages: list[Tensor]) -> Tensor:  # tokens of each stage -> (B, C, D, H, W)
        grid = stages[0].shape[1:4]
        tokens = self.projections[0](stages[0])
        for projection, stage in zip(list(self.projections)[1:], stages[1:], strict=True):
            coarse = F.interpolate(_to_conv(projection(stage)), size=grid, mode="trilinear", align_corners=False)
            tokens = tokens + _to_tokens(coarse)
        for block in self.blocks:
            tokens = block(tokens)
        return to_voxels(self.norm(tokens), self.head)


class MaskedAutoencoder(nn.Module):
    """Pretraining network: `encoder` is the nnFormer encoder that fine-tuning takes over."""

    def __init__(self, config: MaeConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.encoder)
        self.mask_token = nn.Parameter(torch.zeros(config.encoder.embed_dim)) if config.encoding == "dense" else None
        self.decoder: nn.Module = LightDecoder(config)
        self.apply(_initialise)
        if self.mask_token is not None:
            nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.visible = VisibleEncoding(config) if config.encoding == "visible" else None

    def forward(
        self, image: Tensor, mask: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> MaeOutput:
        """image (B, C, D, H, W), z-scored intensities; `mask` (B, 1, units) or None to draw one with `generator`."""
        size: Triple = (image.shape[2], image.shape[3], image.shape[4])
        unit = self.config.unit
        if mask is None:
            mask = self.draw_mask(image.shape, generator).to(image.device)
        padded = pad_to_units(image, unit)
        prediction = self.predict(padded, mask)
        return self._loss(padded, prediction.float(), mask, size)

    def draw_mask(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """A random mask (B, 1, units) on the CPU for images of `shape` (B, C, D, H, W)."""
        batch, _, d, h, w = shape
        grid = unit_grid((d, h, w), self.config.unit)
        return random_unit_mask(batch, grid, self.config.ratio_range, torch.device("cpu"), generator)

    def predict(self, padded: Tensor, mask: Tensor) -> Tensor:
        """Prediction for every voxel of an image of whole units; masked voxels of the input have no influence."""
        return self.decoder(self.encode(padded, mask))

    def encode(self, padded: Tensor, mask: Tensor) -> list[Tensor]:
        """Normalised tokens of every stage, finest first, of the visible units of an image of whole units."""
        if self.visible is not None:
            return self.visible(self.encoder, padded, mask)
        size: Triple = (padded.shape[2], padded.shape[3], padded.shape[4])
        visible = padded * (1 - expand_mask(mask, self.config.unit, size))
        tokens = self.encoder.embedding(visible)
        masked = self.masked_tokens(mask, (tokens.shape[1], tokens.shape[2], tokens.shape[3]))
        assert self.mask_token is not None
        tokens = torch.where(masked, self.mask_token.to(tokens.dtype), tokens)
        return self.encoder.encode_tokens(tokens)

    def masked_tokens(self, mask: Tensor, grid: Triple) -> Tensor:
        """(B, 1, units) -> bool (B, *grid, 1), which tokens of stage 0 lie in a masked unit."""
        token_size = self.config.encoder.token_size
        per_unit: Triple = tuple(u // t for u, t in zip(self.config.unit, token_size, strict=True))  # type: ignore[assignment]
        return expand_mask(mask, per_unit, grid).permute(0, 2, 3, 4, 1).bool()

    def _loss(self, padded: Tensor, prediction: Tensor, mask: Tensor, size: Triple) -> MaeOutput:
        unit = self.config.unit
        padded_size: Triple = (padded.shape[2], padded.shape[3], padded.shape[4])
        target = padded.float()
        if self.config.normalise_target:
            mean, scale = self._unit_statistics(target)
            target = join_units((split_units(target, unit) - mean) / scale, unit, padded_size)
        voxel_mask = expand_mask(mask, unit, padded_size)
        real = torch.zeros_like(voxel_mask)
        real[:, :, : size[0], : size[1], : size[2]] = 1
        weight = voxel_mask * real
        error = self.distance(prediction, target).mean(dim=1, keepdim=True) * weight
        loss = error.sum() / weight.sum().clamp(min=1)
        d, h, w = size
        return MaeOutput(loss, prediction[:, :, :d, :h, :w], voxel_mask[:, :, :d, :h, :w])

    def distance(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Of each voxel; what the loss averages."""
        return (prediction - target).square()

    def _unit_statistics(self, padded: Tensor) -> tuple[Tensor, Tensor]:
        units = split_units(padded, self.config.unit)
        return units.mean(-1, keepdim=True), (units.var(-1, keepdim=True) + _VARIANCE_FLOOR).sqrt()

    @torch.no_grad()
    def reconstruct(
        self, image: Tensor, mask: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Reconstruction:
        """image (B, C, D, H, W) -> original, masked and reconstructed image, in the input's intensities."""
        output = self(image, mask, generator=generator)
        prediction = output.prediction
        if self.config.normalise_target:
            padded = pad_to_units(image.float(), self.config.unit)
            size: Triple = (padded.shape[2], padded.shape[3], padded.shape[4])
            mean, scale = self._unit_statistics(padded)
            units = split_units(pad_to_units(prediction, self.config.unit), self.config.unit) * scale + mean
            d, h, w = image.shape[2:]
            prediction = join_units(units, self.config.unit, size)[:, :, :d, :h, :w]
        visible = image * (1 - output.mask)
        return Reconstruction(image, visible, visible + prediction.to(image.dtype) * output.mask, output.mask)
