"""Volume and ROI nodes as the network needs them: voxels with their place in the world, or why they cannot be used.

And boxes for models that are made for one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer

from ..bundle.suitability import ScanFacts, locator_among, wants_box
from ..errors import NONLINEAR_TRANSFORM, GeometryError, MAESegmentError, NodeError
from ..images.volume import Grid
from ..translation import tr as _
from .matrices import ijk_to_ras, parent_to_world, to_array
from .scene import unique_name

if TYPE_CHECKING:
    from ..bundle import Bundle


#: The subject hierarchy's name for it.
_MODALITY = "DICOM.Modality"


@dataclass(frozen=True, eq=False)
class NodeImage:
    """`channels` are (K, J, I) views of the nodes' voxels; `ijk_to_world` is (4, 4), RAS mm, transforms included."""

    channels: tuple[np.ndarray, ...]
    ijk_to_world: np.ndarray

    @property
    def grid(self) -> Grid:
        k, j, i = self.channels[0].shape
        return Grid((i, j, k), self.ijk_to_world)


def image_of(nodes: Sequence[Any]) -> NodeImage:
    """The image of one volume node a channel; no voxel is copied.

    Raises `NodeError` for what is not a plain scalar volume, lies under a transform that is not linear, or differs from
    the first channel; `GeometryError` for a grid that is 2D, singular or sheared.
    """
    if not nodes or any(node is None for node in nodes):
        raise NodeError("No volume is chosen.", "Choose the scan to segment.")
    for node in nodes:
        if not hasattr(node, "IsA"):
            raise NodeError(f"{node!r} is not a volume of the scene.", "Load it, and give its node.")
    images = [_single(node) for node in nodes]
    first = images[0]
    for node, image in zip(nodes[1:], images[1:], strict=True):
        if difference := image.grid.difference(first.grid):
            raise NodeError(
                f"{node.GetName()} does not lie on the grid of {nodes[0].GetName()}: {difference}.",
                "Resample it first (Resample Image (BRAINS), with the other as reference).",
            )
    return NodeImage(tuple(image.channels[0] for image in images), first.ijk_to_world)


def facts_of(nodes: Sequence[Any]) -> ScanFacts:
    """What decides which model fits the volume nodes, one a channel; raises as `image_of`."""
    image = image_of(nodes)
    return ScanFacts(image.channels, image.grid, modality_of(nodes[0]))


def modality_of(node: Any) -> str:
    """What DICOM says of a volume node, as Slicer notes it in the subject hierarchy; "" if nothing."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item = hierarchy.GetItemByDataNode(node) if hierarchy is not None else 0
    return str(hierarchy.GetItemAttribute(item, _MODALITY) or "") if item else ""


def set_modality(node: Any, modality: str) -> None:
    """Note what DICOM says of a volume node where Slicer does."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    if hierarchy is not None and modality:
        item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
        hierarchy.SetItemAttribute(item, _MODALITY, modality)


def voxels_of(node: Any) -> np.ndarray:
    """The voxels (K, J, I) of a volume node that has some, as they are now; none is copied."""
    array: np.ndarray = slicer.util.arrayFromVolume(node)
    return array


def extent_of(node: Any, region: Any = None) -> tuple[float, ...]:
    """Along R, A and S in mm: of a volume, or of what of it lies in a region (an ROI node); 0 if it has no image."""
    if node.GetImageData() is None:
        return (0.0, 0.0, 0.0)
    bounds = [0.0] * 6
    node.GetRASBounds(bounds)
    box = roi_of(region) if region is not None else bounds
    lows, highs = zip(bounds[::2], box[::2], strict=True), zip(bounds[1::2], box[1::2], strict=True)
    return tuple(max(0.0, min(high) - max(low)) for low, high in zip(lows, highs, strict=True))


def problem_of(node: Any) -> MAESegmentError | None:
    """Why `node` cannot be segmented; None if it can."""
    try:
        image_of([node])
    except MAESegmentError as error:
        return error
    return None


def roi_of(node: Any) -> tuple[float, ...]:
    """(R0, R1, A0, A1, S0, S1): the box along the world's axes, in mm, around a (turned, transformed) ROI node."""
    if node is None or not node.IsA("vtkMRMLMarkupsROINode"):
        name = node.GetName() if node is not None else "It"
        raise NodeError(f"{name} is not a region of interest.", "Create an ROI in the Markups module.")
    half = np.array(node.GetSize()) / 2
    if node.GetNumberOfControlPoints() == 0 or not np.all(half > 0):
        raise NodeError(f"{node.GetName()} is empty.", "Place the region of interest in the views first.")
    parent = node.GetParentTransformNode()
    if parent is not None and not parent.IsTransformToWorldLinear():
        raise NodeError(
            f"{node.GetName()} lies under a transform that is not linear.",
            "Move it out of the transform (Data module).",
        )
    # Not GetRASBounds, which is that of the control points where the ROI is turned.
    to_world = to_array(node.GetObjectToWorldMatrix())
    corners = np.array([*product(*zip(-half, half, strict=True))]) @ to_world[:3, :3].T + to_world[:3, 3]
    low, high = corners.min(axis=0), corners.max(axis=0)
    return tuple(float(value) for pair in zip(low, high, strict=True) for value in pair)


