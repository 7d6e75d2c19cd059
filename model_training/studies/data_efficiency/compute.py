"""What a training costs, so that controls can be given as much: floating-point operations, and where they were done."""

from __future__ import annotations

import platform
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from MAESegmentLib.training.loop.loop import Task


def step_flops(task: Task) -> int:
    """Operations of one update (forward and backward) of `task`, counted on the CPU; weights stay as they are.

    A multiplication and an addition are two. Matrix products, convolutions and attention are counted, as in papers.
    """
    model = task.model.train()
    batches = task.batches(0, torch.device("cpu"))
    batch = next(iter(batches))
    getattr(batches, "close", lambda: None)()
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    with FlopCounterMode(display=False) as counter:
        task.loss(model, batch, 0).backward()
    model.zero_grad(set_to_none=True)
    for name, value in model.named_buffers():
        value.copy_(buffers[name])
    return int(counter.get_total_flops())


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def where_and_when(device: torch.device) -> dict[str, str]:
    """Columns of a row about what has just ended."""
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"device": device.type, "machine": machine(device), "torch": torch.__version__, "finished": now}


def machine(device: torch.device) -> str:
    """The processor or graphics card by its name, and the threads that were used."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {torch.get_num_threads()} thread(s)"


def _processor(read: Callable[[Path], str] = Path.read_text) -> str:
    try:
        lines = read(Path("/proc/cpuinfo")).splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
