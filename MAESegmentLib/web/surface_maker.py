"""Makes closed surfaces of segments in a process of its own: `python -m MAESegmentLib.web.surface_maker FOLDER`.

Of each `N.npz` in the folder (see `mrml.Body`) it writes `N.vtp`, with no more triangles than are drawn smoothly
without a graphics card.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk

from .. import mrml

_MOST_TRIANGLES = 150_000
#: Cells along each side of the grid that is tried first, and of the coarsest.
_DIVISIONS, _FEWEST_DIVISIONS = 256, 48


def main(folder: Path) -> int:
    # It is this logic that knows how label maps become surfaces.
    scene, logic = slicer.vtkMRMLScene(), slicer.vtkSlicerSegmentationsModuleLogic()
    logic.SetMRMLScene(scene)
    parameters = (folder / "parameters").read_text()
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as data:
            i, j, k = (int(number) for number in data["first"])
            body = mrml.Body(data["voxels"], (i, j, k), data["matrix"])
        write(decimated(mrml.closed_surface(body, parameters)), path.with_suffix(".vtp"))
    return 0


def decimated(surface: Any) -> Any:
    """With at most so many triangles that turning it stays smooth."""
    if surface.GetNumberOfPolys() <= _MOST_TRIANGLES:
        return surface
    triangles = vtk.vtkTriangleFilter()
    triangles.SetInputData(surface)
    # Points that share a cell of a grid become one: seconds where better methods take minutes.
    fewer = vtk.vtkBinnedDecimation()
    fewer.SetInputConnection(triangles.GetOutputPort())
    fewer.SetPointGenerationModeToBinAverages()
    fewer.AutoAdjustNumberOfDivisionsOff()
    divisions = _DIVISIONS
    while True:
        fewer.SetNumberOfDivisions(divisions, divisions, divisions)
        fewer.Update()
        if fewer.GetOutput().GetNumberOfPolys() <= _MOST_TRIANGLES or divisions < _FEWEST_DIVISIONS:
            break
        divisions = divisions * 3 // 4
    normals = vtk.vtkPolyDataNormals()
    normals.SetInputConnection(fewer.GetOutputPort())
    normals.SplittingOff()
    # The triangles face outwards already; where they meet oddly, making them agree would turn whole parts inside out.
    normals.ConsistencyOff()
    normals.Update()
    return normals.GetOutput()


def write(surface: Any, path: Path) -> None:
    writer = vtk.vtkXMLPolyDataWriter()
    writer.SetFileName(str(path))
    writer.SetInputData(surface)
    writer.SetDataModeToAppended()
    writer.EncodeAppendedDataOff()
    writer.SetCompressorTypeToNone()
    writer.Write()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
