"""A state_dict as a file: half precision on disk, float32 in memory, tensors and nothing else.

What torch writes for a flat dict of dense tensors is a short list of pickle operations, which are followed here only as
far as they describe tensors. Nothing is imported or called, however the file was made, and every size is compared with
the bytes that are there before memory is taken; not every `torch.load`, even of weights only, is that careful.
"""

from __future__ import annotations

import io
import math
import pickletools
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BundleError, WeightsError
from ..storage.zip_directory import check_directory

#: A network of a billion weights has some thousand tensors, of about 100 bytes each here.
_MAX_DIRECTORY_BYTES = 4 * 2**20
_MAX_PICKLE_BYTES = 4 * 2**20
_MAX_AXES = 8
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_REBUILD = "torch._utils _rebuild_tensor_v2"
_HOOKS = "collections OrderedDict"
_MARK = object()
_INTEGERS = {"BININT", "BININT1", "BININT2", "LONG1"}
_STRINGS = {"BINUNICODE", "SHORT_BINUNICODE"}
_IGNORED = {"PROTO", "FRAME"}


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


class NotTensors(ValueError):
    """The file is anything but a dict of dense tensors; the message says what was found."""


@dataclass(frozen=True)
class _Storage:
    dtype: torch.dtype
    record: str
    count: int


@dataclass(frozen=True)
class _Described:
    """A dense tensor: elements from `offset` of `storage` on, in order, as `shape`."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]


def read_tensors(data: bytes) -> dict[str, Tensor]:
    """Name -> tensor, each with its own memory; `NotTensors` for any other content, `zipfile.BadZipFile` for damage."""
    with io.BytesIO(data) as stream:
        check_directory(stream, _MAX_DIRECTORY_BYTES)
        with zipfile.ZipFile(stream) as archive:
            records = _records(archive, len(data))
            described = _describe(archive.read(records["data.pkl"]))
            byte_order = archive.read(records["byteorder"]) if "byteorder" in records else b"little"
            if byte_order != b"little":
                raise NotTensors("it was written by a big-endian computer")
            _check_records(described, records)
            return {name: _tensor(archive, records, one) for name, one in described.items()}


def _records(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """The files in torch's zip by their name below its one folder."""
    infos = archive.infolist()
    folder = next((i.filename[: -len("data.pkl")] for i in infos if i.filename.endswith("/data.pkl")), None)
    if folder is None or any(not info.filename.startswith(folder) for info in infos):
        raise NotTensors("it is not laid out as torch writes it")
    records = {info.filename[len(folder) :]: info for info in infos}
    if len(records) != len(infos):
        raise NotTensors("it holds a file twice")
    # torch writes its zip uncompressed; a compressed one could be a bomb.
    stored = all(i.compress_type == zipfile.ZIP_STORED and i.compress_size == i.file_size for i in infos)
    if not stored or any(i.flag_bits & 0x1 for i in infos) or sum(i.file_size for i in infos) > size:
        raise NotTensors("it is compressed or encrypted")
    if records["data.pkl"].file_size > _MAX_PICKLE_BYTES:
        raise NotTensors("its list of tensors is far too long")
    return records


def _describe(pickled: bytes) -> dict[str, _Described]:
    """Follow the pickle's operations as far as they describe a flat dict of tensors."""
    machine = _Machine()
    try:
        for operation, argument, _ in pickletools.genops(pickled):
            if operation.name == "STOP":
                break
            machine.step(operation.name, argument)
    except NotTensors:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, UnicodeError) as error:
        raise NotTensors(f"its list of tensors is damaged ({type(error).__name__})") from None
    return machine.result()


