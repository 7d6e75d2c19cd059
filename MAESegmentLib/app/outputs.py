"""Which segmentation a result goes to: what was made of another scan, region or model stays as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import mrml
from ..bundle import Bundle
from ..translation import tr as _
from .case_proposal import MODEL, MODEL_HASH

#: Attributes of a result: the region as JSON (mm; null: the whole scan), what that was called, which frame of
#: a sequence it is of, and the result's own name but for a number behind it.
_REGION, _BOX, _FRAME, _NAME = "MAESegment.Region", "MAESegment.Box", "MAESegment.Frame", "MAESegment.Name"
#: Role of the references to the volumes that it was made of, one a channel.
_INPUT = "MAESegment.Input"
#: Attributes of what was made here begin so, and have at most so many characters.
_OURS, _LONGEST = "MAESegment.", 1 << 17
#: A box that was moved by less is the same box: saving a scene rounds.
_SAME_MM = 0.05

Box = Sequence[float] | None


def box_name(volume: Any, roi: Any) -> str:
    """What the region is called beside its volume: one that was added here begins with its name. "" for no region."""
    if roi is None:
        return ""
    name = str(roi.GetName()) if hasattr(roi, "GetName") else _("box")
    return name.removeprefix(volume.GetName()).strip() or name


def result_name(volume: Any, bundle: Bundle, *parts: str) -> str:
    """ "Head - hippocampus-mr (frame 2, left box)"."""
    return _with_parts(f"{mrml.distinct_name(volume)} - {bundle.name}", *parts)


def scan_title(segmentation: Any) -> str:
    """ "Head (left box)": of which scan a segmentation is, and of which part of it; "" if that is not known."""
    volume = mrml.volume_of(segmentation)
    parts = (segmentation.GetAttribute(name) or "" for name in (_FRAME, _BOX))
    return _with_parts(mrml.distinct_name(volume), *parts) if volume is not None else ""


def sign(node: Any, nodes: Sequence[Any], bundle: Bundle, box: Box, box_name: str, frame: str) -> None:
    """Note what a result was made of. One that bears just the name of what it was before, but for the number of
    `unique_name`, gets the name of what it is."""
    name = result_name(nodes[0], bundle, frame, box_name)
    before = node.GetAttribute(_NAME)
    if before and before != name and re.fullmatch(re.escape(before) + r"(_\d+)?", node.GetName()):
        node.SetName(mrml.unique_name(name))
    node.SetAttribute(_NAME, name)
    node.SetAttribute(_BOX, box_name)
    node.SetAttribute(_FRAME, frame)
    node.SetAttribute(MODEL, f"{bundle.name}@{bundle.version}")
    node.SetAttribute(MODEL_HASH, bundle.content_hash)
    node.SetAttribute(_REGION, json.dumps(None if box is None else [round(float(mm), 3) for mm in box]))
    node.RemoveNodeReferenceIDs(_INPUT)
    for volume in nodes:
        node.AddNodeReferenceID(_INPUT, volume.GetID())


def check_notes(notes: Mapping[str, Any]) -> None:
    """`ValueError` unless these, from a file, may be the attributes of a segmentation that was made here."""
    for name, value in notes.items():
        if not name.startswith(_OURS) or not isinstance(value, str) or len(name) + len(value) > _LONGEST:
            raise ValueError("these are not notes of a segmentation")
    _region(notes.get(_REGION, "null"))


def sign_again(node: Any, volume: Any, notes: Mapping[str, str]) -> None:
    """Give a segmentation that was kept the notes that it had; a result is one of `volume` again."""
    for name, value in notes.items():
        node.SetAttribute(name, value)
    if node.GetAttribute(MODEL_HASH):
        node.AddNodeReferenceID(_INPUT, volume.GetID())


def results_of(volume: Any) -> list[Any]:
    """The segmentations of a scan that models made, the newest last."""
    return [node for node in mrml.segmentations_of(volume) if node.GetAttribute(MODEL_HASH)]


def proper_output(chosen: Any, nodes: Sequence[Any], bundle: Bundle, box: Box) -> Any:
    """Where the result of `nodes` by `bundle` in `box` goes if `chosen` is the output; None: to a new segmentation.

    The result of another scan, region or model is left alone; what was made of the same before is made again.
    """
    if chosen is None or mrml.is_difference(chosen):
        return None
    if not chosen.GetAttribute(MODEL_HASH):
        return chosen
    same = [node for node in [*results_of(nodes[0]), chosen] if _is_of(node, nodes, bundle, box)]
    return chosen if chosen in same else (same or [None])[-1]


def _with_parts(text: str, *parts: str) -> str:
    known = ", ".join(part for part in parts if part)
    return f"{text} ({known})" if known else text


def _is_of(node: Any, nodes: Sequence[Any], bundle: Bundle, box: Box) -> bool:
    """Whether `node` is the result of just this."""
    inputs = [node.GetNthNodeReference(_INPUT, n) for n in range(node.GetNumberOfNodeReferences(_INPUT))]
    if node.GetAttribute(MODEL_HASH) != bundle.content_hash or inputs != [*nodes]:
        return False
    if (node.GetAttribute(_FRAME) or "") != mrml.frame_name(nodes[0]):
        return False
    try:
        noted = _region(node.GetAttribute(_REGION) or "[]")
    except (ValueError, TypeError):  # a scene comes from anywhere
        return False
    if noted is None or box is None:
        return noted is None and box is None
    return bool(np.allclose(noted, box, rtol=0, atol=_SAME_MM))


def _region(text: str) -> np.ndarray | None:
    """Six finite numbers; None is the whole scan. `ValueError` or `TypeError` for anything else."""
    noted = json.loads(text)
    if noted is None:
        return None
    bounds = np.array(noted, float).reshape(6)
    if not np.isfinite(bounds).all():
        raise ValueError("this is not a region")
    return bounds