def box_hint(bundle: Bundle | None, models: Iterable[Bundle]) -> str:
    """What to say if the model's author asks for a box around the structure, given the `models` there are; else ""."""
    if bundle is None or not (bundle.locator or wants_box(bundle)):
        return ""
    locator, reason = locator_among(bundle, lambda name: next((one for one in models if one.name == name), None))
    if locator is not None:
        text = _("Made for a box around the structure: without one, {locator} places it in a whole scan.")
        return text.format(locator=locator.name)
    text = _("Made for a box around the structure: choose or add one. Without it the whole scan is searched.")
    return f"{text} {reason}".strip()


def add_box(volume: Any, bundle: Bundle | None, centre: Sequence[float] | None = None) -> Any:
    """An ROI node of the model's window size, ready to be dragged; `centre` (RAS mm) is by default the volume's."""
    bounds = [0.0] * 6
    volume.GetRASBounds(bounds)
    low, high = np.array(bounds[0::2]), np.array(bounds[1::2])
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", _("{name} region").format(name=volume.GetName()))
    roi.CreateDefaultDisplayNodes()
    roi.SetCenter([float(value) for value in ((low + high) / 2 if centre is None else centre)])
    roi.SetSize([float(value) for value in np.minimum(window_mm(bundle), high - low)])
    display = roi.GetDisplayNode()
    if display is not None:
        display.SetHandlesInteractive(True)
        display.SetFillOpacity(0.1)
        # Its name would lie over what is found in it.
        display.SetPropertiesLabelVisibility(False)
    return roi


def window_mm(bundle: Bundle | None) -> np.ndarray:
    """Size (3,) of the network's window along R, A, S in mm."""
    if bundle is None:
        return np.full(3, 100.0)
    recipe = bundle.metadata["maesegment"]["preprocessing"]
    size = np.array(recipe["patch_size"], float) * np.array(recipe["spacing"], float)
    axes = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}
    result = np.empty(3)
    result[[axes[letter] for letter in recipe["orientation"]]] = size
    return result


def hardened_copy(volume: Any) -> Any:
    """A copy of `volume` with its transforms applied; where they are not linear the image is resampled."""
    name = unique_name(f"{volume.GetName()} hardened")
    copy = slicer.mrmlScene.AddNewNodeByClass(volume.GetClassName(), name)
    display = copy.GetDisplayNode()
    copy.CopyContent(volume)
    copy.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    if display is None:
        copy.CreateDefaultDisplayNodes()
    if copy.GetTransformNodeID():
        copy.HardenTransform()
    set_modality(copy, modality_of(volume))
    return copy


def _single(node: Any) -> NodeImage:
    name = node.GetName()
    _check_kind(node, name)
    image = node.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0 or image.GetPointData().GetScalars() is None:
        raise NodeError(f"{name} has no voxels.", "Load the scan, or choose another volume.")
    components = image.GetNumberOfScalarComponents()
    if components != 1:
        raise NodeError(
            f"{name} has {components} values a voxel (a colour or vector image).",
            "Convert it first (Vector to Scalar Volume), or choose a CT or MR scan.",
        )
    parent = node.GetParentTransformNode()
    if parent is not None and not parent.IsTransformToWorldLinear():
        raise NodeError(
            f"{name} lies under a transform that is not linear, so it has no regular grid in the world.",
            "Harden the transform on a copy of the volume and segment that, or move the volume out of the transform.",
            problem=NONLINEAR_TRANSFORM,
        )
    result = NodeImage((voxels_of(node),), parent_to_world(node) @ ijk_to_ras(node))
    try:
        result.grid.check()
    except GeometryError as error:
        raise GeometryError(f"{name}: {error.message}", error.hint) from None
    return result


def _check_kind(node: Any, name: str) -> None:
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        raise NodeError(f"{name} is a label map, not a scan.", "Choose the scan it was drawn on.")
    if node.IsA("vtkMRMLSequenceNode") or node.IsA("vtkMRMLMultiVolumeNode"):
        raise NodeError(
            f"{name} holds several frames.",
            "Open it in the Sequences module (a sequence browser) and segment its frames: Batch, or processSequence().",
        )
    if not node.IsA("vtkMRMLScalarVolumeNode"):
        raise NodeError(f"{name} is not a scalar volume ({node.GetNodeTagName()}).", "Choose a CT or MR scan.")
