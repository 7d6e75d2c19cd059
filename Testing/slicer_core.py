"""Slicer's real MRML, from the slicer-core wheels, set up so that code written for Slicer finds what it looks for.

`start()` gives `slicer.mrmlScene`, `slicer.app` and `slicer.modules.<name>.logic()` on the real logics; it has no Qt.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import slicer
import vtk

_started: dict[str, Any] = {}


class Application:
    """The part of `slicer.app` that needs no Qt."""

    def __init__(self, logic: Any) -> None:
        self._logic = logic
        self.temporaryPath = tempfile.gettempdir()

    def applicationLogic(self) -> Any:  # noqa: N802
        return self._logic

    def mrmlScene(self) -> Any:  # noqa: N802
        return slicer.mrmlScene

    def processEvents(self) -> None:  # noqa: N802
        """There are none without Qt."""


def start() -> None:
    """Make the one scene of this process, with the logics a Slicer has; does nothing the second time."""
    if _started:
        return
    from trame_slicer.resources import resources_path

    scene = slicer.vtkMRMLScene()
    application_logic = slicer.vtkSlicerApplicationLogic()
    application_logic.SetMRMLScene(scene)
    application_logic.GetColorLogic().SetMRMLScene(scene)
    application_logic.GetColorLogic().AddDefaultColorNodes()
    logics = {
        "colors": ("Colors", slicer.vtkMRMLColorLogic()),
        "volumes": ("Volumes", slicer.vtkSlicerVolumesLogic()),
        "terminologies": ("Terminologies", slicer.vtkSlicerTerminologiesModuleLogic()),
        "segmentations": ("Segmentations", slicer.vtkSlicerSegmentationsModuleLogic()),
        "subjecthierarchy": ("SubjectHierarchy", slicer.vtkSlicerSubjectHierarchyModuleLogic()),
        "markups": ("Markups", slicer.vtkSlicerMarkupsLogic()),
        "sequences": ("Sequences", slicer.vtkSlicerSequencesLogic()),
    }
    modules = SimpleNamespace()
    for name, (title, logic) in logics.items():
        application_logic.SetModuleLogic(title, logic)
        if name == "terminologies":
            logic.SetModuleShareDirectory(str(resources_path() / "terminologies"))
        logic.SetMRMLApplicationLogic(application_logic)
        logic.SetMRMLScene(scene)
        setattr(modules, name, SimpleNamespace(logic=lambda logic=logic: logic, name=title))
    _add_cache(scene)
    slicer.mrmlScene = scene
    slicer.app = Application(application_logic)
    slicer.modules = modules
    _started.update(scene=scene, application_logic=application_logic, logics=logics)


def _add_cache(scene: Any) -> None:
    """Without one, scenes packed into one file (.mrb) cannot be read."""
    folder = tempfile.TemporaryDirectory(prefix="slicer-core-")
    cache, manager = slicer.vtkCacheManager(), slicer.vtkDataIOManager()
    cache.SetRemoteCacheDirectory(folder.name)
    cache.SetMRMLScene(scene)
    manager.SetCacheManager(cache)
    scene.SetCacheManager(cache)
    scene.SetDataIOManager(manager)
    _started["cache"] = folder


def fresh_scene() -> Any:
    """The scene, emptied; what a Slicer has in every scene stays."""
    start()
    scene = slicer.mrmlScene
    scene.Clear(0)
    # Singletons that a test made survive that.
    for kind in ("vtkMRMLScriptedModuleNode", "vtkMRMLSliceNode"):
        for singleton in [*slicer.util.getNodesByClass(kind)]:
            scene.RemoveNode(singleton)
    return scene


@contextmanager
def no_vtk_errors() -> Iterator[Any]:
    """VTK only prints errors; here they are an AssertionError at the end. Yields the window that collects them."""
    window = vtk.vtkStringOutputWindow()
    before = vtk.vtkOutputWindow.GetInstance()
    vtk.vtkOutputWindow.SetInstance(window)
    try:
        yield window
    finally:
        vtk.vtkOutputWindow.SetInstance(before)
    said = [line for line in window.GetOutput().split("\n\n") if "ERROR" in line.upper()]
    assert not said, "VTK reported errors:\n" + "\n".join(said)
