"""The surfaces of segments in 3D views, made as Slicer makes them but from each segment's own part of the label map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk

from ..errors import OutputError
from .content import content_stamp
from .layers import LABELMAP, Layer, block_of, image_matrix, oriented_image, outcome, places_of, segments_of

SURFACE = "Closed surface"
#: Surfaces of several segments at once: not to be had one by one.
_JOINT_SMOOTHING = "Joint smoothing"
_STL_HEADER_BYTES, _STL_TRIANGLE_BYTES = 84, 50


def surface_steps(node: Any) -> Iterator[float]:
    """Make the surfaces that `show_in_3d` shows, one segment a step, yielding the share done.

    What changes meanwhile is left to `show_in_3d`.
    """
    segmentation = node.GetSegmentation()
    if segmentation.ContainsRepresentation(SURFACE) or _is_joint(segmentation):
        return
    segments = segments_of(segmentation)
    places = places_of(segments)
    before, surfaces = content_stamp(node), []
    for segment_id in segments:
        if content_stamp(node) != before:
            return
        surfaces.append(_surface(segmentation, *places[segment_id]) if segment_id in places else vtk.vtkPolyData())
        yield len(surfaces) / len(segments)
    if content_stamp(node) == before and not segmentation.ContainsRepresentation(SURFACE):
        put_surfaces(node, surfaces)


def put_surfaces(node: Any, surfaces: Sequence[Any]) -> None:
    """Give a node's segments the surfaces (vtkPolyData) that were made of them, in their order."""
    segmentation = node.GetSegmentation()
    with slicer.util.NodeModify(node):
        for segment, surface in zip(segments_of(segmentation).values(), surfaces, strict=True):
            segment.AddRepresentation(SURFACE, surface)
        segmentation.InvokeEvent(segmentation.ContainedRepresentationNamesModified)
        segmentation.InvokeEvent(segmentation.RepresentationModified)


@dataclass(frozen=True, eq=False)
class Body:
    """A segment's part of a label map: `voxels` (K, J, I) of 0 and 1 from voxel `first` (i, j, k) on.

    `matrix` (4, 4) is IJK to the segmentation's coordinates.
    """

    voxels: np.ndarray
    first: tuple[int, int, int]
    matrix: np.ndarray


def bodies_of(node: Any) -> list[Body | None]:
    """What surfaces are made of, so that another process can; None for a segment without voxels."""
    segments = segments_of(node.GetSegmentation())
    places = places_of(segments)
    return [_body(*places[segment_id]) if segment_id in places else None for segment_id in segments]


def closed_surface(body: Body, parameters: str) -> Any:
    """The closed surface (vtkPolyData) in the segmentation's coordinates.

    `parameters` are conversion parameters as `vtkSegmentation.SerializeAllConversionParameters` gives them.
    """
    image = outcome(oriented_image(body.voxels, body.first, body.matrix))
    alone = slicer.vtkSegmentation()
    alone.DeserializeConversionParameters(parameters)
    alone.SetSourceRepresentationName(LABELMAP)
    segment = slicer.vtkSegment()
    segment.SetLabelValue(1)
    segment.AddRepresentation(LABELMAP, image)
    alone.AddSegment(segment, "alone")
    alone.CreateRepresentation(SURFACE)
    return segment.GetRepresentation(SURFACE)


def world_surface(node: Any, segment_id: str) -> Any:
    """A copy of a segment's closed surface (vtkPolyData) in RAS mm, below the node's transform; empty without one."""
    surface = vtk.vtkPolyData()
    slicer.vtkSlicerSegmentationsModuleLogic.GetSegmentClosedSurfaceRepresentation(node, segment_id, surface, True)
    return surface


def write_stl(surface: Any, path: Path) -> None:
    """Binary STL in LPS mm, as Slicer writes it; `OutputError` if the file does not hold every triangle."""
    triangles, to_lps, turned = vtk.vtkTriangleFilter(), vtk.vtkTransform(), vtk.vtkTransformPolyDataFilter()
    triangles.SetInputData(surface)
    to_lps.Scale(-1, -1, 1)
    turned.SetTransform(to_lps)
    turned.SetInputConnection(triangles.GetOutputPort())
    writer = vtk.vtkSTLWriter()
    writer.SetInputConnection(turned.GetOutputPort())
    writer.SetFileTypeToBinary()
    writer.SetHeader("3D Slicer output. SPACE=LPS")
    writer.SetFileName(str(path))
    writer.Write()
    whole = _STL_HEADER_BYTES + _STL_TRIANGLE_BYTES * turned.GetOutput().GetNumberOfPolys()
    if not path.is_file() or path.stat().st_size != whole:
        raise OutputError("A surface could not be written whole.", "Free some space, then export again.")


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


def is_shown_in_3d(node: Any) -> bool:
    """Whether there are surfaces, and 3D views may show them."""
    display = node.GetDisplayNode()
    has_surfaces = node.GetSegmentation().ContainsRepresentation(SURFACE)
    return bool(has_surfaces and display is not None and display.GetVisibility3D())


def _is_joint(segmentation: Any) -> bool:
    return segmentation.GetConversionParameter(_JOINT_SMOOTHING) not in ("", "0")


def _surface(segmentation: Any, layer: Layer, value: int) -> Any:
    """The closed surface (vtkPolyData) of the voxels with `value`, in the segmentation's coordinates."""
    body = _body(layer, value)
    if body is None:
        return vtk.vtkPolyData()
    return closed_surface(body, segmentation.SerializeAllConversionParameters())


def _body(layer: Layer, value: int) -> Body | None:
    mask = layer.voxels == value
    block = block_of(mask)
    if block is None:
        return None
    # With the label map's own indices: other coordinates would round, and so decimate, differently.
    k, j, i = (low + part.start for low, part in zip(layer.image.GetExtent()[4::-2], block, strict=True))
    return Body(mask[block].view(np.uint8), (i, j, k), image_matrix(layer.image))
