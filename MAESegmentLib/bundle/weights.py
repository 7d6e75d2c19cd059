"""A state_dict as a file: half precision on disk, float32 in memory, tensors and nothing else."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..errors import BundleError, WeightsError
from .tensor_file import NotTensors, read_tensors


def pack_state(state: Mapping[str, Tensor], dtype: torch.dtype) -> bytes:
    """`state` as the bytes of a .pt file, floating tensors as `dtype`.

    A tensor that would overflow (|x| > 65504 for float16) keeps float32.
    """
    packed: dict[str, Tensor] = {}
    for key, tensor in state.items():
        value = tensor.detach().to("cpu").contiguous()
        if value.is_floating_point():
            if not bool(torch.isfinite(value).all()):
                raise WeightsError(
                    f"Weight {key!r} holds NaN or infinity, so the model was not saved.",
                    "Training diverged: lower the learning rate and train again from the last good checkpoint.",
                )
            half = value.to(dtype)
            value = half if bool(torch.isfinite(half).all()) else value.float()
        # A view saves its whole storage; a copy saves what it shows.
        packed[key] = value.clone()
    buffer = io.BytesIO()
    torch.save(packed, buffer)
    return buffer.getvalue()


def read_state(data: bytes, name: str) -> dict[str, Tensor]:
    """Tensors of the .pt file `data`, floating ones as float32; `BundleError` if it holds anything but tensors."""
    try:
        tensors = read_tensors(data)
    except (NotTensors, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise BundleError(
            f"{name} is not a plain file of tensors: {str(error) or type(error).__name__}.",
            "Do not use this model unless you trust its source; ask for one saved by MAESegment.",
        ) from None
    return {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}


def load_into(network: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Fill `network` with `state`; every key and shape must match and every weight be finite (`WeightsError`)."""
    own = network.state_dict()
    problems = [f"{key} is missing" for key in own if key not in state]
    problems += [f"{key[:80]} is not part of the network" for key in state if key not in own]
    problems += [
        f"{key} is {tuple(state[key].shape)}, not {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    problems += [
        f"{key} holds {state[key].dtype}, not {own[key].dtype}"
        for key in own
        if key in state and state[key].dtype != own[key].dtype
    ]
    problems += [
        f"{key[:80]} holds NaN or infinity"
        for key, tensor in state.items()
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
    ]
    if problems:
        first = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
        raise WeightsError(
            f"The weights in {name} do not fit the network that the model describes: {first}.",
            "The model may come from another version of MAESegment: update MAESegment, or get the model again.",
        )
    network.load_state_dict(dict(state), strict=True, assign=True)
