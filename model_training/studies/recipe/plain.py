"""The plain MONAI loop that a user would write, within a budget of processor seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset, DataLoader
from monai.inferers import sliding_window_inference
from monai.losses import DiceCELoss
from monai.networks.nets import DynUNet, SegResNet
from monai.transforms import (
    Compose,
    CropForegroundd,
    EnsureChannelFirstd,
    EnsureTyped,
    LoadImaged,
    NormalizeIntensityd,
    Orientationd,
    RandAdjustContrastd,
    RandAffined,
    RandCropByPosNegLabeld,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
    RandShiftIntensityd,
    ScaleIntensityRanged,
    Spacingd,
    SpatialPadd,
)
from monai.utils import set_determinism
from scipy.ndimage import affine_transform
from torch import Tensor, nn

from MAESegmentLib.bundle import Bundle
from MAESegmentLib.cases.case import Case
from MAESegmentLib.images.reading import read_volume
from MAESegmentLib.images.volume import LabelMap
from MAESegmentLib.networks import NnFormer, transfer_matching

_WARMUP = 0.05


@dataclass(frozen=True)
class PlainLoop:
    """Spacing in mm and patch in voxels, in the order RAS; `classes` counts the background.

    Grey values are clipped to `window` and normalised over the image; without one, over what is not zero.
    """

    spacing: tuple[float, float, float]
    patch: tuple[int, int, int]
    classes: int
    seed: int
    overlap: float = 0.25
    window: tuple[float, float] | None = None

    def train(self, network: str, base: Bundle, cases: Sequence[Case], budget: float) -> tuple[nn.Module, int, float]:
        """The network after `budget` processor seconds of steps, how many these were, and the seconds."""
        set_determinism(self.seed)
        loader = DataLoader(self._patches(cases), batch_size=1, shuffle=True, num_workers=0)
        model = _network(network, base, self.classes)
        peak = 2e-3 if network == "nnformer" else 1e-3
        optimiser = torch.optim.AdamW(model.parameters(), peak, weight_decay=1e-5)
        loss_of = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
        model.train()
        started, steps = time.process_time(), 0
        for batch in _endless(loader):
            done = (time.process_time() - started) / budget
            if done >= 1:
                break
            for group in optimiser.param_groups:
                group["lr"] = peak * min(1.0, done / _WARMUP + 0.01) * (1 - done) ** 0.9
            with torch.autocast("cpu", dtype=torch.bfloat16):
                scores = model(batch["image"].as_tensor())
            loss = loss_of(scores.float(), batch["label"].as_tensor())
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 12)
            optimiser.step()
            steps += 1
        return model.eval(), steps, time.process_time() - started

    @torch.no_grad()
    def segment(self, model: nn.Module, case: Case) -> LabelMap:
        """Labels 0, 1, ... on the image's own grid, from class probabilities interpolated there."""
        image = self._load(("image",))({"image": str(case.image[0])})["image"]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            scores = sliding_window_inference(
                image[None].as_tensor(), self.patch, 2, model, overlap=self.overlap, mode="gaussian"
            )
        probabilities = torch.softmax(torch.as_tensor(scores)[0].float(), 0).numpy()
        grid = read_volume(case.image[0]).grid
        mapping = np.linalg.inv(np.asarray(image.affine, float)) @ grid.ijk_to_ras
        restored = [
            affine_transform(
                share, mapping[:3, :3], mapping[:3, 3], grid.shape, order=1, cval=1.0 if number == 0 else 0.0
            )
            for number, share in enumerate(probabilities)
        ]
        return LabelMap(np.argmax(np.stack(restored), axis=0).astype(np.uint8), grid.ijk_to_ras)

    def _load(self, keys: tuple[str, ...]) -> Compose:
        modes = ("bilinear", "nearest")[: len(keys)]
        clipped = [ScaleIntensityRanged("image", *self.window, *self.window, clip=True)] if self.window else []
        return Compose(
            [
                LoadImaged(keys),
                EnsureChannelFirstd(keys),
                Orientationd(keys, "RAS", labels=None),
                Spacingd(keys, self.spacing, mode=modes),
                CropForegroundd(keys, source_key="image", select_fn=_above_least, allow_smaller=True),
                *clipped,
                NormalizeIntensityd("image", nonzero=self.window is None),
                EnsureTyped(keys),
            ]
        )

    def _patches(self, cases: Sequence[Case]) -> CacheDataset:
        keys = ("image", "label")
        steps: list[Any] = [
            *self._load(keys).transforms,
            SpatialPadd(keys, self.patch),
            RandCropByPosNegLabeld(keys, "label", self.patch, pos=1, neg=1, num_samples=2),
            RandAffined(
                keys,
                prob=0.3,
                rotate_range=(0.3, 0.3, 0.3),
                scale_range=(0.2, 0.2, 0.2),
                mode=("bilinear", "nearest"),
                padding_mode="border",
            ),
            RandGaussianNoised("image", prob=0.15, std=0.1),
            RandGaussianSmoothd("image", (0.5, 1), (0.5, 1), (0.5, 1), prob=0.2),
            RandScaleIntensityd("image", 0.3, prob=0.15),
            RandShiftIntensityd("image", 0.1, prob=0.15),
            RandAdjustContrastd("image", prob=0.3, gamma=(0.7, 1.5)),
        ]
        files = [{"image": str(case.image[0]), "label": str(case.label)} for case in cases]
        return CacheDataset(files, Compose(steps), progress=False)


def _above_least(image: Tensor) -> Tensor:
    return image > image.min()


def _endless(loader: DataLoader) -> Iterator[dict[str, Any]]:
    while True:
        yield from loader


class _Finest(nn.Module):
    """Only the finest of a deeply supervised network's outputs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        scores = self.network(image)
        finest: Tensor = scores[0] if isinstance(scores, (list, tuple)) else scores
        return finest


def _network(name: str, base: Bundle, classes: int) -> nn.Module:
    if name == "segresnet":
        return SegResNet(3, 16, 1, classes)
    if name == "dynunet":
        return DynUNet(3, 1, classes, [3] * 4, [1, 2, 2, 2], [2] * 3, filters=[16, 32, 64, 128])
    start = base.load_network()
    network = NnFormer(replace(start.config, out_channels=classes))
    transfer_matching(start.state_dict(), network, fresh=("heads.",))
    return _Finest(network)
