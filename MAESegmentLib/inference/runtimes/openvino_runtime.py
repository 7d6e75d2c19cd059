"""The processor's own runtime: networks that were converted for OpenVINO."""

from __future__ import annotations

import importlib.util
import logging
import sys
from contextlib import suppress
from types import ModuleType
from typing import Any

import numpy as np
import torch

from ...bundle import Bundle
from ...device import dtype_of
from ...errors import ConfigurationError, DeviceError, is_out_of_memory
from ..settings import OPENVINO
from ..windows import Network
from . import converted as conversions
from .converted import Converted

_log = logging.getLogger(__name__)

_HINTS = {torch.float32: "f32", torch.bfloat16: "bf16"}


def is_installed() -> bool:
    return importlib.util.find_spec("openvino") is not None


def load_openvino() -> ModuleType:
    """The package `openvino`, without what it reports about its use to its makers as soon as it is imported."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise ConfigurationError(
            f"OpenVINO cannot be used: {error}.",
            "Install the package openvino in the Python for the network, or choose the runtime torch.",
        ) from error
    return openvino


class OpenVinoRuntime:
    """Runs a converted network on the processor, on as many threads as torch."""

    name: str = OPENVINO

    def __init__(self, converted: Converted, precision: str) -> None:
        """Compiled for `precision` now; for another when it is asked for. `DeviceError` if that does not work here."""
        self._converted = converted
        self._compiled: dict[str, Any] = {}
        self._compile(_hint(precision))

    def network_on(self, device: torch.device, precision: str) -> Network:
        assert device.type == "cpu"
        compiled = self._compile(_hint(precision))

        def scores(patches: torch.Tensor) -> torch.Tensor:
            # One window fills the cores; what comes back is a copy, or the next window would overwrite it.
            windows = [compiled(one[None].contiguous().numpy(), share_outputs=False)[0] for one in patches]
            return torch.from_numpy(windows[0] if len(windows) == 1 else np.concatenate(windows))

        return scores

    def _compile(self, hint: str) -> Any:
        if hint not in self._compiled:
            openvino = load_openvino()
            core = openvino.Core()
            weights = openvino.Tensor(np.frombuffer(self._converted.weights, np.uint8).copy())
            options = {
                "INFERENCE_PRECISION_HINT": hint,
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),
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

    A conversion that is damaged is deleted.
    """
    if not is_installed() or precision == "fp16":
        return None
    try:
        found = conversions.read(bundle)
        return None if found is None else OpenVinoRuntime(found, precision)
    except ValueError as error:
        reason = str(error)
        with suppress(OSError):
            conversions.file_for(bundle).unlink(missing_ok=True)
    except (ConfigurationError, DeviceError) as error:
        reason = error.message
    _log.warning("%s %s is run by torch, as its conversion cannot be used: %s", bundle.name, bundle.version, reason)
    return None


def _hint(precision: str) -> str:
    return _HINTS[dtype_of(torch.device("cpu"), precision)]
