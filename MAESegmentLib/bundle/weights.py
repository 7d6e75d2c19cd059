"""A state_dict as a file: half precision on disk, float32 in memory, tensors and nothing else."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BundleError, WeightsError

#: A weight file's tensors may not claim much more memory than the file itself holds.
_MAX_EXPANSION = 2


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
    unsafe = BundleError(
        f"{name} is not a plain file of tensors.",
        "Do not use this model unless you trust its source; ask for one saved by MAESegment.",
    )
    _check_container(data, unsafe)
    try:
        loaded: Any = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, KeyError, EOFError, OSError, AttributeError, TypeError):
        raise unsafe from None
    if not isinstance(loaded, dict) or not loaded:
        raise unsafe
    for key, tensor in loaded.items():
        if not isinstance(key, str) or type(tensor) is not Tensor or not _is_dense(tensor):
            raise unsafe
    if sum(t.numel() * t.element_size() for t in loaded.values()) > _MAX_EXPANSION * len(data):
        raise unsafe
    return {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in loaded.items()}


def load_into(network: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Fill `network` with `state`; every key and shape must match and every weight be finite (`WeightsError`)."""
    own = network.state_dict()
    problems = [f"{key} is missing" for key in own if key not in state]
    problems += [f"{key} is not part of the network" for key in state if key not in own]
    problems += [
        f"{key} is {tuple(state[key].shape)}, not {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    problems += [
        f"{key} holds NaN or infinity"
        for key, tensor in state.items()
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
    ]
    if problems:
        shown = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
        raise WeightsError(
            f"The weights in {name} do not fit the network that the model describes: {shown}.",
            "The model may come from another version of MAESegment: update MAESegment, or get the model again.",
        )
    network.load_state_dict(dict(state), strict=True, assign=True)


def _check_container(data: bytes, unsafe: BundleError) -> None:
    """torch writes its zip uncompressed; a compressed one could be a bomb, and no zip is a bare pickle."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError):
        raise unsafe from None
    stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
    if not stored or sum(entry.file_size for entry in entries) > len(data):
        raise unsafe


def _is_dense(tensor: Tensor) -> bool:
    """Whether the tensor is ordinary memory: no sparse or quantised layout, no stride that repeats a small storage."""
    return (
        tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and not tensor.is_quantized
        and tensor.is_contiguous()
        and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
    )
