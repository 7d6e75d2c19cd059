"""Segmentation nodes: filled from the network's labels, read back as label maps, recognised if a person edited them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import get_vtk_array_type, numpy_to_vtk, vtk_to_numpy

from ..errors import NodeError
from ..images.terminology_entry import terminology_entry
from ..images.volume import LabelMap
from ..labels import Label
from .matrices import ijk_to_ras, to_array, to_vtk
from .volumes import image_of

#: Digest of the voxels and names that were filled in; it is saved with the scene.
CONTENT_ATTRIBUTE = "MAESegment.Content"
_LABELMAP = "Binary labelmap"
_SURFACE = "Closed surface"


def segment_id_of(label: Label) -> str:
    """The same for every segmentation by every version of a model, so that scripts may rely on it."""
    return f"Segment_{label.value}"


def add_segmentation(
    volume: Any,
    labels: Sequence[Label],
    block: np.ndarray,
    origin_ijk: Sequence[int],
    *,
    name: str,
    into: Any = None,
) -> Any:
    """A segmentation node of `volume` with one segment a label, in the order of their values; empty ones stay.

    `block` (K, J, I) holds the label values, its first voxel is `origin_ijk` of the volume; it is copied. It becomes
    one label map that all segments share, as Slicer makes it when it imports one, without resampling: milliseconds.
    `into` is a segmentation node whose content is replaced.
    """
    scene = slicer.mrmlScene
    node = into if into is not None else scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    with slicer.util.NodeModify(node):
        # First: set later, it would be applied to the reference geometry and to the voxels.
        node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
        segmentation = node.GetSegmentation()
        segmentation.RemoveAllSegments()
        segmentation.SetSourceRepresentationName(_LABELMAP)
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        if node.GetDisplayNode() is None:
            node.CreateDefaultDisplayNodes()
        image = _oriented_image(block, origin_ijk, ijk_to_ras(volume))
        for label in sorted(labels, key=lambda label: label.value):
            segmentation.AddSegment(_segment(label, image), segment_id_of(label))
    remember_content(node)
    _put_beside(node, volume)
    return node


def is_edited(node: Any) -> bool:
    """Whether voxels, names or segments differ from what was filled in; also for content that never was.

    Colours, visibility and surfaces may change freely.
    """
    if node is None or node.GetSegmentation().GetNumberOfSegments() == 0:
        return False
    return bool(node.GetAttribute(CONTENT_ATTRIBUTE) != _digest(node))


def remember_content(node: Any) -> None:
    """From now on the present content counts as not edited."""
    node.SetAttribute(CONTENT_ATTRIBUTE, _digest(node))


def label_map_of(node: Any, volume: Any, labels: Sequence[Label]) -> LabelMap:
    """The segments as label values on the grid of `volume`, in world RAS; where they overlap the last label wins.

    Segments are found by `segment_id_of`, else by name; `NodeError` names those that are missing.
    """
    image = image_of([volume])
    array = np.zeros(image.channels[0].shape, np.uint8 if max(x.value for x in labels) < 256 else np.uint16)
    segmentation = node.GetSegmentation()
    missing = []
    for label in sorted(labels, key=lambda label: label.value):
        segment_id = segment_id_of(label)
        if segmentation.GetSegment(segment_id) is None:
            segment_id = segmentation.GetSegmentIdBySegmentName(label.name)
        if not segment_id:
            missing.append(label.name)
            continue
        if not _is_empty(segmentation.GetSegment(segment_id)):
            mask = slicer.util.arrayFromSegmentBinaryLabelmap(node, segment_id, volume)
            array[mask != 0] = label.value
    if missing:
        raise NodeError(
            f"{node.GetName()} has no segment for {', '.join(missing)}.", "Rename its segments as the model names them."
        )
    return LabelMap(array.transpose(2, 1, 0), image.ijk_to_world)


def surface_steps(node: Any) -> Iterator[float]:
    """Make the surfaces that `show_in_3d` shows, one segment a step, yielding the share done."""
    segmentation = node.GetSegmentation()
    if segmentation.ContainsRepresentation(_SURFACE):
        return
    count = segmentation.GetNumberOfSegments()
    surfaces = []
    for number in range(count):
        segment = segmentation.GetNthSegment(number)
        surfaces.append((segment, _surface(segment)))
        yield (number + 1) / count
    for segment, surface in surfaces:
        segment.AddRepresentation(_SURFACE, surface)
    segmentation.InvokeEvent(segmentation.ContainedRepresentationNamesModified)
    segmentation.InvokeEvent(segmentation.RepresentationModified)


def show_in_3d(node: Any, visible: bool) -> None:
    """Show or hide the surfaces in 3D views; made now if `surface_steps` has not."""
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    if visible:
        node.CreateClosedSurfaceRepresentation()
        node.GetDisplayNode().SetPreferredDisplayRepresentationName3D(_SURFACE)
    node.GetDisplayNode().SetVisibility3D(visible)


def _oriented_image(block: np.ndarray, origin_ijk: Sequence[int], matrix: np.ndarray) -> Any:
    """A vtkOrientedImageData with a copy of `block` (K, J, I) at `origin_ijk` of the grid `matrix`."""
    image = slicer.vtkOrientedImageData()
    if block.size:
        k, j, i = block.shape
        extent = [bound for first, n in zip(origin_ijk, (i, j, k), strict=True) for bound in (first, first + n - 1)]
        image.SetExtent(extent)
        scalars = numpy_to_vtk(np.ascontiguousarray(block).ravel(), True, get_vtk_array_type(block.dtype))
    else:
        # VTK wants at least one voxel; it is background.
        image.SetExtent(0, 0, 0, 0, 0, 0)
        scalars = numpy_to_vtk(np.zeros(1, np.uint8), True, get_vtk_array_type(np.uint8))
    scalars.SetName("ImageScalars")
    image.GetPointData().SetScalars(scalars)
    image.SetImageToWorldMatrix(to_vtk(matrix))
    return image


def _segment(label: Label, image: Any) -> Any:
    segment = slicer.vtkSegment()
    segment.SetName(label.name)
    segment.SetColor(*(component / 255 for component in label.colour))
    segment.SetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), terminology_entry(label.terminology))
    segment.SetLabelValue(label.value)
    segment.AddRepresentation(_LABELMAP, image)
    return segment


def _put_beside(node: Any, volume: Any) -> None:
    """Into the volume's study (or folder) of the subject hierarchy, where there is one."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    if hierarchy is None:
        return
    item = hierarchy.GetItemByDataNode(volume)
    if item:
        hierarchy.CreateItem(hierarchy.GetItemParent(item), node)


