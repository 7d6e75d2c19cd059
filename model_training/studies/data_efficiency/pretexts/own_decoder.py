"""A masked autoencoder whose decoder is nnFormer's own, so that fine-tuning can take over both halves."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from MAESegmentLib.networks import MaeConfig, MaskedAutoencoder, NnFormer
from MAESegmentLib.networks.nnformer import _initialise, _to_conv


class NnFormerAutoencoder(MaskedAutoencoder):
    """`encoder` and `decoder` have the keys of `NnFormer`; the head that paints voxels is this model's own.

    A skip connection would let the decoder copy what the encoder made of its mask tokens, stage by stage, before any
    global attention; so the tokens of masked cells are replaced in every skip by one learned token of that stage.
    Unlike the light decoder of MAE (arXiv 2111.06377) this one is as deep as in segmentation; SparK (arXiv 2301.03580)
    densifies its skips in the same way.
    """

    def __init__(self, config: MaeConfig) -> None:
        super().__init__(config)
        encoder = config.encoder
        self.decoder = NnFormer(replace(encoder, deep_supervision=False)).decoder
        self.skip_tokens = nn.ParameterList(torch.zeros(dim) for dim in encoder.dims[:-1])
        self.reconstruction = nn.ConvTranspose3d(
            encoder.embed_dim, encoder.in_channels, encoder.token_size, encoder.token_size
        )
        self.reconstruction.apply(_initialise)
        for token in self.skip_tokens:
            nn.init.trunc_normal_(token, std=0.02)

    def predict(self, padded: Tensor, mask: Tensor) -> Tensor:
        """Prediction for every voxel of an image of whole units."""
        *skips, tokens = self.encode(padded, mask)
        densified = self._densify(skips, mask)
        assert isinstance(self.decoder, nn.ModuleList)
        for stage, skip in zip(self.decoder, reversed(densified), strict=True):
            tokens = stage(tokens, skip)
        return self.reconstruction(_to_conv(tokens))

    def _densify(self, skips: list[Tensor], mask: Tensor) -> list[Tensor]:
        """A cell of a stage is masked where no visible token of stage 0 lies in it."""
        d, h, w = skips[0].shape[1:4]
        visible = (~self.masked_tokens(mask, (d, h, w))).permute(0, 4, 1, 2, 3).to(torch.float32)
        densified = []
        for skip, token in zip(skips, self.skip_tokens, strict=True):
            cells = F.adaptive_max_pool3d(visible, tuple(skip.shape[1:4])).permute(0, 2, 3, 4, 1).bool()
            densified.append(torch.where(cells, skip, token.to(skip.dtype)))
        return densified
