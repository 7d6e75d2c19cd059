"""What a runtime is, and the one that runs on any device."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from ...arrays import Array, as_tensor, is_tensor, to_numpy
from ...device import at_precision, autocast
from ..settings import TORCH
from ..windows import Encode, Network

if TYPE_CHECKING:
    from torch import nn


class Runtime(Protocol):
    """Runs one network; `name` is that of the choice in `InferenceSettings`."""

    name: str

    def network_on(self, device: Any, precision: str) -> Network:
        """Patch windows in, class scores out, which nothing that runs later changes."""
        ...

    def encoder_on(self, device: Any, precision: str) -> Encode | None:
        """The tokens of the network's encoder, if it has one."""
        ...


class TorchRuntime:
    """On any device of torch."""

    name: str = TORCH

    def __init__(self, network: nn.Module) -> None:
        #: On the device that it ran on last.
        self.network = network

    def network_on(self, device: Any, precision: str) -> Network:
        return _taking_arrays(at_precision(self.network.to(device).eval(), device, precision))

    def encoder_on(self, device: Any, precision: str) -> Encode | None:
        encoder = getattr(self.network, "encoder", None)
        if encoder is None:
            return None
        encoder = encoder.to(device)

        def tokens(windows: Array) -> list[Array]:
            with autocast(device, precision):
                return list(encoder(as_tensor(windows)))

        return tokens


def _taking_arrays(network: Callable[[Any], Any]) -> Network:
    """numpy's arrays, too: for these, the result is one."""

    def scores(patches: Array) -> Array:
        result = network(as_tensor(patches))
        return result if is_tensor(patches) else to_numpy(result)

    return scores
