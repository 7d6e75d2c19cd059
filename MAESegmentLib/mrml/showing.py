"""What the slice views of Slicer show: one scan, and no segmentation of another one over it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import slicer
import vtk

from .segmentations import volume_of

#: Attribute of a display node that was hidden here, and not by the user.
_HIDDEN = "MAESegment.Hidden"


def show_in_views(volume: Any, point: Sequence[float] | None = None) -> int:
    """`volume` as the background, at `point` (RAS, mm). Returns how many segmentations of other scans were hidden now.

    They appear again with their scan, or by the user's hand.
    """
    views = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    is_new = any(view.GetBackgroundVolumeID() != volume.GetID() for view in views)
    slicer.util.setSliceViewerLayers(background=volume, fit=is_new)
    if point is not None:
        for view in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
            view.JumpSliceByCentering(*point)
    hidden = 0
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        display, scan = node.GetDisplayNode(), volume_of(node)
        if scan is volume and display is not None and display.GetAttribute(_HIDDEN):
            display.RemoveAttribute(_HIDDEN)
            display.SetVisibility(True)
        elif scan not in (None, volume):
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


def middle_of(segmentation: Any) -> tuple[float, float, float] | None:
    """Of all that is drawn in it (RAS, mm); None if nothing is."""
    bounds = [0.0] * 6
    segmentation.GetRASBounds(bounds)
    if not vtk.vtkMath.AreBoundsInitialized(bounds):
        return None
    low, high = bounds[0::2], bounds[1::2]
    return (low[0] + high[0]) / 2, (low[1] + high[1]) / 2, (low[2] + high[2]) / 2
