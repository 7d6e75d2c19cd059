"""What the slice views of Slicer show: one scan, and no segmentation of another one over it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import slicer
import vtk

from .layers import LABELMAP, block_of, layers_of, segments_of
from .segmentations import may_be_of, volume_of

#: Attribute of a display node that was hidden here, and not by the user.
_HIDDEN = "MAESegment.Hidden"


def show_in_views(volume: Any, point: Sequence[float] | None = None) -> int:
    """`volume` as the background, at `point` (RAS, mm). Returns how many segmentations of other scans were hidden now.

    They appear again with their scan, or by the user's hand.
    """
    is_new = any(shown != volume.GetID() for shown in _backgrounds())
    slicer.util.setSliceViewerLayers(background=volume, fit=is_new)
    if point is not None:
        for view in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
            view.JumpSliceByCentering(*point)
    hidden = 0
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        if volume_of(node) is volume and is_waiting(node):
            node.GetDisplayNode().RemoveAttribute(_HIDDEN)
            node.GetDisplayNode().SetVisibility(True)
        elif not may_be_of(node, volume):
            hidden += hide(node)
    return hidden


def hide(segmentation: Any) -> bool:
    """Until its scan is shown; False if it was hidden already."""
    display = segmentation.GetDisplayNode()
    if display is None or not display.GetVisibility():
        return False
    display.SetVisibility(False)
    display.SetAttribute(_HIDDEN, "1")
    return True


def is_waiting(segmentation: Any) -> bool:
    """Whether it was hidden until its scan is shown."""
    display = segmentation.GetDisplayNode()
    return display is not None and display.GetAttribute(_HIDDEN) is not None


def is_in_views(volume: Any) -> bool:
    """Whether a slice view shows the scan."""
    return volume is not None and volume.GetID() in _backgrounds()


def middle_of(segmentation: Any) -> tuple[float, float, float] | None:
    """Of all that is drawn in it (RAS, mm); None if nothing is: its bounds are those of a corner of the scan then."""
    content = segmentation.GetSegmentation()
    layers = layers_of(segments_of(content).values())
    if content.GetSourceRepresentationName() == LABELMAP and not any(block_of(layer.voxels) for layer in layers):
        return None
    bounds = [0.0] * 6
    segmentation.GetRASBounds(bounds)
    if not vtk.vtkMath.AreBoundsInitialized(bounds):
        return None
    low, high = bounds[0::2], bounds[1::2]
    return (low[0] + high[0]) / 2, (low[1] + high[1]) / 2, (low[2] + high[2]) / 2


def _backgrounds() -> list[str | None]:
    """The IDs of the scans in the slice views."""
    return [view.GetBackgroundVolumeID() for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")]
