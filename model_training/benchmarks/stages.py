"""Where the time of one run goes: laps between stages, with the network's own time taken out of the lap it lies in."""

from __future__ import annotations

import time

import torch
from torch import nn

NETWORK = "network"


class Stages(dict[str, float]):
    """Name of a stage -> processor seconds of the process; with one thread they hardly depend on what else runs.

    On a GPU, whose work no processor time counts, seconds on the clock.
    """

    def __init__(self, device: str = "cpu") -> None:
        super().__init__()
        self.clock = time.process_time if device == "cpu" else time.perf_counter
        self._last = self._network_before = 0.0

    def start(self) -> None:
        self.clear()
        self._network_before = 0.0
        self._last = self.clock()

    def lap(self, name: str) -> None:
        """What was done since the last lap, without the network, belongs to `name`."""
        now, network = self.clock(), self.get(NETWORK, 0.0)
        self[name] = self.get(name, 0.0) + now - self._last - (network - self._network_before)
        self._last, self._network_before = now, network

    def timed(self, network: nn.Module) -> nn.Module:
        """`network`, whose forward passes count as a stage of their own."""
        return _Timed(network.eval(), self)


class _Timed(nn.Module):
    def __init__(self, network: nn.Module, stages: Stages) -> None:
        super().__init__()
        self._network = network
        self._stages = stages

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        begun = self._stages.clock()
        result: torch.Tensor = self._network(image)
        if result.is_cuda:
            torch.cuda.synchronize()
        self._stages[NETWORK] = self._stages.get(NETWORK, 0.0) + self._stages.clock() - begun
        return result
