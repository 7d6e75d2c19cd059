"""Which device to run on, and in which precision. A device counts only once it has run a kernel.

Without PyTorch there is the processor alone.
"""

from __future__ import annotations

import importlib.util
import logging
import platform
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .errors import ConfigurationError, DeviceError

if TYPE_CHECKING:
    import torch
    from torch import nn

_log = logging.getLogger(__name__)


class Device(Protocol):
    """A `torch.device`; without PyTorch, `Processor`."""

    @property
    def type(self) -> str: ...


@dataclass(frozen=True)
class Processor:
    """`torch.device("cpu")` where there is no torch."""

    type: str = "cpu"

    def __str__(self) -> str:
        return self.type


def has_torch() -> bool:
    """Whether PyTorch is installed, not whether it works."""
    return has_package("torch")


def has_package(name: str) -> bool:
    """Whether it is installed, not whether it works."""
    with suppress(ImportError, ValueError):
        spec = importlib.util.find_spec(name)
        return spec is not None and spec.origin is not None  # without origin: leftovers of a package
    return False


def the_processor() -> Any:
    """A `Device`."""
    if not has_torch():
        return Processor()
    import torch

    return torch.device("cpu")


def resolve_device(name: str | Device = "auto") -> Any:
    """From "auto", "cpu", "cuda" or "cuda:n" to a `Device` that has just run a kernel; `DeviceError` says what to do.

    "auto" and "cuda" take PyTorch's current GPU: the first one, or this process's own of several that train together.
    """
    name = str(name).strip().lower()
    match = re.fullmatch(r"cuda(?::(\d+))?", name)
    if not match and name not in ("auto", "cpu"):
        raise DeviceError(f"Device {name!r} is not supported.", "Use auto, cpu, cuda or cuda:N.")
    if match and not has_torch():
        raise DeviceError(
            f"{name} needs PyTorch, which is not installed.", 'Install the package torch, or choose "cpu" as device.'
        )
    if not match:
        return _auto() if name == "auto" and has_torch() else the_processor()
    import torch

    _check_cuda_exists(int(match[1] or 0))
    index = int(match[1]) if match[1] else torch.cuda.current_device()
    device = torch.device("cuda", index)
    run_kernel(device)
    return device


def run_kernel(device: Any) -> None:
    """Multiply two small matrices on `device`; raise `DeviceError` if that fails or gives a wrong result."""
    import torch

    try:
        ones = torch.ones((16, 16), device=device)
        total = float((ones @ ones).sum())
    except RuntimeError as error:
        raise DeviceError(
            f"{device} does not work: {str(error).splitlines()[0]}",
            "Another program may hold the GPU, or this PyTorch does not support it: try the CPU, or reinstall PyTorch "
            "for this GPU.",
        ) from error
    if total != 16.0**3:
        raise DeviceError(
            f"{device} computes wrong results ({total} instead of {16.0**3}).", "Choose the CPU as device."
        )


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Mixed precision for `device`; "auto" takes bf16 where the hardware multiplies it natively, else fp32."""
    import torch

    dtype = dtype_of(device, precision)
    return nullcontext() if dtype is torch.float32 else torch.autocast(device.type, dtype=dtype)


def at_precision(network: nn.Module, device: torch.device, precision: str) -> Callable[..., Any]:
    """`network`, which is on `device`, in mixed precision, for many calls without gradients.

    Its weights are cast once: in inference mode, autocast would cast them all for every window again.
    """
    import torch
    from torch import nn

    dtype = dtype_of(device, precision)
    if dtype is torch.float32:
        return network
    products = (nn.Linear, nn.modules.conv._ConvNd)  # what autocast lowers
    cast = {
        f"{name}.{key}".removeprefix("."): parameter.detach().to(dtype)
        for name, module in network.named_modules()
        if isinstance(module, products)
        for key, parameter in module.named_parameters(recurse=False)
    }

    def run(*args: Any) -> Any:
        with torch.autocast(device.type, dtype=dtype):
            return torch.func.functional_call(network, cast, args)

    return run


def dtype_of(device: torch.device, precision: str) -> torch.dtype:
    """What products are computed in."""
    import torch

    if precision == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
        return torch.bfloat16 if processor_multiplies_bf16() else torch.float32
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if precision not in dtypes:
        raise ConfigurationError(f"Precision {precision!r} is none of auto, {', '.join(dtypes)}.")
    return dtypes[precision]


def processor_multiplies_bf16() -> bool:
    """Natively. Without PyTorch, only Linux says."""
    if has_torch():
        import torch

        capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # absent from older PyTorch
    else:
        capabilities = dict.fromkeys(_processor_says("flags").split(), True)
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def _auto() -> torch.device:
    import torch

    if torch.cuda.is_available():
        device = torch.device("cuda", torch.cuda.current_device())
        try:
            run_kernel(device)
        except DeviceError as error:
            _log.warning("%s Using the CPU.", error.message)
        else:
            return device
    return torch.device("cpu")


def _check_cuda_exists(index: int) -> None:
    import torch

    if torch.version.cuda is None:
        raise DeviceError(
            "This PyTorch was installed without CUDA support, so no NVIDIA GPU can be used.",
            "Install a CUDA build of PyTorch (https://pytorch.org/get-started), or choose the CPU as device.",
        )
    if not torch.cuda.is_available():
        raise DeviceError(
            "No usable NVIDIA GPU was found.",
            "Check that `nvidia-smi` lists one and that its driver is recent enough, or choose the CPU as device.",
        )
    if index >= torch.cuda.device_count():
        raise DeviceError(
            f"There is no GPU {index}; this machine has {torch.cuda.device_count()}.",
            f"Use cuda:0 to cuda:{torch.cuda.device_count() - 1}.",
        )


def device_title(device: Device | str) -> str:
    """What users call the device: the name of the GPU or of the processor."""
    if str(device) != "cpu":
        import torch

        return str(torch.cuda.get_device_name(str(device)))
    return _processor_says("model name") or platform.processor() or "CPU"


def _processor_says(what: str) -> str:
    """What Linux writes of the processor; "" elsewhere."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(what):
                return line.partition(":")[2].strip()
    return ""
