"""The scene of this process where code written for Slicer looks for it, and scans as its nodes."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from ..bundle.suitability import ScanFacts
from ..images.volume import Volume
from ..mrml.matrices import to_vtk
from ..mrml.scene import unique_name
from ..mrml.volumes import set_modality


def install(slicer_app: Any) -> None:
    """Make `slicer.mrmlScene`, `slicer.app` and `slicer.modules` those of a trame-slicer application."""
    slicer.mrmlScene = slicer_app.scene
    slicer.app = SimpleNamespace(
        applicationLogic=lambda: slicer_app.app_logic,
        mrmlScene=lambda: slicer_app.scene,
        processEvents=lambda: None,
    )
    logics = {
        "colors": slicer_app.color_logic,
        "volumes": slicer_app.volumes_logic,
        "segmentations": slicer_app.segmentations_logic,
        "terminologies": slicer_app.terminologies_logic,
        "subjecthierarchy": slicer_app.subject_hierarchy_logic,
    }
    slicer.modules = SimpleNamespace(
        **{name: SimpleNamespace(logic=lambda logic=logic: logic) for name, logic in logics.items()}
    )


#: Hounsfield units, a little above those of air: other grey values do not go so far down.
_AIR = -900


@dataclass(frozen=True, eq=False)
class Prepared:
    """A volume as an image of VTK, and the grey values that are shown; `volume` is what it was made of."""

    volume: Volume
    image: Any
    window: tuple[float, float]


def prepare(volume: Volume) -> Prepared:
    """The slow part of `volume_node`, for a thread: it does not touch the scene."""
    voxels = np.ascontiguousarray(volume.array[0].transpose(2, 1, 0))  # (K, J, I)
    if voxels.dtype == np.float16:
        voxels = voxels.astype(np.float32)
    elif voxels.dtype == bool:
        voxels = voxels.astype(np.uint8)
    image = vtk.vtkImageData()
    image.SetDimensions(*volume.grid.shape)
    image.GetPointData().SetScalars(numpy_to_vtk(voxels.reshape(-1), deep=True))
    image.GetScalarRange()
    return Prepared(volume, image, comfortable_window(voxels))


def volume_node(prepared: Prepared, name: str) -> Any:
    """A node of the first channel, on exactly the volume's grid."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", unique_name(name))
    node.SetIJKToRASMatrix(to_vtk(prepared.volume.ijk_to_ras))
    node.SetAndObserveImageData(prepared.image)
    node.CreateDefaultDisplayNodes()
    set_window(node, *prepared.window)
    set_unit(node)
    set_modality(node, ScanFacts.of(prepared.volume).modality)
    return node


def comfortable_window(voxels: np.ndarray) -> tuple[float, float]:
    """(low, high) that shows nearly all grey values; of a CT, soft tissue."""
    sample = voxels[:: max(1, voxels.shape[0] // 48), ::2, ::2].astype(np.float32)
    low, high = (float(value) for value in np.percentile(sample, (0.5, 99.5)))
    if low <= _AIR:
        return -160.0, 340.0
    return (low, high) if high > low else (low, low + 1.0)


def set_unit(node: Any) -> None:
    """Note that a CT's grey values are Hounsfield units, where Slicer notes it."""
    if node.GetImageData().GetScalarRange()[0] <= _AIR:
        unit = slicer.vtkCodedEntry()
        unit.SetValueSchemeMeaning("[hnsf'U]", "UCUM", "Hounsfield unit")
        node.SetVoxelValueUnits(unit)


def unit_of(node: Any) -> str:
    """As it stands behind a grey value; "" where it is not known."""
    unit = node.GetVoxelValueUnits()
    return "HU" if unit is not None and unit.GetCodeValue() == "[hnsf'U]" else ""


def set_window(node: Any, low: float, high: float) -> None:
    display = node.GetDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(float(low), float(high))


def roi_node(name: str, bounds: tuple[float, ...]) -> Any:
    """A box (R0, R1, A0, A1, S0, S1 in mm) that can be dragged in the views."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", name)
    node.CreateDefaultDisplayNodes()
    node.SetCenter([(low + high) / 2 for low, high in zip(bounds[::2], bounds[1::2], strict=True)])
    node.SetSize([high - low for low, high in zip(bounds[::2], bounds[1::2], strict=True)])
    display = node.GetDisplayNode()
    display.SetHandlesInteractive(True)
    display.SetFillOpacity(0.05)
    display.SetPropertiesLabelVisibility(False)
    return node


def voxels_of(node: Any) -> np.ndarray:
    """(K, J, I) view of a volume node's voxels."""
    return slicer.util.arrayFromVolume(node)
