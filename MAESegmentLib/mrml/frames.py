"""The frames of a sequence (cine MR, perfusion): each is segmented as a volume, the results are a sequence again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import slicer

from ..errors import NodeError
from ..translation import tr as _


@dataclass(frozen=True, eq=False)
class Frame:
    """`volume` is the sequence's own node of this frame (not in the scene); `value` its place, e.g. a time."""

    number: int
    value: str
    title: str
    volume: Any


def frames_of(node: Any) -> list[Frame]:
    """The frames of a sequence node, or of the sequence that a volume node is the view of; empty if there is none."""
    sequence, _browser = find_sequence(node)
    if sequence is None:
        return []
    frames = []
    for number in range(sequence.GetNumberOfDataNodes()):
        value = sequence.GetNthIndexValue(number)
        unit = sequence.GetIndexUnit() or ""
        title = f"{sequence.GetName()} {number + 1}/{sequence.GetNumberOfDataNodes()} ({value} {unit})".replace(
            " )", ")"
        )
        frames.append(Frame(number, value, title, sequence.GetNthDataNode(number)))
    return frames


def find_sequence(node: Any) -> tuple[Any, Any]:
    """(sequence, browser) of a sequence node or of a node that shows one of its frames; (None, None) otherwise."""
    browsers = slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode") if node is not None else []
    if node is not None and node.IsA("vtkMRMLSequenceNode"):
        return node, next((one for one in browsers if one.IsSynchronizedSequenceNode(node, True)), None)
    for browser in browsers:
        sequence = browser.GetSequenceNode(node)
        if sequence is not None:
            return sequence, browser
    return None, None


def shown_beside(node: Any) -> Any:
    """The volume node by which the browser that shows `node` shows the sequence it follows; None without one."""
    _sequence, browser = find_sequence(node)
    master = browser.GetMasterSequenceNode() if browser is not None else None
    volume = browser.GetProxyNode(master) if master is not None else None
    return volume if volume is not None and volume.IsA("vtkMRMLVolumeNode") else None


def frame_name(node: Any) -> str:
    """Which frame of a sequence a volume node shows: "frame 2"; "" if it is of none."""
    _sequence, browser = find_sequence(node)
    number = browser.GetSelectedItemNumber() if browser is not None else -1
    return _("frame {number}").format(number=number + 1) if number >= 0 else ""


def frame_in_scene(frame: Frame, proxy: Any) -> Any:
    """A volume node of the scene with the frame's voxels, under the transform of `proxy`; hidden from selectors."""
    node = slicer.mrmlScene.AddNewNodeByClass(frame.volume.GetClassName(), frame.title)
    node.CopyContent(frame.volume)
    node.SetName(frame.title)
    node.SetHideFromEditors(True)
    if proxy is not None:
        node.SetAndObserveTransformNodeID(proxy.GetTransformNodeID())
    return node


def remove_node(node: Any) -> None:
    """Take a node out of the scene with its display and storage nodes, which Slicer would leave behind."""
    if node is None or node.GetScene() is None:
        return
    scene = node.GetScene()
    parts = [node.GetNthDisplayNode(number) for number in range(node.GetNumberOfDisplayNodes())]
    parts += [node.GetNthStorageNode(number) for number in range(node.GetNumberOfStorageNodes())]
    scene.RemoveNode(node)
    for part in parts:
        if part is not None and part.GetScene() is not None:
            scene.RemoveNode(part)


def show_frame(node: Any, number: int) -> None:
    """Let the browser of the sequence that `node` belongs to show its frame `number`."""
    _sequence, browser = find_sequence(node)
    if browser is not None:
        browser.SetSelectedItemNumber(number)


def add_segmentation_sequence(node: Any, segmentations: Sequence[tuple[Frame, Any]], *, name: str) -> Any:
    """A sequence of the segmentation nodes, by frame, shown by the same browser as `node`; returns the sequence node.

    The segmentation nodes are copied and may be removed afterwards.
    """
    sequence, browser = find_sequence(node)
    if sequence is None:
        raise NodeError(f"{node.GetName()} belongs to no sequence.", "Choose a sequence.")
    result = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
    result.SetIndexName(sequence.GetIndexName())
    result.SetIndexUnit(sequence.GetIndexUnit())
    result.SetIndexType(sequence.GetIndexType())
    for frame, segmentation in segmentations:
        result.SetDataNodeAtValue(segmentation, frame.value)
    if browser is not None:
        browser.AddSynchronizedSequenceNode(result)
        slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    return result
