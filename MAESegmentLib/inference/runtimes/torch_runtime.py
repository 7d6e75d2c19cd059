"""What a runtime is, and the one that is always there."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn

from ...device import at_precision
from ..settings import TORCH
from ..windows import Network


class Runtime(Protocol):
    """Runs one network; `name` is that of the choice in `InferenceSettings`."""

    name: str

    def network_on(self, device: torch.device, precision: str) -> Network:
        """Patch windows in, class scores out, which nothing that runs later changes."""
        ...


class TorchRuntime:
    """On any device of torch."""

    name: str = TORCH

    def __init__(self, network: nn.Module) -> None:
        #: On the device that it ran on last.
        self.network = network

    def network_on(self, device: torch.device, precision: str) -> Network:
        return at_precision(self.network.to(device).eval(), device, precision)
