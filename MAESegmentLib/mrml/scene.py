"""The scene as a whole: names that are free, and the end of nodes that a job works on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, count
from typing import Any

import slicer
import vtk

from ..translation import tr as _

#: Of any kind.
Node: type[Any] = slicer.vtkMRMLNode


def unique_name(name: str) -> str:
    """`name`, with a number behind it if a node of the scene is called like that.

    Not Slicer's: it counts on where a node was removed, so that a scan that is opened again would be called otherwise.
    """
    names = chain([name], (f"{name}_{number}" for number in count(1)))
    return next(one for one in names if slicer.mrmlScene.GetFirstNodeByName(one) is None)


def distinct_name(node: Any) -> str:
    """The name of a node; "Head (2)" for the second one of the scene that is called "Head"."""
    alike = [one for one in slicer.util.getNodesByClass(node.GetClassName()) if one.GetName() == node.GetName()]
    number = alike.index(node) + 1 if node in alike else 1
    return f"{node.GetName()} ({number})" if number > 1 else str(node.GetName())


class SceneWatch:
    """Calls `abandon(reason)` when one of the nodes cannot be used any more, until `end`."""

    def __init__(self, nodes: Sequence[Any], abandon: Callable[[str], None]) -> None:
        self._ids = {node.GetID(): node.GetName() for node in nodes}
        self._abandon = abandon
        self._scene = scene = slicer.mrmlScene
        self._tags = [
            scene.AddObserver(slicer.vtkMRMLScene.StartCloseEvent, self._on_close),
            scene.AddObserver(slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent, self._on_removed),
        ]

    def end(self) -> None:
        for tag in self._tags:
            self._scene.RemoveObserver(tag)
        self._tags = []

    def _on_close(self, _scene: Any, _event: Any) -> None:
        self._abandon(_("The scene was closed while the scan was being segmented."))

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_removed(self, _scene: Any, _event: Any, node: Any) -> None:
        name = self._ids.get(node.GetID()) if node is not None else None
        if name is not None:
            self._abandon(_("{name} was removed from the scene while it was being segmented.").format(name=name))
