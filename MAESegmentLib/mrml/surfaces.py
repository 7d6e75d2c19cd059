"""The surfaces of segments in 3D views, made as Slicer makes them but from each segment's own part of the label map."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import slicer
import vtk

from .layers import LABELMAP, Layer, block_of, image_matrix, layers_of, oriented_image, outcome, segments_of

SURFACE = "Closed surface"
#: Surfaces of several segments at once: not to be had one by one.
_JOINT_SMOOTHING = "Joint smoothing"


def surface_steps(node: Any) -> Iterator[float]:
    """Make the surfaces that `show_in_3d` shows, one segment a step, yielding the share done.

    What changes meanwhile is left to `show_in_3d`.
    """
    segmentation = node.GetSegmentation()
    if segmentation.ContainsRepresentation(SURFACE) or _is_joint(segmentation):
        return
    segments = list(segments_of(segmentation).values())
    places = {number: (layer, value) for layer in layers_of(segments) for number, value in layer.segments}
    before, surfaces = _stamp(segmentation), []
    for number in range(len(segments)):
        if _stamp(segmentation) != before:
            return
        surfaces.append(_surface(segmentation, *places[number]) if number in places else vtk.vtkPolyData())
        yield (number + 1) / len(segments)
    if _stamp(segmentation) != before or segmentation.ContainsRepresentation(SURFACE):
        return
    with slicer.util.NodeModify(node):
        for segment, surface in zip(segments, surfaces, strict=True):
            segment.AddRepresentation(SURFACE, surface)
        segmentation.InvokeEvent(segmentation.ContainedRepresentationNamesModified)
        segmentation.InvokeEvent(segmentation.RepresentationModified)


def show_in_3d(node: Any, visible: bool) -> None:
    """Show or hide the surfaces in 3D views; made now if `surface_steps` has not."""
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    if visible:
        for _ in surface_steps(node):
            pass
        node.CreateClosedSurfaceRepresentation()
        node.GetDisplayNode().SetPreferredDisplayRepresentationName3D(SURFACE)
    node.GetDisplayNode().SetVisibility3D(visible)


def _is_joint(segmentation: Any) -> bool:
    return segmentation.GetConversionParameter(_JOINT_SMOOTHING) not in ("", "0")


def _stamp(segmentation: Any) -> tuple[Any, ...]:
    """Changes whenever voxels or the list of segments do."""
    stamp = []
    for segment_id, segment in segments_of(segmentation).items():
        image = segment.GetRepresentation(LABELMAP)
        stamp.append((segment_id, image.GetMTime() if image is not None else 0))
    return tuple(stamp)


def _surface(segmentation: Any, layer: Layer, value: int) -> Any:
    """The closed surface (vtkPolyData) of the voxels with `value`, in the segmentation's coordinates."""
    mask = layer.voxels == value
    block = block_of(mask)
    if block is None:
        return vtk.vtkPolyData()
    # With the label map's own indices: other coordinates would round, and so decimate, differently.
    first = tuple(low + part.start for low, part in zip(layer.image.GetExtent()[::2], reversed(block), strict=True))
    image = outcome(oriented_image(mask[block].view(np.uint8), first, image_matrix(layer.image)))
    alone = slicer.vtkSegmentation()
    alone.CopyConversionParameters(segmentation)
    alone.SetSourceRepresentationName(LABELMAP)
    segment = slicer.vtkSegment()
    segment.SetLabelValue(1)
    segment.AddRepresentation(LABELMAP, image)
    alone.AddSegment(segment, "alone")
    alone.CreateRepresentation(SURFACE)
    return segment.GetRepresentation(SURFACE)
