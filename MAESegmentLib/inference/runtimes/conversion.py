"""From a model's network to what OpenVINO runs."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ...bundle import Bundle
from ...errors import DeviceError
from . import converted as conversions
from .converted import Converted
from .openvino_runtime import OpenVinoRuntime, load_openvino

#: Largest difference of fp32 scores, as a share of the largest score, that is still rounding.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Conversion:
    """A converted network, where it is kept, and how far its scores are from torch's as a share of the largest."""

    converted: Converted
    file: Path
    difference: float


@torch.inference_mode(False)  # whoever calls may be in it, where nothing is exported
def prepare(bundle: Bundle, file: Path | None = None) -> Conversion:
    """Convert a model and keep that, among the user's or in `file`; `DeviceError` if OpenVINO then computes something
    else, and nothing is kept."""
    network = bundle.load_network()
    sample = torch.randn(
        (1, len(bundle.channels), *bundle.spec.preprocessing.patch_size), generator=torch.Generator().manual_seed(0)
    )
    converted = convert(network, sample)
    difference = _difference(network, converted, sample)
    if not difference <= _ROUNDING:
        raise DeviceError(
            f"OpenVINO computes other scores than PyTorch for {bundle.name} {bundle.version}: they differ by "
            f"{difference:.1g} of the largest.",
            "Segment with the runtime torch, and report this.",
        )
    return Conversion(converted, conversions.store(bundle, converted, file), difference)


def convert(network: nn.Module, sample: torch.Tensor) -> Converted:
    """The network for windows of the size of `sample` (1, C, d, h, w): its scores, then its encoder's tokens."""
    openvino = load_openvino()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # about the inside of both packages
        program: Any = torch.export.export(_WithTokens(network).eval(), (sample,), strict=False)
        model = openvino.convert_model(program)
    model.reshape(list(sample.shape))
    with tempfile.TemporaryDirectory() as folder:
        description = Path(folder, "network.xml")
        openvino.save_model(model, description, compress_to_fp16=False)
        return Converted(description.read_bytes(), description.with_suffix(".bin").read_bytes())


class _WithTokens(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, windows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        tokens: list[torch.Tensor] = []
        encoder: Any = self.network.encoder
        hook = encoder.register_forward_hook(lambda _module, _inputs, stages: tokens.extend(stages))
        try:
            return self.network(windows), *tokens
        finally:
            hook.remove()


def _difference(network: nn.Module, converted: Converted, sample: torch.Tensor) -> float:
    with torch.inference_mode():
        expected = network(sample).numpy()
    found = OpenVinoRuntime(converted, "fp32").network_on(sample.device, "fp32")(sample.numpy())
    return float(np.abs(found - expected).max() / np.abs(expected).max())
