"""The other networks that nnFormer is compared with, all from MONAI, made for a patch and one of two sizes.

"small" has one to two million parameters, like the preset `small` of nnFormer (SwinUNETR four: MONAI makes none with
fewer than 12 features). "full" has the widths that were published, or MONAI's defaults where these are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import torch.nn.functional as F
from monai.networks.blocks import TransformerBlock
from monai.networks.nets import UNETR, AttentionUnet, DynUNet, SegResNet, SwinUNETR, UNet, VNet
from monai.networks.nets.vnet import DownTransition, InputTransition, OutputTransition, UpTransition
from torch import Tensor, nn

from MAESegmentLib.errors import ConfigurationError

Triple = tuple[int, int, int]

SIZES = ("small", "full")
#: Neither nnU-Net nor this study leaves fewer voxels than this along an axis that it halves.
SHORTEST_AXIS = 4


def build_network(name: str, channels: int, classes: int, patch_size: Sequence[int], size: str) -> nn.Module:
    """(B, `channels`, D, H, W) -> logits (B, `classes`, D, H, W), for any D, H, W up to `patch_size` at least.

    In training, `dynunet` returns a list of such logits, finest first (deep supervision).
    """
    if name not in _BUILDERS:
        raise ConfigurationError(f"No network {name!r}.", f"Networks: {', '.join(NETWORKS)}.")
    if size not in SIZES:
        raise ConfigurationError(f"No network size {size!r}.", f"Sizes: {', '.join(SIZES)}.")
    if len(patch_size) != 3 or min(patch_size) < 1:
        raise ConfigurationError(f"The patch size is {tuple(patch_size)}; three whole numbers are needed.")
    patch = (int(patch_size[0]), int(patch_size[1]), int(patch_size[2]))
    return _BUILDERS[name](channels, classes, patch, size)


class Padded(nn.Module):
    """Pads the image at the far sides with zeros to multiples of `multiple`, or to `shape`; crops the result back."""

    def __init__(self, network: nn.Module, multiple: Triple = (1, 1, 1), shape: Triple | None = None) -> None:
        super().__init__()
        self.network = network
        self.multiple = multiple
        self.shape = shape

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """(B, C, D, H, W) -> (B, K, D, H, W), or a list of them from a deeply supervised network in training."""
        grid = image.shape[2:]
        target = self.shape or [-(-length // step) * step for length, step in zip(grid, self.multiple, strict=True)]
        missing = [wanted - length for wanted, length in zip(target, grid, strict=True)]
        if min(missing) < 0:
            raise ConfigurationError(f"The network was made for {self.shape} voxels; the image has {tuple(grid)}.")
        logits = self.network(F.pad(image, [0, missing[2], 0, missing[1], 0, missing[0]]))
        if logits.ndim == 6:  # MONAI stacks the outputs of deep supervision: (B, outputs, K, D, H, W)
            return [_cropped(output, grid) for output in logits.unbind(1)]
        return _cropped(logits, grid)


def _cropped(logits: Tensor, grid: Sequence[int]) -> Tensor:
    return logits[:, :, : grid[0], : grid[1], : grid[2]]


def strides_and_kernels(patch_size: Triple, most: int) -> tuple[list[Triple], list[Triple]]:
    """Strides of up to `most` halvings of a patch and the kernels of their levels, one more, the first at full size.

    nnU-Net's rule (Nat Methods 18:203) with the patch in the place of the spacing, as it is as long in mm along every
    axis: one that is shorter than half of the longest waits, unstrided and with kernels of 1, until the others are down
    to it; none is made shorter than four voxels.
    """
    grid = list(patch_size)
    strides: list[Triple] = []
    kernels = [_kernel(grid)]
    while len(strides) < most:
        halved = [length >= 2 * SHORTEST_AXIS and 2 * length >= max(grid) for length in grid]
        if not any(halved):
            break
        strides.append((1 + halved[0], 1 + halved[1], 1 + halved[2]))
        grid = [-(-length // stride) for length, stride in zip(grid, strides[-1], strict=True)]
        kernels.append(_kernel(grid))
    if not strides:
        raise ConfigurationError(f"A patch of {patch_size} voxels is too small to be halved along any axis.")
    return strides, kernels


def _kernel(grid: Sequence[int]) -> Triple:
    sizes = [3 if 2 * length >= max(grid) else 1 for length in grid]
    return sizes[0], sizes[1], sizes[2]


def _multiple(strides: Sequence[Triple]) -> Triple:
    return prod(s[0] for s in strides), prod(s[1] for s in strides), prod(s[2] for s in strides)


def _unet(channels: int, classes: int, patch: Triple, size: str) -> nn.Module:
    """Full: the widths of the 3D U-Net (arXiv 1606.06650), in MONAI's residual form with instance norm."""
    strides, _ = strides_and_kernels(patch, 3)
    widths = _widths(16 if size == "small" else 64, strides)
    return Padded(UNet(3, channels, classes, widths, strides, num_res_units=2), _multiple(strides))


