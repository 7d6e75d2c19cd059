"""Draws the README's pictures of the module: `python -m Testing.gui.make_screenshots Resources/Screenshots`.

The real module segments a real head with the shipped model in a real worker. The panel is drawn by Qt in the tests'
stand-in for Slicer, the views beside it by Slicer's own MRML and VTK classes; no window is opened.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import numpy as np
import slicer
import vtk
from PIL import Image
from vtk.util.numpy_support import vtk_to_numpy

from MAESegmentLib.images import read_volume
from MAESegmentLib.mrml.matrices import to_vtk
from MAESegmentLib.samples import head_path
from Testing.gui import standin
from Testing.gui.looking import Screenshot

MODULE_FOLDER = Path(__file__).resolve().parents[2] / "MAESegment"
_VIEW = (430, 360)
_AT = {"Red": ("Axial", -16.0), "Green": ("Coronal", -20.0), "Yellow": ("Sagittal", 28.0)}


def main(folder: Path) -> None:
    application = standin.install()
    # Shown as what is used where nothing is chosen.
    temporary = Path(tempfile.gettempdir()) / "Slicer-user"
    temporary.mkdir(exist_ok=True)
    application.temporaryPath = str(temporary)
    os.environ["MAESEGMENT_CASES"] = "/home/user/Documents/MAESegment cases"
    os.environ["MAESEGMENT_PYTHON"] = sys.executable
    os.environ["MAESEGMENT_MODELS"] = tempfile.mkdtemp()
    head = load_head()
    loaded = standin.load_module(MODULE_FOLDER, "MAESegment")
    loaded.show()
    panel = loaded.widget.panel
    panel.parameters.inputVolume = head
    panel.parameters.modelName = next(
        f"{bundle.name}@{bundle.version}" for bundle in loaded.logic.models() if bundle.name == "hippocampus-mr"
    )
    wait(lambda: panel.ui.segmentButton.enabled)
    grab = Screenshot(application, folder)
    panel.ui.segmentButton.click()
    wait(lambda: panel.ui.stageLabel.text.startswith("Segmenting"))
    grab(loaded.parent, "panel-running")
    wait(lambda: panel.job is None)
    # Once more, so that the time shown is that of a warm worker.
    panel.ui.segmentButton.click()
    wait(lambda: panel.job is None)
    panel.ui.show3DButton.checked = True
    wait(lambda: panel.result.segmentation.GetSegmentation().ContainsRepresentation("Closed surface"))
    done = Screenshot(application, Path(tempfile.mkdtemp()))(loaded.parent, "panel")
    beside(Image.open(done), draw_views(application.applicationLogic(), head)).save(
        folder / "slicer.png", optimize=True
    )
    panel.ui.advancedCollapsibleButton.collapsed = False
    panel.ui.batchCollapsibleButton.collapsed = False
    wait(lambda: len(loaded.logic.session.client.devices_known) > 0)
    grab(loaded.parent, "panel-advanced")
    client = loaded.logic.session.client
    standin.unload_module("MAESegment")
    wait(lambda: client.is_ended)


def wait(condition: Callable[[], Any], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the module does not get there")
        slicer.app.processEvents()
        time.sleep(0.005)


def load_head() -> Any:
    """The MNI152 head, as Slicer would load it."""
    image = read_volume(head_path())
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "MNI152 T1 head")
    slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(image.array[0].transpose(2, 1, 0)))
    node.SetIJKToRASMatrix(to_vtk(image.ijk_to_ras))
    node.CreateDefaultDisplayNodes()
    return node


def draw_views(application_logic: Any, volume: Any) -> list[Image.Image]:
    """Slicer's four-up layout of the scene: axial, 3D, coronal, sagittal."""
    from trame_slicer.views import SliceView, ThreeDView

    scene = slicer.mrmlScene
    application_logic.SetSliceLogics(vtk.vtkCollection())
    application_logic.SetViewLogics(vtk.vtkCollection())
    slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance().SetMRMLApplicationLogic(application_logic)
    slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance().SetMRMLApplicationLogic(application_logic)
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    pictures = []
    for name, (orientation, offset) in _AT.items():
        view = SliceView(scene, application_logic, name)
        view.render_window().SetSize(*_VIEW)
        view.interactor().UpdateSize(*_VIEW)
        view.set_orientation(orientation)
        view.set_background_volume_id(volume.GetID())
        view.fit_view_to_content()
        view.set_slice_value(offset)
        pictures.append(picture_of(view))
    space = ThreeDView(scene, application_logic, "ThreeD")
    space.render_window().SetSize(*_VIEW)
    space.interactor().UpdateSize(*_VIEW)
    look_at_segments(space)
    pictures.insert(1, picture_of(space))
    return pictures


def look_at_segments(view: Any) -> None:
    """From the left and above, close enough."""
    camera = view.renderer().GetActiveCamera()
    camera.SetFocalPoint(-27.0, -22.0, -14.0)
    camera.SetPosition(-150.0, 60.0, 60.0)
    camera.SetViewUp(0.0, 0.0, 1.0)
    view.renderer().ResetCameraClippingRange()


def picture_of(view: Any) -> Image.Image:
    view.render()
    grabber = vtk.vtkWindowToImageFilter()
    grabber.SetInput(view.render_window())
    grabber.ReadFrontBufferOff()
    grabber.Update()
    image = grabber.GetOutput()
    width, height, _ = image.GetDimensions()
    pixels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)[::-1]
    return Image.fromarray(pixels[..., :3].copy())


def beside(panel: Image.Image, views: list[Image.Image]) -> Image.Image:
    """The panel left of two rows of two views, as in Slicer's window."""
    width, height = _VIEW
    gap = 3
    whole = Image.new("RGB", (panel.width + 2 * (width + gap), max(panel.height, 2 * height + gap)), "#efefef")
    whole.paste(panel, (0, 0))
    for number, picture in enumerate(views):
        whole.paste(picture, (panel.width + gap + number % 2 * (width + gap), number // 2 * (height + gap)))
    return whole


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "Resources/Screenshots"))
