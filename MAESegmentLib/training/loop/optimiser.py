"""AdamW groups, the learning-rate curve and the moving average of the weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..settings import LoopSettings


def parameter_groups(
    model: nn.Module, settings: LoopSettings, scale_of: Callable[[str], float] = lambda _: 1.0
) -> list[dict[str, Any]]:
    """Groups of equal weight decay and learning-rate scale. Norms, biases, bias tables and tokens do not decay."""
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decays = parameter.ndim > 1 and not name.endswith(".table") and not name.endswith("_token")
        key = (settings.weight_decay if decays else 0.0, scale_of(name))
        group = groups.setdefault(key, {"params": [], "weight_decay": key[0], "lr_scale": key[1]})
        group["params"].append(parameter)
    return list(groups.values())


def stage_scale(stages: int, decay: float) -> Callable[[str], float]:
    """Layer-wise decay for NnFormer: 1 for decoder and heads, a factor `decay` for each stage down to the embedding.

    >>> scale = stage_scale(stages=3, decay=0.5)
    >>> [scale(name) for name in ("head.weight", "encoder.stages.2.norm", "encoder.embedding.conv")]
    [1.0, 0.5, 0.0625]
    """

    def scale(name: str) -> float:
        part, _, rest = name.removeprefix("encoder.").partition(".")
        if not name.startswith("encoder."):
            return 1.0
        if part == "embedding":
            return decay ** (stages + 1)
        return decay ** (stages - int(rest.split(".")[0]))

    return scale


def learning_rate_at(step: int, settings: LoopSettings) -> float:
    """Linear warm-up, then a cosine down to `final_learning_rate` of the peak; `step` counts from 0.

    >>> settings = LoopSettings(steps=100, learning_rate=1e-3, warmup=0.1, final_learning_rate=0.01)
    >>> [round(learning_rate_at(step, settings), 6) for step in (0, 10, 55, 100)]
    [9.1e-05, 0.001, 0.000505, 1e-05]
    """
    warmup = settings.warmup * settings.steps
    if step < warmup:
        return settings.learning_rate * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1.0, settings.steps - warmup)
    floor = settings.final_learning_rate
    return settings.learning_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))


class MovingAverage:
    """Exponential moving average of a model's weights, with a decay that should be low at first: it must not lag."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False) if decay else model

    @torch.no_grad()
    def update(self, model: nn.Module, decay: float) -> None:
        """With the `decay` of this step."""
        if not self.decay:
            return
        averages, values = _floats(self.model.state_dict()), _floats(model.state_dict())
        torch._foreach_lerp_(averages, values, 1 - decay)


def _floats(state: dict[str, Any]) -> list[Tensor]:
    return [value for value in state.values() if value.is_floating_point()]
