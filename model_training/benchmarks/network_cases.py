"""What the networks are timed on: crops, and the networks that compete on each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from MAESegmentLib.device import at_precision
from MAESegmentLib.networks import NnFormer, NnFormerConfig
from MAESegmentLib.networks.official import import_official

from .official_code import official_network
from .official_design import OfficialDesign

OURS, PLAIN, CODE = "ours", "official design", "official code"


@dataclass(frozen=True)
class Case:
    """A preset at a crop. `official` are arguments of the official constructor, or None where its code cannot run."""

    title: str
    preset: str
    crop: tuple[int, int, int]
    batch: int
    changes: dict[str, Any]
    official: dict[str, Any] | None = None
    why_not_official: str = ""

    def config(self) -> NnFormerConfig:
        """As the official code computes: attending to padding; and without chance, so that outputs can be compared."""
        masked: dict[str, Any] = {"mask_padding": False, "mask_shift": self.preset != "acdc", "drop_path": 0.0}
        return NnFormerConfig.preset(self.preset, crop_size=self.crop, **masked, **self.changes)

    def image(self) -> Tensor:
        """Random, (B, C, D, H, W)."""
        return torch.randn(self.batch, self.config().in_channels, *self.crop)


CASES = {
    "hippocampus": Case(
        "hippocampus crop, C = 48, three stages",
        "small",
        (40, 56, 40),
        2,
        {"out_channels": 3, "embed_dim": 48, "heads": (2, 4, 8)},
        why_not_official="it has four stages and cubic windows only",
    ),
    "tumor64": Case(
        "brain tumour network, C = 96, on half of its crop",
        "brats",
        (64, 64, 64),
        2,
        {"windows": (4, 4, 4, 2)},
        official={"crop_size": [64, 64, 64]},
    ),
    "acdc": Case("cardiac network, C = 96", "acdc", (14, 160, 160), 1, {}, official={}),
    "synapse": Case("abdomen network, C = 192", "synapse", (64, 128, 128), 1, {}, official={}),
}


@dataclass(frozen=True)
class Skipped:
    """Why a contender does not run on a case."""

    reason: str


class InFp32(nn.Module):
    """`model` as it computes without autocast."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        with torch.autocast(image.device.type, enabled=False):
            result: Tensor | list[Tensor] = self.model(image)
        return result


class AsSegmented(nn.Module):
    """`model` in mixed precision as the library runs it on the windows of a scan."""

    def __init__(self, model: nn.Module, device: torch.device, precision: str) -> None:
        super().__init__()
        self.model = model
        self.run = at_precision(model, device, precision)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        result: Tensor | list[Tensor] = self.run(image)
        return result


def contenders(case: Case, *, with_official: bool, with_monai: bool = True) -> dict[str, nn.Module | Skipped]:
    """Ours, the official design on the same weights, the official code with the weights that ours were read from, and
    MONAI's at the same crop, channels and batch."""
    config = case.config()
    found: dict[str, nn.Module | Skipped] = {}
    if case.official is None:
        found[CODE] = Skipped(f"the official code cannot make this network: {case.why_not_official}")
    elif not with_official:
        found[CODE] = Skipped("no clone of the official code was given (--official)")
    else:
        found[CODE] = official_network(case.preset, **case.official)
    code = found[CODE]
    if isinstance(code, nn.Module):
        ours = import_official(code.state_dict(), case.preset, crop_size=case.crop, drop_path=0.0)
    else:
        ours = NnFormer(config)
    others = {name: _monai(make, config, case.crop) for name, make in MONAI.items() if with_monai}
    return {OURS: ours, PLAIN: OfficialDesign(ours), **found, **others}


def _swin_unetr(config: NnFormerConfig, crop: tuple[int, int, int]) -> nn.Module:
    if any(size % 32 for size in crop):
        raise ValueError("it needs a crop of multiples of 32 voxels")
    from monai.networks.nets import SwinUNETR

    return SwinUNETR(config.in_channels, config.out_channels, feature_size=48)


def _segresnet(config: NnFormerConfig, crop: tuple[int, int, int]) -> nn.Module:
    if any(size % 8 for size in crop):
        raise ValueError("it needs a crop of multiples of 8 voxels")
    from monai.networks.nets import SegResNet

    return SegResNet(init_filters=32, in_channels=config.in_channels, out_channels=config.out_channels)


#: With the widths of their authors' published models.
MONAI: dict[str, Callable[[NnFormerConfig, tuple[int, int, int]], nn.Module]] = {
    "MONAI SwinUNETR (48)": _swin_unetr,
    "MONAI SegResNet (32)": _segresnet,
}


def _monai(
    make: Callable[[NnFormerConfig, tuple[int, int, int]], nn.Module],
    config: NnFormerConfig,
    crop: tuple[int, int, int],
) -> nn.Module | Skipped:
    try:
        return make(config, crop)
    except (ValueError, ImportError) as error:
        return Skipped(str(error))


def steps(model: nn.Module, image: Tensor, mode: str) -> Callable[[], object]:
    """The function that is timed: "forward" as in inference, or "train", forward and backward."""
    return partial(forward if mode == "forward" else train, model, image)


@torch.no_grad()  # within one autocast, as for the windows of one scan: weights are cast once, by all contenders
def forward(model: nn.Module, image: Tensor) -> Tensor:
    output: Tensor = model.eval()(image)
    if output.is_cuda:
        torch.cuda.synchronize()  # it had only been asked for, not computed
    return output


def train(model: nn.Module, image: Tensor) -> float:
    """A loss that every output has a share in, its gradients made and thrown away."""
    loss = outputs_loss(model.train()(image))
    loss.backward()
    model.zero_grad(set_to_none=True)
    torch.clear_autocast_cache()  # the optimiser would have changed the weights, which are then cast again
    return float(loss.detach())


def outputs_loss(outputs: Tensor | list[Tensor]) -> Tensor:
    levels = [outputs] if isinstance(outputs, Tensor) else outputs
    return torch.stack([level.float().square().mean() for level in levels]).sum()


def difference(reference: nn.Module, other: nn.Module, image: Tensor) -> tuple[float, float]:
    """Largest difference of the logits and of the gradient of the input, each as a share of its standard deviation."""
    logits = [forward(model, image).float() for model in (reference, other)]
    gradients = []
    for model in (reference, other):
        leaf = image.clone().requires_grad_()
        outputs_loss(model.train()(leaf)).backward()
        model.zero_grad(set_to_none=True)
        assert leaf.grad is not None
        gradients.append(leaf.grad)
    return _relative(*logits), _relative(*gradients)


def _relative(expected: Tensor, found: Tensor) -> float:
    return float((expected - found).abs().max() / expected.std())