class _Machine:
    """A pickle's stack and memo, of values that are numbers, strings, tuples, dicts and descriptions of tensors."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _INTEGERS or name in _STRINGS:
            stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name == "GLOBAL":
            stack.append(_Global(argument))
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("NEWTRUE", "NEWFALSE"):
            stack.append(name == "NEWTRUE")
        elif name == "EMPTY_TUPLE":
            stack.append(())
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            parts = tuple(stack[-count:])
            if len(parts) != count:
                raise IndexError
            stack[-count:] = [parts]
        elif name == "TUPLE":
            stack.append(tuple(self._after_mark()))
        elif name == "BINPERSID":
            stack.append(_storage(stack.pop()))
        elif name == "REDUCE":
            arguments = stack.pop()
            stack.append(_reduced(stack.pop(), arguments))
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            _set(stack[-1], key, value)
        elif name == "SETITEMS":
            items = self._after_mark()
            for key, value in zip(items[::2], items[1::2], strict=True):
                _set(stack[-1], key, value)
        elif name not in _IGNORED:
            raise NotTensors(f"it holds more than tensors ({name})")

    def result(self) -> dict[str, _Described]:
        if len(self._stack) != 1 or not isinstance(self._stack[0], dict) or not self._stack[0]:
            raise NotTensors("it holds no dict of tensors")
        return self._stack[0]

    def _after_mark(self) -> list[Any]:
        place = len(self._stack) - 1
        while self._stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise IndexError
        items = self._stack[place + 1 :]
        del self._stack[place:]
        return items


@dataclass(frozen=True)
class _Global:
    """The name of something to import, which is not imported."""

    name: str

    def __post_init__(self) -> None:
        module, _, name = self.name.partition(" ")
        if self.name not in (_REBUILD, _HOOKS) and not (module == "torch" and name in _STORAGES):
            raise NotTensors(f"it holds more than tensors ({self.name[:80]!r})")


def _storage(reference: Any) -> _Storage:
    kind, storage, record, _location, count = reference
    dtype = _STORAGES[storage.name.partition(" ")[2]]
    if kind != "storage" or not isinstance(record, str) or type(count) is not int or count < 0:
        raise NotTensors("it refers to something else than its own numbers")
    return _Storage(dtype, record, count)


def _reduced(called: Any, arguments: Any) -> Any:
    """What torch's call would give: a description of the tensor, or the empty dict of its hooks."""
    if called == _Global(_HOOKS) and arguments == ():
        return {}
    if called != _Global(_REBUILD):
        raise NotTensors("it holds more than tensors")
    storage, offset, shape, strides, _requires_grad, _hooks, *rest = arguments
    numbers = (offset, *shape, *strides)
    if rest or not isinstance(storage, _Storage) or len(shape) != len(strides) or len(shape) > _MAX_AXES:
        raise NotTensors("it describes no dense tensor")
    if any(type(number) is not int or not 0 <= number < 2**62 for number in numbers):
        raise NotTensors("it describes a tensor of impossible size")
    step = 1
    for length, stride in zip(reversed(shape), reversed(strides), strict=True):
        # Along an axis of one element, and in an empty tensor, no stride is used.
        if length > 1 and stride != step and 0 not in shape:
            raise NotTensors("it describes a tensor that is a view of another")
        step *= length
    if offset + math.prod(shape) > storage.count:
        raise NotTensors("it describes a tensor larger than its numbers")
    return _Described(storage, offset, tuple(shape))


def _set(target: Any, key: Any, value: Any) -> None:
    if not isinstance(target, dict) or not isinstance(key, str) or not isinstance(value, _Described):
        raise NotTensors("it holds more than a flat dict of tensors")
    if key in target:
        raise NotTensors("it holds a tensor twice")
    target[key] = value


def _check_records(described: Mapping[str, _Described], records: Mapping[str, zipfile.ZipInfo]) -> None:
    """Every storage is there in full, and no two tensors share one: a weight would then change another."""
    used: set[str] = set()
    for one in described.values():
        record = f"data/{one.storage.record}"
        if record not in records:
            raise NotTensors("numbers of a tensor are missing")
        if records[record].file_size != one.storage.count * one.storage.dtype.itemsize:
            raise NotTensors("it describes a tensor of another size than its numbers")
        if record in used:
            raise NotTensors("two of its tensors share their numbers")
        used.add(record)


def _tensor(archive: zipfile.ZipFile, records: Mapping[str, zipfile.ZipInfo], one: _Described) -> Tensor:
    count = math.prod(one.shape)
    if count == 0:
        return torch.empty(one.shape, dtype=one.storage.dtype)
    numbers = bytearray(archive.read(records[f"data/{one.storage.record}"]))  # zipfile checks the CRC
    whole = torch.frombuffer(
        numbers, dtype=one.storage.dtype, count=count, offset=one.offset * one.storage.dtype.itemsize
    )
    return whole.reshape(one.shape)
