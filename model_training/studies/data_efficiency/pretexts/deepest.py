"""What is read off the encoder's deepest stage."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from MAESegmentLib.networks import NnFormerConfig
from MAESegmentLib.networks.nnformer import _to_conv


class DeepestHead(nn.Module):
    """One transposed convolution from the deepest tokens to voxels, kernel = stride = all strides of the encoder.

    It is the same linear map as a 1x1x1 convolution and a pixel shuffle.
    """

    def __init__(self, config: NnFormerConfig) -> None:
        super().__init__()
        strides = np.prod([config.token_size, *config.down_strides], axis=0)
        stride = (int(strides[0]), int(strides[1]), int(strides[2]))
        self.conv = nn.ConvTranspose3d(config.dims[-1], config.in_channels, stride, stride)

    def forward(self, tokens: Tensor, size: tuple[int, int, int]) -> Tensor:  # (B, d, h, w, dim) -> (B, C, *size)
        volume = self.conv(_to_conv(tokens))
        # An unpadded convolution on the way down drops the last cells; the nearest ones speak for them.
        d, h, w = (max(0, s - n) for s, n in zip(size, volume.shape[2:], strict=True))
        if d or h or w:
            volume = F.pad(volume, (0, w, 0, h, 0, d), mode="replicate")
        return volume[:, :, : size[0], : size[1], : size[2]]


def pooled(tokens: Tensor) -> Tensor:
    """(B, d, h, w, dim) -> (B, dim), the mean over the grid."""
    return tokens.mean(dim=(1, 2, 3))