def _digest(node: Any) -> str:
    """Changes with the voxels, names and order of the segments, not with how Slicer stores them.

    Slicer crops label maps, renumbers their values and changes their type when it saves or edits; so values count by
    the order of the segments, and the block is cut to what is not background.
    """
    digest = hashlib.blake2b(digest_size=16)
    segmentation = node.GetSegmentation()
    layers: dict[str, tuple[Any, dict[int, int]]] = {}
    for number in range(segmentation.GetNumberOfSegments()):
        segment = segmentation.GetNthSegment(number)
        digest.update(f"{segmentation.GetNthSegmentID(number)}\0{segment.GetName()}\0".encode())
        image = segment.GetRepresentation(_LABELMAP)
        if image is not None:
            values = layers.setdefault(image.GetAddressAsString(""), (image, {}))[1]
            values[int(segment.GetLabelValue())] = number + 1
    for image, values in layers.values():
        _add_layer(digest, image, values)
    return digest.hexdigest()


def _add_layer(digest: Any, image: Any, values: dict[int, int]) -> None:
    """Add the voxels of one label map and their place to `digest`."""
    scalars = image.GetPointData().GetScalars()
    if scalars is None or image.IsEmpty():
        return
    i0, i1, j0, j1, k0, k1 = image.GetExtent()
    voxels = vtk_to_numpy(scalars).reshape(k1 - k0 + 1, j1 - j0 + 1, i1 - i0 + 1)
    largest = int(voxels.max())
    if list(values) != list(values.values()) or largest > max(values):
        table = np.zeros(max(largest, *values) + 1, np.uint16)
        for value, number in values.items():
            table[value] = number
        voxels = table[voxels]
    block = _block_of(voxels)
    if block is None:
        return
    voxels = voxels[block]
    k, j, i = (int(part.start) for part in block)
    matrix = to_array(_image_to_world(image))
    place = matrix @ np.array([i + i0, j + j0, k + k0, 1.0])
    digest.update(np.round(np.concatenate([matrix[:3, :3].ravel(), place[:3]]), 2).astype("<f4").tobytes())
    digest.update(np.array(voxels.shape, "<i4").tobytes())
    digest.update(np.ascontiguousarray(voxels, dtype="u1" if voxels.max() < 256 else "<u2").data)


def _block_of(voxels: np.ndarray) -> tuple[slice, ...] | None:
    """The smallest block that holds all that is not 0."""
    block: list[slice] = []
    for axis in range(3):
        found = np.flatnonzero(voxels[tuple(block)].any(axis=tuple({0, 1, 2} - {axis})))
        if not found.size:
            return None
        block.append(slice(int(found[0]), int(found[-1]) + 1))
    return tuple(block)


def _image_to_world(image: Any) -> Any:
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    return matrix


def _is_empty(segment: Any) -> bool:
    image = segment.GetRepresentation(_LABELMAP)
    if image is None or image.IsEmpty() or image.GetPointData().GetScalars() is None:
        return True
    return not np.any(vtk_to_numpy(image.GetPointData().GetScalars()) == segment.GetLabelValue())


def _surface(segment: Any) -> Any:
    """The closed surface of one segment, in the segmentation's coordinates."""
    alone = slicer.vtkSegmentation()
    alone.SetSourceRepresentationName(_LABELMAP)
    copy = slicer.vtkSegment()
    copy.SetLabelValue(segment.GetLabelValue())
    copy.AddRepresentation(_LABELMAP, segment.GetRepresentation(_LABELMAP))
    alone.AddSegment(copy, "alone")
    alone.CreateRepresentation(_SURFACE)
    return copy.GetRepresentation(_SURFACE)
