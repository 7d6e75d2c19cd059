"""Telling how much of another image was mixed in (Volume Fusion, arXiv 2306.16925), as a segmentation by nnFormer."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from MAESegmentLib.networks import NnFormer
from MAESegmentLib.training.tasks.losses import SegmentationLoss

from .corruptions import boxes, draw_whole
from .task import PretextTask, Pretraining


@dataclass(frozen=True)
class Fusing:
    """Boxes of another patch are mixed in with weights 1/`levels`, 2/`levels`, ... 1; later boxes win."""

    levels: int = 4
    fewest: int = 10
    most: int = 40
    #: Edges of a box, as parts of the patch's.
    edges: tuple[float, float] = (0.1, 0.4)

    def classes(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """(D, H, W), from 0 (nothing of the other) to `levels` (the other alone)."""
        found = torch.zeros(shape, dtype=torch.long)
        for _ in range(draw_whole(generator, self.fewest, self.most)):
            found[boxes(shape, self.edges, 1, generator)] = draw_whole(generator, 1, self.levels)
        return found


class FusionTask(PretextTask):
    """Dice and cross-entropy of the weight of every voxel; each patch is mixed with the next of its batch.

    Different from the paper: a plain nnFormer, no deep supervision, and two images of a batch in the place of two
    parts of one scan.
    """

    def __init__(self, what: Pretraining) -> None:
        self._fusing = Fusing(**what.options)
        network = replace(what.autoencoder.encoder, out_channels=self._fusing.levels + 1, deep_supervision=False)
        super().__init__(NnFormer(network), what)
        self._segmentation = SegmentationLoss()

    def question(self, model: nn.Module, image: Tensor, generator: torch.Generator) -> Tensor:
        drawn = [self._fusing.classes(one.shape[1:], generator) for one in image]
        classes = torch.stack(drawn)[:, None].to(image.device)
        weight = classes / self._fusing.levels
        loss: Tensor = self._segmentation(model(torch.lerp(image, image.roll(1, 0), weight)), classes)
        return loss


FUSION_OPTIONS = tuple(f.name for f in fields(Fusing))
