"""What `maesegment doctor` checks: not what is claimed, but what loads, computes, can be written to and is intact."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DeviceError, MAESegmentError
from ..processes.environment import Requirement, check
from ..processes.processor import usable_cores
from ..version import __version__

if TYPE_CHECKING:
    import torch

    from ..bundle import ModelStore

#: Whole-head and abdominal scans need about this much.
_COMFORTABLE_MEMORY, _LEAST_MEMORY = 8 * 2**30, 2 * 2**30
_LEAST_DISK = 2**30
#: Least free GPU memory with which the shipped models run with room to spare.
_LEAST_GPU_MEMORY = 2 * 2**30
#: What others are imported as.
_MODULES = {"pynrrd": "nrrd", "simpleitk": "SimpleITK"}
#: Named when all is well.
_SHOWN = ("numpy", "torch", "monai", "nibabel", "simpleitk", "pydicom", "highdicom")
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


class Level(str, Enum):
    """`PROBLEM` prevents work; `WARNING` makes it slow or fragile; `NOTE` is worth knowing."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class CheckResult:
    """`fact` is for the user; `advice` is what to do, needed unless all is well; `figures` the same for programs."""

    topic: str
    level: Level
    fact: str
    advice: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)


Results = Iterator[CheckResult]


def check_all() -> Results:
    """One check that fails is a problem itself, and does not end the examination."""
    checks: Mapping[str, Callable[[], Results]] = {
        "packages": check_software,
        "processor": check_processor,
        "memory": check_memory,
        "GPU": check_gpus,
        "storage": check_storage,
        "models": check_models,
    }
    for topic, run in checks.items():
        yield from attempt(topic, run)


def attempt(topic: str, run: Callable[[], Iterable[CheckResult]]) -> Results:
    try:
        yield from run()
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        advice = "Solve the problems above first; if there are none, this is a defect of MAESegment: report it."
        yield CheckResult(topic, Level.PROBLEM, f"could not be examined ({type(error).__name__}: {reason})", advice)


def worst_of(results: Iterable[CheckResult]) -> Level:
    """The most serious level among them."""
    return max((result.level for result in results), key=list(Level).index, default=Level.OK)


def as_json(results: Sequence[CheckResult]) -> str:
    """`{"works": bool, "findings": [{topic, level, fact, advice, figures}]}`"""
    works = worst_of(results) is not Level.PROBLEM
    return json.dumps({"works": works, "findings": [asdict(result) for result in results]}, indent=2, default=str)


def gib(size: float) -> str:
    """Bytes as text, e.g. "7.5 GiB"."""
    return f"{size / 2**30:.1f} GiB"


def check_software() -> Results:
    """Python, MAESegment and its packages: present, new enough, and loadable."""
    python = platform.python_version()
    where = Path(__file__).resolve().parents[1]
    yield CheckResult("MAESegment", Level.OK, f"{__version__} in {where}", figures={"version": __version__})
    system = f"Python {python} on {platform.platform(terse=True)} ({sys.executable})"
    yield CheckResult("Python", Level.OK, system, figures={"version": python})
    requirements = _requirements()
    problems = [problem for requirement in requirements for problem in check_requirement(requirement)]
    yield from problems
    if not problems:
        versions = {name: metadata.version(name) for name in (text.partition(">=")[0] for text in requirements)}
        shown = ", ".join(f"{name} {versions[name]}" for name in _SHOWN if name in versions)
        yield CheckResult("packages", Level.OK, shown, figures=versions)


def _requirements() -> list[str]:
    """Requirements without those of extras, e.g. "torch>=2.6"; empty when run from a folder that is not installed."""
    try:
        return [line for line in metadata.requires("maesegment") or [] if ";" not in line]
    except metadata.PackageNotFoundError:
        return []


def check_requirement(requirement: str) -> Results:
    """`requirement` is a name with a floor, e.g. "torch>=2.6"."""
    name, _, floor = requirement.partition(">=")
    problem = check(Requirement(name, _MODULES.get(name, name), floor, "MAESegment needs it", 0.0))
    if problem is not None:
        yield CheckResult("packages", Level.PROBLEM, problem.message, f"Run: {problem.advice}")


def check_memory(available: int | None = None) -> Results:
    """Host memory that is free now; `available` (bytes) in its place."""
    import psutil

    memory = psutil.virtual_memory()
    free = memory.available if available is None else available
    level, advice = Level.OK, ""
    if free < _LEAST_MEMORY:
        level, advice = Level.PROBLEM, "Close other programs; at least 2 GiB are needed."
    elif free < _COMFORTABLE_MEMORY:
        level = Level.NOTE
        advice = "Enough for most scans. Close other programs before segmenting large ones (8 GiB are comfortable)."
    fact = f"{gib(free)} of {gib(memory.total)} are free"
    yield CheckResult("memory", level, fact, advice, {"available": free, "total": memory.total})


def check_storage() -> Results:
    """The folders written to: the user's models and temporary files."""
    from ..storage.user_folders import default_models_folder

    yield check_folder("model folder", default_models_folder(), "set MAESEGMENT_MODELS to a folder of your own")
    yield check_folder("temporary files", Path(tempfile.gettempdir()), "set TMPDIR to a folder on another disk")


def check_folder(topic: str, folder: Path, remedy: str) -> CheckResult:
    """Whether `folder`, which may not exist yet, can be written to and has room."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return CheckResult(
            topic, Level.PROBLEM, f"{folder} cannot be written to", f"Correct its permissions, or {remedy}."
        )
    free = shutil.disk_usage(existing).free
    fact = f"{folder}, {gib(free)} free"
    if free < _LEAST_DISK:
        return CheckResult(topic, Level.PROBLEM, fact, f"Free at least 1 GiB, or {remedy}.", {"free": free})
    return CheckResult(topic, Level.OK, fact, figures={"free": free})


def check_models(store: ModelStore | None = None) -> Results:
    """Every model in the store, its files compared with their hashes."""
    from ..bundle import ModelStore, check_inference_config, verify_bundle

    store = store or ModelStore()
    bundles, unreadable = store.scan()
    unusable: dict[str, MAESegmentError] = {str(folder): error for folder, error in unreadable}
    sound = []
    for bundle in bundles:
        try:
            verify_bundle(bundle.path)
        except MAESegmentError as error:
            unusable[f"{bundle.name} {bundle.version}"] = error
            continue
        sound.append(bundle)
        try:
            check_inference_config(bundle)
        except MAESegmentError as error:
            yield CheckResult("models", Level.WARNING, error.message, error.hint)
    for name, reason in unusable.items():  # the others work nevertheless
        advice = reason.hint or "Remove it and import it again."
        yield CheckResult("models", Level.WARNING, f"{name} is not usable: {reason.message}", advice)
    if any(bundle.kind == "segmentation" for bundle in sound):
        shown = ", ".join(f"{bundle.name} {bundle.version}" for bundle in sound)
        yield CheckResult("models", Level.OK, f"{shown}; every file is intact", figures={"count": len(sound)})
    else:
        advice = "Import one with `maesegment models import FILE.zip`, or reinstall MAESegment, which ships models."
        yield CheckResult("models", Level.PROBLEM, f"none that segments, in {store.shipped_folder}", advice)


def check_processor() -> Results:
    """Cores, vector instructions, and the measured time of a 3D convolution in single and half precision."""
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
