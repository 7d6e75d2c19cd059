"""What Swin UNETR was pretrained with (arXiv 2111.14791): what is missing, how it was turned, whose it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from MAESegmentLib.errors import ConfigurationError
from MAESegmentLib.networks import NnFormerConfig
from MAESegmentLib.networks.nnformer import Encoder, _initialise

from .contrastive import nt_xent, with_batch_size
from .corruptions import boxes_of_share, draw_whole
from .deepest import DeepestHead, pooled
from .task import PretextTask, Pretraining

TURNS = 4
#: Views of each patch, as published.
VIEWS = 2
#: Voxel sizes further apart than this make a quarter turn recognisable by its distortion.
_SAME_SPACING = 0.02


@dataclass(frozen=True)
class SwinSettings:
    """`hidden` is the share of a view that is cut out. The three losses count alike, as published."""

    batch_size: int | None = None
    hidden: float = 0.3
    temperature: float = 0.5
    projection: int = 512

    def __post_init__(self) -> None:
        if not 0 < self.hidden < 1 or self.temperature <= 0:
            raise ConfigurationError("The hidden share lies between 0 and 1, the temperature is above 0.")


SWIN_OPTIONS = tuple(f.name for f in fields(SwinSettings))


@dataclass(frozen=True)
class Turns:
    """Four ways to turn a patch that leave its size: quarter turns in `plane`, or half turns about each axis."""

    plane: tuple[int, int] | None

    @classmethod
    def of(cls, patch_size: Sequence[int], spacings: Sequence[Sequence[float]]) -> Turns:
        """Quarter turns in the first plane of equal patch edges and equal voxel sizes in all cases, if there is one."""
        for plane in ((1, 2), (0, 2), (0, 1)):
            first, second = np.asarray([[mm[axis] for axis in plane] for mm in spacings]).T
            if patch_size[plane[0]] == patch_size[plane[1]] and np.allclose(first, second, rtol=_SAME_SPACING):
                return cls(plane)
        return cls(None)

    def __call__(self, image: Tensor, number: int) -> Tensor:
        """(C, D, H, W) turned in way `number`, 0 to 3; 0 leaves it as it is."""
        if self.plane is not None:
            return torch.rot90(image, number, [1 + axis for axis in self.plane])
        if number == 0:
            return image
        return image.flip([1 + axis for axis in range(3) if axis != number - 1])


class SwinHeads(nn.Module):
    """Encoder and one head a question."""

    def __init__(self, config: NnFormerConfig, projection: int) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.rotation = nn.Linear(config.dims[-1], TURNS)
        self.contrast = nn.Linear(config.dims[-1], projection)
        self.apply(_initialise)
        self.inpainting = DeepestHead(config)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, C, D, H, W) -> restored image of that shape, logits (B, 4), embeddings (B, projection)."""
        tokens = self.encoder(image)[-1]
        features = pooled(tokens)
        size = (image.shape[2], image.shape[3], image.shape[4])
        return self.inpainting(tokens, size), self.rotation(features), self.contrast(features)


class SwinTask(PretextTask):
    """L1 of the restored view + cross entropy of its turn + NT-Xent of two views; weak contrast, as SimCLR's here.

    Different from the paper: the mean of the deepest tokens is read instead of one token; what is cut out is 0, the
    mean grey value; half turns about the three axes where no plane of the patch allows quarter turns.
    """

    def __init__(self, what: Pretraining) -> None:
        self._options = SwinSettings(**what.options)
        what = with_batch_size(what, self._options.batch_size)
        if what.settings.batch_size < 2:
            raise ConfigurationError("The contrast needs at least 2 patches a step: others to tell a view from.")
        self.turns = Turns.of(what.patch_size, [case.spacing for case in what.training])
        super().__init__(SwinHeads(what.autoencoder.encoder, self._options.projection), what)

    def question(self, model: nn.Module, image: Tensor, generator: torch.Generator) -> Tensor:
        numbers = [draw_whole(generator, 0, TURNS - 1) for _ in range(VIEWS * len(image))]
        turned = torch.stack([self.turns(image[n // VIEWS], number) for n, number in enumerate(numbers)])
        size, share = image.shape[2:], self._options.hidden
        hidden = torch.stack([boxes_of_share(size, (1 / 6, 1 / 3), share, generator) for _ in numbers])
        restored, logits, embeddings = model(turned.masked_fill(hidden[:, None].to(image.device), 0.0))
        return (
            F.l1_loss(restored.float(), turned)
            + F.cross_entropy(logits.float(), torch.tensor(numbers, device=image.device))
            + nt_xent(embeddings, VIEWS, self._options.temperature)
        )
