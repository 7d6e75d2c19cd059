"""The processor's own runtime: networks that were converted for OpenVINO."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from ...arrays import Array
from ...bundle import Bundle
from ...device import Device, has_package, processor_multiplies_bf16
from ...errors import ConfigurationError, DeviceError, is_out_of_memory
from ...processes.environment import silence_openvino
from ...processes.processor import usable_cores
from ..settings import OPENVINO
from ..windows import Encode, Network
from . import converted as conversions
from .converted import Converted

_log = logging.getLogger(__name__)

_HINTS = {"fp32": "f32", "bf16": "bf16"}


def is_installed() -> bool:
    return has_package("openvino")


def load_openvino() -> ModuleType:
    """The package `openvino`, without what it reports about its use to its makers as soon as it is imported."""
    silence_openvino()
    try:
        import openvino
    except ImportError as error:
        raise ConfigurationError(
            f"OpenVINO cannot be used: {error}.",
            "Install the package openvino in the Python for the network, or choose the runtime torch.",
        ) from error
    return openvino


@cache
def _core() -> Any:
    """The only one of this process, kept to its end.

    On Linux each brings a stack for signal handlers to the thread that first compiles with it. When one of several is
    destroyed, signals may be left with a stack that is unmapped already (OpenVINO 2026.4): Ctrl-C then ends the process
    without a word, and so does the end of a child where `torch.utils.data` listens for it.
    """
    return load_openvino().Core()


class OpenVinoRuntime:
    """Runs a converted network on the processor, on as many threads as torch."""

    name: str = OPENVINO

    def __init__(self, converted: Converted, precision: str) -> None:
        """Compiled for `precision` now; for another when it is asked for. `DeviceError` if that does not work here."""
        self._converted = converted
        self._compiled: dict[str, Any] = {}
        self._compile(_hint(precision))

    def network_on(self, device: Device, precision: str) -> Network:
        assert device.type == "cpu"
        compiled = self._compile(_hint(precision))

        def scores(patches: Array) -> Array:
            # One window fills the cores.
            windows = [_outputs(compiled, one, slice(1))[0] for one in patches]
            return windows[0] if len(windows) == 1 else np.concatenate(windows)

        return scores

    def encoder_on(self, device: Device, precision: str) -> Encode | None:
        assert device.type == "cpu"
        compiled = self._compile(_hint(precision))
        return lambda windows: _outputs(compiled, windows[0], slice(1, None))

    def _compile(self, hint: str) -> Any:
        if hint not in self._compiled:
            openvino, core = load_openvino(), _core()
            weights = openvino.Tensor(np.frombuffer(self._converted.weights, np.uint8).copy())
            options = {
                "INFERENCE_PRECISION_HINT": hint,
                "INFERENCE_NUM_THREADS": _threads(),
                "NUM_STREAMS": 1,
                # Two processes would be pinned to the same cores, and wait for each other while others idle.
                "ENABLE_CPU_PINNING": False,
            }
            try:
                model = core.read_model(self._converted.description, weights)
                self._compiled[hint] = core.compile_model(model, "CPU", options)
            except RuntimeError as error:
                if is_out_of_memory(error):
                    raise
                lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
                raise DeviceError(
                    f"OpenVINO cannot run this model here: {lines[-1]}", "Choose the runtime torch."
                ) from error
        return self._compiled[hint]


def stored_runtime(bundle: Bundle, precision: str) -> OpenVinoRuntime | None:
    """Of a model that was converted before, where OpenVINO is installed and can run it; else None.

    A conversion of the user's that is damaged is deleted.
    """
    if not is_installed() or precision == "fp16":
        return None
    own = conversions.file_for(bundle)
    for file in (conversions.shipped_file(bundle), own):
        try:
            found = conversions.read(bundle, file)
            if found is not None:
                return OpenVinoRuntime(found, precision)
            continue
        except ValueError as error:
            reason = str(error)
            if file == own:
                with suppress(OSError):
                    own.unlink(missing_ok=True)
        except (ConfigurationError, DeviceError) as error:
            reason = error.message
        _log.warning("The conversion of %s %s in %s cannot be used: %s", bundle.name, bundle.version, file, reason)
    return None


def _hint(precision: str) -> str:
    return _HINTS[("bf16" if processor_multiplies_bf16() else "fp32") if precision == "auto" else precision]


def _outputs(compiled: Any, window: np.ndarray, which: slice) -> list[np.ndarray]:
    """Of one window (C, D, H, W); copies, or the next window would overwrite them."""
    found = compiled(np.ascontiguousarray(window[None]), share_outputs=True)
    return [found[output].copy() for output in compiled.outputs[which]]


def _threads() -> int:
    """As many as torch takes."""
    torch = sys.modules.get("torch")
    chosen = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(torch.get_num_threads() if torch else chosen if chosen.isdecimal() else usable_cores())
