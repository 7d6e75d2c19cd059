"""What to try, in order, when a device runs out of memory."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ..device import Device, the_processor
from ..errors import DeviceMemoryError, is_out_of_memory

Result = TypeVar("Result")


@dataclass(frozen=True)
class Step:
    """One way to run: where the network runs, how many windows at once, and where their scores are summed."""

    device: Device
    batch_size: int
    accumulate_on: Device

    def __str__(self) -> str:
        windows = "one window at a time" if self.batch_size == 1 else f"{self.batch_size} windows at a time"
        where = "" if self.accumulate_on == self.device else ", summing in host memory"
        return f"{self.device}, {windows}{where}"


def steps_for(device: Device, batch_size: int, *, allow_cpu: bool) -> list[Step]:
    """From fastest to leanest, without repeats."""
    cpu = the_processor()
    steps = [Step(device, batch_size, device), Step(device, 1, device), Step(device, 1, cpu)]
    if allow_cpu or device == cpu:
        steps.append(Step(cpu, 1, cpu))
    return list(dict.fromkeys(steps))


def run_first_that_fits(
    steps: Sequence[Step], run: Callable[[Step], Result], on_fallback: Callable[[str], None]
) -> tuple[Result, Step]:
    """Run the steps in order until one fits in memory; each change goes to `on_fallback`; else `DeviceMemoryError`."""
    failed: list[str] = []
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        try:
            return run(step), step
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            failed.append(f"{step}: {_reason(error)}")
        # Outside the handler, where the traceback no longer keeps the failed attempt's tensors alive.
        figures = _free_memory(step.device)
        if following is not None:
            on_fallback(f"Out of memory on {step} ({figures}); continuing on {following}.")
    raise DeviceMemoryError(
        f"Not enough memory on {steps[0].device} ({figures}). Tried " + "; ".join(failed) + ".",
        "Close other programs, restrict the segmentation to a region of interest, or allow the CPU.",
    )


def _reason(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0][:120] if text else type(error).__name__


def _free_memory(device: Device) -> str:
    gc.collect()
    if device.type != "cuda":
        return "host memory"
    import torch

    if not torch.cuda.is_available():
        return "host memory"
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(str(device))
    return f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