def _attention_unet(channels: int, classes: int, patch: Triple, size: str) -> nn.Module:
    """arXiv 1804.03999, with that paper's batch norm."""
    strides, _ = strides_and_kernels(patch, 3)
    widths = _widths(16 if size == "small" else 64, strides)
    return Padded(AttentionUnet(3, channels, classes, widths, strides), _multiple(strides))


def _widths(first: int, strides: Sequence[Triple]) -> list[int]:
    """Doubled at every level."""
    return [first * 2**level for level in range(len(strides) + 1)]


def _vnet(channels: int, classes: int, patch: Triple, size: str) -> nn.Module:  # noqa: ARG001
    """arXiv 1606.04797: four halvings of every axis, kernels of 5, dropout in the deep half."""
    return Padded(NarrowVNet(channels, classes, 3) if size == "small" else VNet(3, channels, classes), (16, 16, 16))


class NarrowVNet(VNet):
    """V-Net, whose width MONAI fixes at 16, with `width` channels at full resolution."""

    def __init__(self, in_channels: int, out_channels: int, width: int) -> None:
        nn.Module.__init__(self)
        act = ("elu", {"inplace": True})
        width = -(-width // in_channels) * in_channels  # the first layer repeats the image's channels
        self.in_tr = InputTransition(3, in_channels, width, act)
        self.down_tr32 = DownTransition(3, width, 1, act)
        self.down_tr64 = DownTransition(3, 2 * width, 2, act)
        self.down_tr128 = DownTransition(3, 4 * width, 3, act, dropout_prob=0.5)
        self.down_tr256 = DownTransition(3, 8 * width, 2, act, dropout_prob=0.5)
        self.up_tr256 = UpTransition(3, 16 * width, 16 * width, 2, act, dropout_prob=(0.5, 0.5))
        self.up_tr128 = UpTransition(3, 16 * width, 8 * width, 2, act, dropout_prob=(0.5, 0.5))
        self.up_tr64 = UpTransition(3, 8 * width, 4 * width, 1, act)
        self.up_tr32 = UpTransition(3, 4 * width, 2 * width, 1, act)
        self.out_tr = OutputTransition(3, 2 * width, out_channels, act)


def _unetr(channels: int, classes: int, patch: Triple, size: str) -> nn.Module:
    """arXiv 2103.10504: a ViT of 12 blocks on patches of 16 voxels; its position code fixes the shape of the image."""
    shape = (-(-patch[0] // 16) * 16, -(-patch[1] // 16) * 16, -(-patch[2] // 16) * 16)
    options = {"feature_size": 8, "hidden_size": 72, "mlp_dim": 288, "num_heads": 3} if size == "small" else {}
    network = UNETR(channels, classes, shape, **options)
    for block in network.modules():
        if isinstance(block, TransformerBlock):  # made by MONAI, used by none of its forward passes here
            block.norm_cross_attn, block.cross_attn = nn.Identity(), nn.Identity()
    return Padded(network, shape=shape)


def _swin_unetr(channels: int, classes: int, patch: Triple, size: str) -> nn.Module:
    """arXiv 2201.01266: every axis must be a multiple of 32, so that small patches are mostly padding."""
    network = SwinUNETR(channels, classes, feature_size=12 if size == "small" else 48)
    # Its instance norms need more than the one voxel that 32 leave in the deepest stage.
    return Padded(network, (32, 32, 32 if max(patch) > 32 else 64))


def _segresnet(channels: int, classes: int, patch: Triple, size: str) -> nn.Module:  # noqa: ARG001
    """arXiv 1810.11654, without the reconstruction branch."""
    filters = 8 if size == "small" else 32
    return Padded(SegResNet(3, filters, channels, classes), (8, 8, 8))


def _dynunet(channels: int, classes: int, patch: Triple, size: str) -> nn.Module:
    """nnU-Net's network with its deep supervision; full: its widths, 32 doubled up to 320, and up to six levels."""
    strides, kernels = strides_and_kernels(patch, 3 if size == "small" else 5)
    first = 16 if size == "small" else 32
    widths = [min(width, 320) for width in _widths(first, strides)]
    supervised = min(2, len(strides) - 1)
    network = DynUNet(
        *(3, channels, classes, kernels, [(1, 1, 1), *strides], strides, widths),
        deep_supervision=supervised > 0,
        deep_supr_num=max(supervised, 1),
    )
    return Padded(network, _multiple(strides))


_BUILDERS: dict[str, Callable[[int, int, Triple, str], nn.Module]] = {
    "unet": _unet,
    "attention-unet": _attention_unet,
    "vnet": _vnet,
    "unetr": _unetr,
    "swin-unetr": _swin_unetr,
    "segresnet": _segresnet,
    "dynunet": _dynunet,
}
#: Arms of the study that this module makes.
NETWORKS = tuple(_BUILDERS)
