"""The label maps inside a segmentation node: usually one that all its segments share, more where segments overlap."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import create_vtk_array, get_vtk_array_type, vtk_to_numpy

from .matrices import to_array, to_vtk

LABELMAP = "Binary labelmap"
#: What is done with so many voxels takes a few hundredths of a second.
VOXELS_AT_ONCE = 1 << 24


@dataclass(frozen=True, eq=False)
class Layer:
    """`voxels` is a (K, J, I) view; `matrix` (4, 4) leads from its indices to the node's own RAS.

    `segments` are (number among the segments, value in the voxels), in their order.
    """

    image: Any
    voxels: np.ndarray
    matrix: np.ndarray
    segments: tuple[tuple[int, int], ...]


def segments_of(segmentation: Any) -> dict[str, Any]:
    """The vtkSegments by their IDs, in their order."""
    numbers = range(segmentation.GetNumberOfSegments())
    return {segmentation.GetNthSegmentID(number): segmentation.GetNthSegment(number) for number in numbers}


def layers_of(segments: Iterable[Any]) -> list[Layer]:
    """In the order of their first segments; label maps without voxels are left out. No voxel is copied."""
    found: dict[str, tuple[Any, list[tuple[int, int]]]] = {}
    for number, segment in enumerate(segments):
        image = segment.GetRepresentation(LABELMAP)
        if image is not None:
            shared = found.setdefault(image.GetAddressAsString(""), (image, []))[1]
            shared.append((number, int(segment.GetLabelValue())))
    layers = []
    for image, segments in found.values():
        scalars = image.GetPointData().GetScalars()
        if scalars is not None and not image.IsEmpty():
            i0, i1, j0, j1, k0, k1 = image.GetExtent()
            voxels = vtk_to_numpy(scalars).reshape(k1 - k0 + 1, j1 - j0 + 1, i1 - i0 + 1)
            layers.append(Layer(image, voxels, moved(image_matrix(image), (k0, j0, i0)), tuple(segments)))
    return layers


def places_of(segments: Mapping[str, Any]) -> dict[str, tuple[Layer, int]]:
    """(layer, value in it) of each segment that has voxels, in the order of `segments`."""
    ids = list(segments)
    found = {ids[number]: (layer, value) for layer in layers_of(segments.values()) for number, value in layer.segments}
    return {segment_id: found[segment_id] for segment_id in ids if segment_id in found}


def image_matrix(image: Any) -> np.ndarray:
    """(4, 4) of a vtkOrientedImageData: from voxel indices to the node's own RAS."""
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    return to_array(matrix)


def moved(matrix: np.ndarray, first_kji: tuple[int, ...]) -> np.ndarray:
    """The matrix (4, 4) of the part of a (K, J, I) array that begins at `first_kji`."""
    result = matrix.copy()
    result[:3, 3] = (matrix @ np.array([*first_kji[::-1], 1.0]))[:3]
    return result


def block_of(voxels: np.ndarray) -> tuple[slice, slice, slice] | None:
    """The smallest part of a (K, J, I) array that holds all that is not 0; None if there is nothing."""
    # One pass along the memory; numpy's any() over two axes takes many times as long.
    plane = np.maximum.reduce(voxels, axis=0)
    rows, columns = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
    if not rows.size:
        return None
    first = next(k for k in range(voxels.shape[0]) if voxels[k].any())
    last = next(k for k in reversed(range(voxels.shape[0])) if voxels[k].any())
    return (
        slice(first, last + 1),
        slice(int(rows[0]), int(rows[-1]) + 1),
        slice(int(columns[0]), int(columns[-1]) + 1),
    )


def oriented_image(voxels: np.ndarray, first_ijk: tuple[int, ...], matrix: np.ndarray) -> Generator[float, None, Any]:
    """A vtkOrientedImageData with a copy of `voxels` (K, J, I), the first one at `first_ijk` of the grid `matrix`.

    A generator that returns it, and yields the share done now and then.
    """
    if not voxels.size:
        # VTK wants at least one voxel; it is background.
        voxels, first_ijk = np.zeros((1, 1, 1), voxels.dtype), (0, 0, 0)
    scalars = create_vtk_array(get_vtk_array_type(voxels.dtype))
    scalars.SetNumberOfValues(voxels.size)
    scalars.SetName("ImageScalars")
    copy = vtk_to_numpy(scalars).reshape(voxels.shape)
    for part in parts_of(voxels):
        copy[part] = voxels[part]
        yield part.stop / len(voxels)
    image = slicer.vtkOrientedImageData()
    sizes = voxels.shape[::-1]
    image.SetExtent(
        [bound for first, n in zip(first_ijk, sizes, strict=True) for bound in (int(first), int(first) + n - 1)]
    )
    image.GetPointData().SetScalars(scalars)
    image.SetImageToWorldMatrix(to_vtk(matrix))
    return image


def parts_of(voxels: np.ndarray) -> list[slice]:
    """Slices of the first axis that hold about `VOXELS_AT_ONCE` each."""
    step = max(1, VOXELS_AT_ONCE // voxels[0].size)
    return [slice(k, min(k + step, len(voxels))) for k in range(0, len(voxels), step)]


def outcome(steps: Generator[float, None, Any]) -> Any:
    """What a generator returns, without a stop between."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
