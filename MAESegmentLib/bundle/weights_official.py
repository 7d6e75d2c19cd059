"""Reading the file of a checkpoint that the official nnFormer code wrote, without running anything that it holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import WeightsError, reason_of

_SAVE_WEIGHTS = "Where it was trained, save its weights alone: torch.save(network.state_dict(), 'weights.pt')."


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """The state_dict in an official training checkpoint, or a file that is one. Nothing in it is executed."""
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be read: {reason_of(error)}.", "Give a checkpoint, e.g. model_best.model."
        ) from None
    except Exception as error:  # of any kind, as the file may hold anything; MemoryError and LookupError were met
        raise _unreadable(path, str(error)) from None
    state = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else None
    if not isinstance(state, Mapping) or not state:
        raise WeightsError(
            f"{path.name} holds no state_dict.", "Give model_best.model or model_final_checkpoint.model."
        )
    for key, value in state.items():
        is_dense = isinstance(value, torch.Tensor) and value.layout == torch.strided and value.device.type == "cpu"
        if not isinstance(key, str) or not is_dense or value.is_quantized:
            raise WeightsError(
                f"{path.name} holds something else than plain tensors in its state_dict.",
                _SAVE_WEIGHTS,
            )
    return dict(state)


def _numpy_scalars() -> list[Any]:
    """Official checkpoints keep their loss curves as numpy numbers, under the old or the new name of numpy's core."""
    scalar = type(np.float64(0)).__reduce__(np.float64(0))[0]
    dtypes = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.bool_)]
    return [(scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar"), np.dtype, *dtypes]


def _unreadable(path: Path, reason: str) -> WeightsError:
    """torch's own text recommends to switch the protection off; this one does not."""
    foreign = re.search(r"GLOBAL (\S+)", reason)
    if foreign is None:
        return WeightsError(f"{path.name} is not a PyTorch checkpoint, or is damaged.", "Copy or download it again.")
    return WeightsError(
        f"{path.name} holds more than tensors and numbers ({foreign[1]}), so it was not opened.",
        _SAVE_WEIGHTS,
    )
