"""Surfaces in the 3D view without a still window: only when somebody asks, large ones in a process of their own."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import vtk

from .. import mrml
from ..errors import WorkerError
from ..mrml import content_stamp
from ..processes.interpreter import choose_interpreter, module_launch

_MODULE = "MAESegmentLib.web.surface_maker"
#: Of so many voxels a surface takes some tenths of a second; a process would take longer to start.
_AT_ONCE = 400_000


class Surfaces:
    """One segmentation at a time; what is asked for last counts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._asked = 0

    async def show(self, node: Any, visible: bool, tell: Callable[[str], None]) -> None:
        """Show or hide the surfaces of a segmentation; `tell(text)` says what is being done."""
        self._asked += 1
        asked = self._asked
        if not visible:
            mrml.show_in_3d(node, False)
            tell("")
            return
        tell("making the surfaces")
        try:
            if not await self._make(node, lambda: asked == self._asked and node.GetScene() is not None):
                return
            mrml.show_in_3d(node, True)
        finally:
            tell("")

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
        surfaces = await self._made_aside(bodies, parameters)
        # What changed meanwhile is drawn again when the hand rests.
        if not wanted() or content_stamp(node) != stamp:
            return False
        mrml.put_surfaces(node, surfaces)
        return True

    async def _made_aside(self, bodies: Sequence[mrml.Body | None], parameters: str) -> list[Any]:
        folder = self._folder / f"surfaces-{self._asked}"
        folder.mkdir(parents=True)
        try:
            await asyncio.to_thread(_write, folder, bodies, parameters)
            launch = module_launch(choose_interpreter(environ={}), os.environ, _MODULE, [str(folder)])
            process = await asyncio.create_subprocess_exec(
                launch.program, *launch.arguments, env=dict(launch.environment), stdin=asyncio.subprocess.DEVNULL
            )
            if await process.wait() != 0:
                raise WorkerError("The surfaces could not be made.", "Save your work and try again.")
            return [_read(folder / f"{number}.vtp") for number in range(len(bodies))]
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _write(folder: Path, bodies: Sequence[mrml.Body | None], parameters: str) -> None:
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
