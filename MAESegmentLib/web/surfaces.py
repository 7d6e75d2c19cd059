"""Surfaces in the 3D view without a still window: only when somebody asks, large ones in a process of their own.

That process is `python -m MAESegmentLib.web.surfaces FOLDER`: of each `N.npz` in the folder (see `mrml.Body`) it writes
`N.vtp`, with no more triangles than are drawn smoothly without a graphics card.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk

from .. import mrml
from ..errors import WorkerError
from ..mrml import content_stamp
from ..processes.interpreter import choose_interpreter, module_launch
from ..translation import tr as _

_MODULE = "MAESegmentLib.web.surfaces"
#: Of so many voxels a surface takes some tenths of a second; a process would take longer to start.
_AT_ONCE = 400_000
_MOST_TRIANGLES = 150_000
#: Cells along each side of the grid that is tried first, and of the coarsest.
_DIVISIONS, _FEWEST_DIVISIONS = 256, 48


class Surfaces:
    """One segmentation at a time; what is asked for last counts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._asked = 0

    async def show(self, node: Any, visible: bool, report: Callable[[str], None]) -> None:
        """Show or hide the surfaces of a segmentation; `report(text)` says what is being done."""
        self._asked += 1
        asked = self._asked
        report(_("making the surfaces") if visible else "")
        try:
            if not visible or await self._make(node, lambda: asked == self._asked and node.GetScene() is not None):
                mrml.show_in_3d(node, visible)
        finally:
            report("")

    async def _make(self, node: Any, wanted: Callable[[], bool]) -> bool:
        """Whether the surfaces are there, and still wanted."""
        if node.GetSegmentation().ContainsRepresentation("Closed surface"):
            return wanted()
        stamp = content_stamp(node)
        bodies = mrml.bodies_of(node)
        if sum(body.voxels.size for body in bodies if body is not None) <= _AT_ONCE:
            for _part in mrml.surface_steps(node):
                await asyncio.sleep(0)
                if not wanted():
                    return False
            return True
        parameters = node.GetSegmentation().SerializeAllConversionParameters()
        folder = self._folder / f"surfaces-{self._asked}"
        try:
            surfaces = await made_aside(folder, bodies, parameters)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        # What changed meanwhile is drawn again when the hand rests.
        if not wanted() or content_stamp(node) != stamp:
            return False
        mrml.put_surfaces(node, surfaces)
        return True


async def made_aside(folder: Path, bodies: Sequence[mrml.Body | None], parameters: str) -> list[Any]:
    """The surface of each body, an empty one of None, made by another process that works in `folder`, a new one."""
    folder.mkdir(parents=True)
    await asyncio.to_thread(_write_bodies, folder, bodies, parameters)
    launch = module_launch(choose_interpreter(environ={}), os.environ, _MODULE, [str(folder)])
    process = await asyncio.create_subprocess_exec(
        launch.program, *launch.arguments, env=dict(launch.environment), stdin=asyncio.subprocess.DEVNULL
    )
    if await process.wait() != 0:
        raise WorkerError(_("The surfaces could not be made."), _("Save your work and try again."))
    return [_read(folder / f"{number}.vtp") for number in range(len(bodies))]


def _write_bodies(folder: Path, bodies: Sequence[mrml.Body | None], parameters: str) -> None:
    (folder / "parameters").write_text(parameters)
    for number, body in enumerate(bodies):
        if body is not None:
            np.savez(folder / f"{number}.npz", voxels=body.voxels, first=body.first, matrix=body.matrix)


def _read(path: Path) -> Any:
    if not path.exists():
        return vtk.vtkPolyData()
    reader = vtk.vtkXMLPolyDataReader()
    reader.SetFileName(str(path))
    reader.Update()
    return reader.GetOutput()


# In the other process -------------------------------------------------------------------------------------------------


def main(folder: Path) -> int:
    # It is this logic that knows how label maps become surfaces.
    scene, logic = slicer.vtkMRMLScene(), slicer.vtkSlicerSegmentationsModuleLogic()
    logic.SetMRMLScene(scene)
    parameters = (folder / "parameters").read_text()
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as data:
            i, j, k = (int(number) for number in data["first"])
            body = mrml.Body(data["voxels"], (i, j, k), data["matrix"])
        writer = vtk.vtkXMLPolyDataWriter()
        writer.SetFileName(str(path.with_suffix(".vtp")))
        writer.SetInputData(decimated(mrml.closed_surface(body, parameters)))
        writer.SetDataModeToAppended()
        writer.EncodeAppendedDataOff()
        writer.SetCompressorTypeToNone()
        writer.Write()
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


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
