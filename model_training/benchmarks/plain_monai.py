"""The plain MONAI pipeline that whole-volume segmentation is measured against: public transforms, nothing of ours.

Load, orient, scale intensities, resample, slide windows with Gaussian weights, softmax, bring the probabilities back to
the scan's grid, take the largest, save. Only the network is the library's.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.inferers import sliding_window_inference
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    Invertd,
    LoadImaged,
    Orientationd,
    Resized,
    SaveImage,
    ScaleIntensityRanged,
    Spacingd,
)
from torch import nn

from MAESegmentLib.device import autocast
from MAESegmentLib.inference.segmenter import GPU_BATCH
from MAESegmentLib.preprocessing.grid import resize
from MAESegmentLib.preprocessing.plan import Preprocessing

from .stages import Stages

#: How the scan gets to the network's voxel size. "spacing" is what MONAI's model zoo does. "grid" resizes to the grid
#: that the library uses, which covers the scan's extent with whole voxels. "same input" is "grid" with the library's
#: anti-aliasing, so that outputs may be compared voxel by voxel: it resamples twice and is not for timing.
RESAMPLINGS = ("spacing", "grid", "same input")


class PlainPipeline:
    """`run(scan, output)` writes a label map; `stages` has the seconds of each part of the last run."""

    def __init__(
        self,
        network: nn.Module,
        preprocessing: Preprocessing,
        *,
        resampling: str,
        grid: Sequence[int],
        overlap: float,
        device: str = "cpu",
        precision: str = "fp32",
    ) -> None:
        """`grid` is the shape (D, H, W) that is resized to; intensities are those of the "ct" recipe."""
        self.stages = Stages(device)
        self._device, self._precision = torch.device(device), precision
        self._network = self.stages.timed(network.to(self._device))
        self._patch = preprocessing.patch_size
        self._overlap = overlap
        recipe = preprocessing.intensity
        low, high = ((bound - recipe.mean) / recipe.std for bound in (recipe.lower, recipe.upper))
        shape = tuple(grid)
        resample = {
            "spacing": Spacingd("image", pixdim=preprocessing.spacing, mode="bilinear"),
            "grid": Resized("image", spatial_size=shape, mode="trilinear", align_corners=False),
            "same input": _AntiAliased("image", spatial_size=shape, mode="trilinear", align_corners=False),
        }[resampling]
        self._load = Compose([LoadImaged("image"), EnsureChannelFirstd("image")])
        self._prepare = Compose(
            [
                Orientationd("image", axcodes=preprocessing.orientation, labels=None),
                ScaleIntensityRanged("image", recipe.lower, recipe.upper, low, high, clip=True),
                resample,
            ]
        )
        self._restore = Invertd("pred", transform=self._prepare, orig_keys="image", nearest_interp=False)

    @torch.inference_mode()
    def run(self, scan: Path, output: Path) -> None:
        """`output` ends in .nii.gz; its folder exists."""
        self.stages.start()
        data: dict[str, Any] = self._load({"image": str(scan)})
        self.stages.lap("load")
        data = self._prepare(data)
        self.stages.lap("prepare")
        with autocast(self._device, self._precision):
            logits = sliding_window_inference(
                data["image"][None].to(self._device),
                self._patch,
                1 if self._device.type == "cpu" else GPU_BATCH,
                self._network,
                overlap=self._overlap,
                mode="gaussian",
                sigma_scale=0.125,
            )
        data["pred"] = logits[0].float().softmax(dim=0)
        labels = self._restore(data)["pred"].argmax(dim=0, keepdim=True)
        self.stages.lap("blend and restore")
        save = SaveImage(output_postfix="", output_dtype="uint8", resample=False, print_log=False)
        save(labels, filename=str(output).removesuffix(".nii.gz"))
        self.stages.lap("write")


class _AntiAliased(Resized):
    """MONAI's resizing, its result replaced by the library's; inverted as MONAI inverts its own."""

    def __call__(self, data: Mapping[Hashable, torch.Tensor], lazy: bool | None = None) -> dict[Hashable, torch.Tensor]:
        image = data["image"]
        result = super().__call__(data, lazy)
        d, h, w = (int(n) for n in result["image"].shape[1:])
        resized = resize(image[0].as_subclass(torch.Tensor).numpy(), (d, h, w))
        result["image"].set_(torch.from_numpy(resized)[None].contiguous())
        return result
