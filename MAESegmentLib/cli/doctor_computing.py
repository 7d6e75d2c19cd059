"""What `maesegment doctor` finds out by computing: the processor, every GPU, and what runs a model on them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from ..device import has_torch, processor_multiplies_bf16
from ..errors import DeviceError
from ..processes.environment import INSTEAD_OF_TORCH, REQUIREMENTS, Problem, check
from ..processes.processor import usable_cores
from .doctor_checks import CheckResult, Level, Results, gib

if TYPE_CHECKING:
    import torch

#: Least free GPU memory with which the shipped models run with room to spare.
_LEAST_GPU_MEMORY = 2 * 2**30
#: A typical layer of the networks here: channels, then edge length of the cube in voxels.
_CHANNELS, _EDGE = 16, 48
#: For comparing precisions: without hardware for it, bf16 is tens of times slower than float32.
_SMALL_EDGE = 20
#: Processor time to measure over: clocks of a thread tick 64 times a second on Windows.
_LEAST_PROCESSOR_S = 0.1
#: Largest relative error of a half-precision convolution that is still rounding.
_ROUNDING = {"float16": 5e-3, "bfloat16": 4e-2}
_HALF_IS_FASTER = 1.2
_HALF_INSTRUCTIONS = ("amx_bf16", "amx_fp16", "avx512_bf16")


def check_runtimes() -> Results:
    """What segments: OpenVINO the models that are converted for it, on the processor; PyTorch any, on any device."""
    torch, openvino = next(one for one in REQUIREMENTS if one.is_torch), INSTEAD_OF_TORCH
    problems = {one.name: problem for one in (torch, openvino) if (problem := check(one)) is not None}
    works = [name for name in (torch.name, openvino.name) if name not in problems]
    for problem in problems.values():
        if problem.kind != "missing":
            # Without torch, the other one serves only where there is none.
            level = Level.WARNING if works and not problem.is_torch else Level.PROBLEM
            yield CheckResult("runtime", level, problem.message, f"Run: {problem.advice}")
    if len(problems) == 2 and all(problem.kind == "missing" for problem in problems.values()):
        advice = f"To segment on the processor: {problems[openvino.name].advice}\n"
        advice += f"To fine-tune as well, and to use a GPU: {problems[torch.name].advice}"
        yield CheckResult(
            "runtime", Level.PROBLEM, "neither PyTorch nor OpenVINO is installed: nothing segments", advice
        )
    yield from _what_segments({name: metadata.version(name) for name in works}, problems)


def _what_segments(versions: Mapping[str, str], problems: Mapping[str, Problem]) -> Results:
    from ..bundle.library import ModelLibrary
    from ..inference.runtimes.converted import is_there

    models = ModelLibrary().models()
    converted = [f"{one.name} {one.version}" for one in models if is_there(one)]
    others = [name for name in (f"{one.name} {one.version}" for one in models) if name not in converted]
    if "openvino" in versions:
        fact = (
            f"OpenVINO {versions['openvino']} segments on the processor with {', '.join(converted) or 'no model yet'}"
        )
        yield CheckResult("runtime", Level.OK, fact, figures={"openvino": versions["openvino"], "converted": converted})
    if "torch" in versions:
        fact = f"PyTorch {versions['torch']} segments "
        fact += "with any other model, and on a GPU" if "openvino" in versions else "with every model"
        yield CheckResult("runtime", Level.OK, fact, figures={"torch": versions["torch"]})
    elif "openvino" in versions and problems["torch"].kind == "missing":
        fact = "PyTorch is not installed: no GPU is used, nothing can be fine-tuned"
        fact += f", and nothing runs {', '.join(others)}" if others else ""
        yield CheckResult("runtime", Level.NOTE, fact, f"If you need that: {problems['torch'].advice}")


def check_processor() -> Results:
    """Cores, vector instructions, and the measured time of a 3D convolution in single and half precision."""
    if not has_torch():
        half = "bf16" if processor_multiplies_bf16() else "float32"
        fact = f"{usable_cores()} usable cores; {half} suits this processor"
        yield CheckResult("processor", Level.OK, fact, figures={"cores": usable_cores()})
        return
    import torch

    cores, threads = usable_cores(), torch.get_num_threads()
    has: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # absent from older PyTorch
    instructions = [
        str(torch.backends.cpu.get_cpu_capability()),
        *(name for name in _HALF_INSTRUCTIONS if has.get(name)),
    ]
    seconds = convolution_seconds(torch.device("cpu"), torch.float32)
    gain = processor_seconds(torch.float32) / processor_seconds(torch.bfloat16)
    fast = f"{gain:.1f}x as fast" if gain >= 1 else f"{1 / gain:.0f}x slower"
    fact = (
        f"{cores} usable cores, {', '.join(instructions)}; a 3D convolution takes {seconds * 1000:.0f} ms; "
        f"bf16 is {fast}, so {'bf16' if gain >= _HALF_IS_FASTER else 'float32'} suits this processor"
    )
    figures = {"cores": cores, "threads": threads, "instructions": instructions}
    yield CheckResult("processor", Level.OK, fact, figures=figures | {"conv3d_s": seconds, "bf16_gain": gain})
    if threads < cores:
        yield CheckResult(
            "processor",
            Level.NOTE,
            f"PyTorch uses {threads} of {cores} cores",
            "Unset OMP_NUM_THREADS if you did not mean to limit it.",
        )


def check_gpus() -> Results:
    """Every GPU runs real kernels in each precision; where there is none, why, and what that means."""
    if not has_torch():  # `check_runtimes` says so
        return
    import torch

    if not torch.cuda.is_available():
        has_driver = Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
        yield no_gpu(built_for_cuda=torch.version.cuda is not None, nvidia_driver=has_driver)
        return
    for index in range(torch.cuda.device_count()):
        yield from _check_gpu(torch.device("cuda", index))


def no_gpu(*, built_for_cuda: bool, nvidia_driver: bool) -> CheckResult:
    """Why PyTorch sees no GPU, from whether it could use one and whether the machine has a driver for one."""
    level = Level.WARNING
    if not nvidia_driver:
        level, fact = Level.NOTE, "none; everything runs on the processor"
        advice = (
            "Segmenting works, it only takes longer. For pretraining, or for much fine-tuning, use a machine with an"
            " NVIDIA GPU (docs/cli.md, section 'GPU')."
        )
    elif not built_for_cuda:
        fact = "this machine has an NVIDIA GPU, but the installed PyTorch cannot use it (CPU build)"
        advice = (
            "Install a CUDA build of PyTorch: docs/cli.md, section 'GPU'. Until then everything runs on the processor."
        )
    else:
        fact = "there is an NVIDIA driver, but PyTorch finds no usable GPU"
        advice = (
            "Run `nvidia-smi`. If it lists your GPU, update the driver, or install a PyTorch built for an older CUDA "
            "(docs/cli.md, section 'GPU'); if it lists none, restart the machine. A container needs `--gpus all`."
        )
    return CheckResult("GPU", level, fact, advice)


def _check_gpu(device: torch.device) -> Results:
    import torch

    from ..device import run_kernel

    topic = str(device)
    try:
        run_kernel(device)
        free, total = torch.cuda.mem_get_info(device)
        name, (major, minor) = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
        errors = {str(t).removeprefix("torch."): _error_at(device, t) for t in (torch.float16, torch.bfloat16)}
        seconds = convolution_seconds(device, torch.float32)
    except (DeviceError, RuntimeError) as error:
        advice = error.hint if isinstance(error, DeviceError) else ""
        advice = advice or "Update the GPU's driver or PyTorch (docs/cli.md, section 'GPU'), or use --device cpu."
        yield CheckResult(topic, Level.WARNING, f"does not work: {str(error).splitlines()[0]}", advice)
        return
    fact = (
        f"{name} (compute capability {major}.{minor}), {gib(free)} of {gib(total)} free; "
        f"a 3D convolution takes {seconds * 1000:.2f} ms"
    )
    figures = {"name": name, "free": free, "total": total, "conv3d_s": seconds, "half_precision_error": errors}
    yield CheckResult(topic, Level.OK, fact, figures=figures)
    yield from check_half_precision(topic, errors)
    if free < _LEAST_GPU_MEMORY:
        advice = "Close other programs that use the GPU (`nvidia-smi` lists them), or use --device cpu."
        yield CheckResult(topic, Level.WARNING, f"only {gib(free)} of GPU memory are free", advice)


def check_half_precision(topic: str, errors: Mapping[str, float | None]) -> Results:
    """`errors` holds the relative error of a convolution per precision, None where it cannot run."""
    for precision, error in errors.items():
        if error is None or not error <= _ROUNDING[precision]:
            what = "cannot run" if error is None else f"is wrong (relative error {error:.2g})"
            advice = "Use --precision fp32 on this GPU, and update its driver and PyTorch."
            yield CheckResult(topic, Level.WARNING, f"a convolution in {precision} {what}", advice)


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


def _error_at(device: torch.device, dtype: torch.dtype) -> float | None:
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
