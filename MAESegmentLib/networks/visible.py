"""Encoding only what is visible (as GreenMIM, arXiv 2205.13515): masked units cost nothing until stages join units.

The visible units of all images are packed as a batch of small grids. Embedding and early stages see one unit each, so
no convolution or window reaches across its border; then the units return to their places, masked ones hold a learned
token, and the remaining stages run on the whole grid.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .config import MaeConfig
from .masking import split_units
from .nnformer import Encoder


class VisibleEncoding(nn.Module):
    """How a `MaskedAutoencoder` with `encoding="visible"` enters its encoder; holds the tokens of masked cells."""

    def __init__(self, config: MaeConfig) -> None:
        super().__init__()
        self.unit = config.unit
        self.packed_stages = config.packed_stages
        #: One for the output of each packed stage, and one for the input of the first that joins units.
        self.tokens = nn.ParameterList(torch.zeros(dim) for dim in config.encoder.dims[: self.packed_stages + 1])
        for token in self.tokens:
            nn.init.trunc_normal_(token, std=0.02)

    def forward(self, encoder: Encoder, padded: Tensor, mask: Tensor) -> list[Tensor]:
        """(B, C, D, H, W) of whole units and (B, 1, units), 1 = masked -> normalised tokens of every stage."""
        visible = ~mask.bool()[:, 0]
        units = split_units(padded.contiguous(), self.unit).transpose(1, 2)[
            visible.flatten(1)
        ]  # (visible units, C, voxels)
        tokens = encoder.embedding(units.unflatten(2, self.unit))
        stages = []
        for stage in range(self.packed_stages):
            tokens = encoder.run_stage(stage, tokens)
            stages.append(unpack(encoder.norms[stage](tokens), visible, self.tokens[stage]))
            tokens = encoder.downs[stage](tokens)
        tokens = unpack(tokens, visible, self.tokens[self.packed_stages])
        return [*stages, *encoder.encode_tokens(tokens, first_stage=self.packed_stages)]


def unpack(packed: Tensor, visible: Tensor, token: Tensor) -> Tensor:
    """(visible units, d, h, w, C) -> (B, units * (d, h, w), C), each unit at its place, `token` in the others.

    `visible` is bool (B, units d, h, w).
    """
    batch, *grid = visible.shape
    inner, channels = packed.shape[1:4], packed.shape[-1]
    cells = token.to(packed.dtype).expand(*visible.shape, *inner, channels).clone()
    cells[visible] = packed
    size = [units * cell for units, cell in zip(grid, inner, strict=True)]
    return cells.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(batch, *size, channels)
