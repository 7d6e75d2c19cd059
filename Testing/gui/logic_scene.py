"""What the tests of the logic do with segmentations."""

from __future__ import annotations

from typing import Any


def segment_names(segmentation: Any) -> list[str]:
    content = segmentation.GetSegmentation()
    return [content.GetNthSegment(number).GetName() for number in range(content.GetNumberOfSegments())]


def edit(segmentation: Any) -> None:
    """Paint one voxel, as a user would with a brush."""
    from vtk.util.numpy_support import vtk_to_numpy

    segment = segmentation.GetSegmentation().GetNthSegment(0)
    labelmap = segment.GetRepresentation("Binary labelmap")
    voxels = vtk_to_numpy(labelmap.GetPointData().GetScalars())
    voxels[(voxels == 0).argmax()] = segment.GetLabelValue()
    labelmap.GetPointData().GetScalars().Modified()
    labelmap.Modified()
