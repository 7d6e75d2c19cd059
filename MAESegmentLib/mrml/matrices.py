"""VTK's matrices as arrays, and the place of a node in the world."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk


def to_array(matrix: Any) -> np.ndarray:
    """(4, 4) of a vtkMatrix4x4."""
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def to_vtk(array: np.ndarray) -> Any:
    """The vtkMatrix4x4 of a (4, 4) array."""
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy([float(value) for value in np.asarray(array).ravel()])
    return matrix


def parent_to_world(node: Any) -> np.ndarray:
    """(4, 4), RAS mm: the linear transforms above `node`, the identity if there is none."""
    matrix = vtk.vtkMatrix4x4()
    parent = node.GetParentTransformNode()
    if parent is not None:
        slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(parent, None, matrix)
    return to_array(matrix)


def ijk_to_ras(volume: Any) -> np.ndarray:
    """(4, 4) of a volume node, without the transforms above it."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return to_array(matrix)
