"""Checks of the processor and the GPUs: not what they claim to be, but whether and how fast they compute."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DeviceError
from ..processes.processor import usable_cores
from .findings import Finding, Level, gib

if TYPE_CHECKING:
    import torch

#: A typical layer of the networks here: channels, then edge length of the cube in voxels.
_CHANNELS, _EDGE = 16, 48
#: For comparing precisions: without hardware for it, bf16 is tens of times slower than float32.
_SMALL_EDGE = 20
#: Processor time to measure over: clocks of a thread tick 64 times a second on Windows.
_LEAST_PROCESSOR_S = 0.1
#: Largest relative error of a half-precision convolution that is still rounding.
_ROUNDING = {"float16": 5e-3, "bfloat16": 4e-2}
#: Least free GPU memory with which the shipped models run with room to spare.
_GPU_MEMORY = 2 * 2**30
_HALF_IS_FASTER = 1.2
_HALF_INSTRUCTIONS = ("amx_bf16", "amx_fp16", "avx512_bf16")


def check_processor() -> Iterator[Finding]:
    """Cores, vector instructions, and the measured time of a 3D convolution in single and half precision."""
    import torch

    cores, threads = usable_cores(), torch.get_num_threads()
    instructions = str(torch.backends.cpu.get_cpu_capability())
    extra = sorted(name for name in _HALF_INSTRUCTIONS if _capabilities().get(name))
    cpu = torch.device("cpu")
    seconds = convolution_seconds(cpu, torch.float32)
    gain = processor_seconds(torch.float32) / processor_seconds(torch.bfloat16)
    fast = f"{gain:.1f}x as fast" if gain >= 1 else f"{1 / gain:.0f}x slower"
    fact = (
        f"{cores} usable cores, {', '.join([instructions, *extra])}; a 3D convolution takes {seconds * 1000:.0f} ms; "
        f"bf16 is {fast}, so {'bf16' if gain >= _HALF_IS_FASTER else 'float32'} suits this processor"
    )
    figures = {
        "cores": cores,
        "threads": threads,
        "instructions": [instructions, *extra],
        "conv3d_s": seconds,
        "bf16_gain": gain,
    }
    yield Finding("processor", Level.OK, fact, figures=figures)
    if threads < cores:
        yield Finding(
            "processor",
            Level.NOTE,
            f"PyTorch uses {threads} of {cores} cores",
            "Unset OMP_NUM_THREADS if you did not mean to limit it.",
        )


def _capabilities() -> dict[str, object]:
    import torch

    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # absent from older PyTorch
    return capabilities


def check_gpus() -> Iterator[Finding]:
    """Every GPU runs real kernels in each precision; where there is none, why, and what that means."""
    import torch

    if not torch.cuda.is_available():
        yield no_gpu(built_for_cuda=torch.version.cuda is not None, nvidia_driver=_has_nvidia_driver())
        return
    for index in range(torch.cuda.device_count()):
        yield from _check_gpu(torch.device("cuda", index))


def no_gpu(*, built_for_cuda: bool, nvidia_driver: bool) -> Finding:
    """Why PyTorch sees no GPU, from whether it could use one and whether the machine has a driver for one."""
    if nvidia_driver and not built_for_cuda:
        return Finding(
            "GPU",
            Level.WARNING,
            "this machine has an NVIDIA GPU, but the installed PyTorch cannot use it (CPU build)",
            "Install a CUDA build of PyTorch: docs/cli.md, section 'GPU'. Until then everything runs on the processor.",
        )
    if nvidia_driver:
        return Finding(
            "GPU",
            Level.WARNING,
            "there is an NVIDIA driver, but PyTorch finds no usable GPU",
            "Run `nvidia-smi`. If it lists your GPU, update the driver, or install a PyTorch built for an older CUDA "
            "(docs/cli.md, section 'GPU'); if it lists none, restart the machine. A container needs `--gpus all`.",
        )
    return Finding(
        "GPU",
        Level.NOTE,
        "none; everything runs on the processor",
        "Segmenting works, it only takes longer. For pretraining, or for much fine-tuning, use a machine with an"
        " NVIDIA GPU (docs/cli.md, section 'GPU').",
    )


def _check_gpu(device: torch.device) -> Iterator[Finding]:
    import torch

    topic = str(device)
    try:
        from ..device import run_kernel

        run_kernel(device)
        free, total = torch.cuda.mem_get_info(device)
        name, capability = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
        results = {str(t).removeprefix("torch."): _try_convolution(device, t) for t in (torch.float16, torch.bfloat16)}
        seconds = convolution_seconds(device, torch.float32)
    except (DeviceError, RuntimeError) as error:
        advice = error.hint if isinstance(error, DeviceError) else ""
        yield Finding(
            topic,
            Level.WARNING,
            f"does not work: {str(error).splitlines()[0]}",
            advice or "Update the GPU's driver or PyTorch (docs/cli.md, section 'GPU'), or use --device cpu.",
        )
        return
    figures = {"name": name, "free": free, "total": total, "conv3d_s": seconds, "half_precision_error": results}
    speed = f"a 3D convolution takes {seconds * 1000:.2f} ms"
    fact = f"{name} (compute capability {capability[0]}.{capability[1]}), {gib(free)} of {gib(total)} free; {speed}"
    yield Finding(topic, Level.OK, fact, figures=figures)
    yield from half_precision_findings(topic, results)
    if free < _GPU_MEMORY:
        yield Finding(
            topic,
            Level.WARNING,
            f"only {gib(free)} of GPU memory are free",
            "Close other programs that use the GPU (`nvidia-smi` lists them), or use --device cpu.",
        )


def half_precision_findings(topic: str, errors: Mapping[str, float | None]) -> Iterator[Finding]:
    """`errors` holds the relative error of a convolution per precision, None where it cannot run."""
    for precision, error in errors.items():
        if error is None or not error <= _ROUNDING[precision]:
            what = "cannot run" if error is None else f"is wrong (relative error {error:.2g})"
            yield Finding(
                topic,
                Level.WARNING,
                f"a convolution in {precision} {what}",
                "Use --precision fp32 on this GPU, and update its driver and PyTorch.",
            )


def convolution_seconds(device: torch.device, dtype: torch.dtype, *, repeats: int = 3) -> float:
    """Fastest of `repeats` runs of one 3 x 3 x 3 convolution of 16 channels over 48^3 voxels, on the clock."""
    import torch
    import torch.nn.functional as F

    image, weight = _sample(device)
    image, weight = image.to(dtype), weight.to(dtype)
    times = []
    with torch.inference_mode():
        for _ in range(repeats + 1):
            start = time.perf_counter()
            F.conv3d(image, weight, padding=1)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - start)
    return min(times[1:])


def processor_seconds(dtype: torch.dtype) -> float:
    """Processor time of one small convolution on one thread: other programs hardly change it, so that ratios hold."""
    import torch
    import torch.nn.functional as F

    image, weight = (tensor.to(dtype) for tensor in _sample(torch.device("cpu"), _SMALL_EDGE))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more would count the time in which they wait for each other
    try:
        with torch.inference_mode():
            F.conv3d(image, weight, padding=1)
            repeats, taken = 1, 0.0
            while taken < _LEAST_PROCESSOR_S:
                repeats *= 2
                start = time.thread_time()
                for _ in range(repeats):
                    F.conv3d(image, weight, padding=1)
                taken = time.thread_time() - start
    finally:
        torch.set_num_threads(threads)
    return taken / repeats


def _try_convolution(device: torch.device, dtype: torch.dtype) -> float | None:
    """Relative error of a convolution in `dtype` on `device`, against float32 on the CPU; None if it cannot run."""
    import torch
    import torch.nn.functional as F

    image, weight = _sample(torch.device("cpu"))
    with torch.inference_mode():
        expected = F.conv3d(image, weight, padding=1)
        try:
            result = F.conv3d(image.to(device, dtype), weight.to(device, dtype), padding=1)
        except RuntimeError:
            return None
        difference = (result.float().cpu() - expected).abs().max() / expected.abs().max()
    return float(difference)


def _sample(device: torch.device, edge: int = _EDGE) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    generator = torch.Generator().manual_seed(0)
    image = torch.randn((1, _CHANNELS, edge, edge, edge), generator=generator)
    weight = torch.randn((_CHANNELS, _CHANNELS, 3, 3, 3), generator=generator)
    return image.to(device), weight.to(device)


def _has_nvidia_driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
