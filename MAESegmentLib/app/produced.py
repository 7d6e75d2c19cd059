"""A result as it was made, and what was drawn into it, kept on its node: so the slices that a user corrects are known,
also after the scene was saved and opened again."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Generator, Mapping, Sequence
from typing import Any
from uuid import uuid4

import numpy as np

from ..mrml.redrawing import made_mark, mark_made
from ..worker.job_folder import full_label_array

PRODUCED, DRAWN, MADE = "MAESegment.Produced", "MAESegment.Drawn", "MAESegment.Made"
#: Characters: a scene file holds it as text. That of a larger scan is known until the program ends.
_LONGEST, _LONGEST_HERE = 120_000, 1 << 24
_PART = 1 << 22
#: The last ones by their marks: a state that Segment Editor's Undo brings back was made from another result.
_RECENT: dict[str, dict[str, str]] = {}
_MOST_RECENT = 40
_MOST_LAYERS = 100


def note_produced(node: Any, text: str) -> None:
    """Keep what `packed` made; what was drawn before is forgotten."""
    mark = uuid4().hex
    _RECENT[mark] = {PRODUCED: text, DRAWN: ""}
    for old in [*_RECENT][:-_MOST_RECENT]:
        del _RECENT[old]
    mark_made(node, mark)
    _write(node, mark)


def _write(node: Any, mark: str) -> None:
    """Into the attributes, which a scene keeps."""
    for name, text in {**_RECENT[mark], MADE: mark}.items():
        node.SetAttribute(name, text if 0 < len(text) <= _LONGEST else None)


def _note(node: Any, name: str) -> str:
    """What is noted of the voxels that the node has now; "" if nothing is known of them."""
    mark = made_mark(node)
    if mark in _RECENT:
        if node.GetAttribute(MADE) != mark:
            _write(node, mark)
        return _RECENT[mark][name]
    text = node.GetAttribute(name) or ""
    return text if mark and node.GetAttribute(MADE) == mark and len(text) <= _LONGEST else ""


def packed(
    block: np.ndarray, origin_ijk: Sequence[int], shape_ijk: Sequence[int], values: Mapping[str, int]
) -> Generator[float, None, str]:
    """The labels (block (K, J, I), as `JobFolder.read_labels` has them) of the segments `values` (by ID) as text, in
    steps of a few hundredths of a second; "" if that is too long."""
    header = {
        "origin": [int(index) for index in origin_ijk],
        "size": list(block.shape),
        "shape": [int(size) for size in shape_ijk],
        "type": block.dtype.str,
        "values": dict(values),
    }
    packer, parts, size = zlib.compressobj(1), [], 0
    step = max(1, _PART // max(1, block[:1].nbytes))
    for first in range(0, len(block), step):
        parts.append(packer.compress(np.ascontiguousarray(block[first : first + step]).data))
        size += len(parts[-1])
        if size > _LONGEST_HERE:
            return ""
        yield first / len(block)
    text = f"{json.dumps(header)}\n{base64.b64encode(b''.join([*parts, packer.flush()])).decode()}"
    return text


def produced_of(node: Any, shape_ijk: Sequence[int]) -> list[tuple[np.ndarray, dict[str, int]]]:
    """(labels (K, J, I) of a grid of that shape, their values by segment ID), several where segments overlap; [] if
    that is not known: files come from anywhere."""
    lines = _note(node, PRODUCED).split("\n")
    if len(lines) > 2 * _MOST_LAYERS:
        return []
    try:
        return [_unpacked(*pair, shape_ijk) for pair in zip(lines[::2], lines[1::2], strict=True)]
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, zlib.error):
        return []


def _unpacked(head: str, packed: str, shape_ijk: Sequence[int]) -> tuple[np.ndarray, dict[str, int]]:
    header = json.loads(head)
    types: dict[str, np.dtype[Any]] = {"|u1": np.dtype("u1"), "<u2": np.dtype("<u2")}
    dtype = types[header["type"]]
    size = [int(n) for n in header["size"]]
    origin = [int(n) for n in header["origin"]]
    ends = np.add(origin, size[::-1])
    is_of_it = list(header["shape"]) == [int(size) for size in shape_ijk]
    if not is_of_it or len(size) != 3 or min(*size, *origin) < 0 or np.any(ends > shape_ijk):
        raise ValueError("another grid")
    nbytes = int(np.prod(size)) * dtype.itemsize
    unpacker = zlib.decompressobj()
    voxels = unpacker.decompress(base64.b64decode(packed, validate=True), nbytes + 1)
    block = np.frombuffer(voxels, dtype).reshape(size)
    values = {str(name): int(value) for name, value in header["values"].items()}
    return full_label_array(block, origin, shape_ijk), values


def note_drawn(node: Any, drawn: Mapping[str, Any], ids: Mapping[int, str]) -> None:
    """Keep what an update found to be drawn, structures by segment ID."""
    mark = made_mark(node)
    _RECENT[mark][DRAWN] = json.dumps(_renamed(drawn, {str(value): one for value, one in ids.items()}))
    _write(node, mark)


def drawn_of(node: Any, values: Mapping[str, int]) -> dict[str, Any]:
    """What was drawn before, for the segments `values` (by ID); {} if nothing is known."""
    try:
        drawn = dict(json.loads(_note(node, DRAWN) or "{}"))
        return _renamed(drawn, values) if drawn else {}
    except (ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _renamed(drawn: Mapping[str, Any], names: Mapping[str, Any]) -> dict[str, Any]:
    """In all planes; what has no name is left out."""
    found = drawn.get("structures", {}).items()
    structures = {str(names[one]): list(slices) for one, slices in found if one in names}
    also = [_renamed(one, names) for one in drawn.get("also", ())]
    return {**drawn, "structures": structures, **({"also": also} if also else {})}
