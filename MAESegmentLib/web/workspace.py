"""What is open: the scans, which of them is shown, and the segmentations of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from .. import mrml
from ..images.volume import Volume
from . import slicer_scene


@dataclass(frozen=True)
class Scan:
    """`source` is the volume that was read, without its voxels: what a DICOM SEG refers to; its files are in `root`.

    `boxes` are the ROI nodes that were made for it, and go with it.
    """

    node: Any
    source: Volume
    notes: tuple[str, ...] = ()
    root: Path | None = None
    boxes: list[Any] = field(default_factory=list)


class Workspace:
    """Listeners are called after every change of what is open or chosen."""

    def __init__(self, display: Any) -> None:
        self.scans: list[Scan] = []
        self.scan: Scan | None = None
        self.segmentation: Any = None
        self._display = display
        self._listeners: list[Callable[[], None]] = []

    def add_listener(self, callback: Callable[[], None]) -> None:
        self._listeners.append(callback)

    def add(self, prepared: slicer_scene.Prepared, name: str, root: Path | None = None) -> Scan:
        """Put a scan that was read, from files below `root`, into the scene and show it."""
        node, volume = slicer_scene.volume_node(prepared, name), prepared.volume
        voxels = np.broadcast_to(np.zeros((), volume.array.dtype), volume.array.shape)
        return self._add(Scan(node, Volume(voxels, volume.ijk_to_ras, volume.source), volume.notes, root))

    def adopt(self, node: Any) -> Scan:
        """Take a volume that something else put into the scene, such as a stored case that was opened."""
        image = mrml.image_of([node])
        voxels = np.broadcast_to(np.zeros((), np.uint8), (1, *image.grid.shape))
        slicer_scene.set_window(node, *slicer_scene.comfortable_window(image.channels[0]))
        slicer_scene.set_unit(node)
        return self._add(Scan(node, Volume(voxels, image.ijk_to_world)))

    def _add(self, scan: Scan) -> Scan:
        self.scans.append(scan)
        self.show(scan)
        return scan

    def show(self, scan: Scan) -> None:
        """Make it the scan that is seen and worked on."""
        self.scan = scan
        self._display.show_volume_in_slice_background(scan.node)
        self._display.reset_views()
        mine = self.segmentations()
        self.choose(mine[-1] if mine else None)

    def remove(self, scan: Scan) -> None:
        """Forget a scan, its segmentations and its boxes."""
        for node in (*segmentations_of(scan.node), *scan.boxes, scan.node):
            if node.GetScene() is not None:
                mrml.remove_node(node)
        self.scans.remove(scan)
        if self.scans:
            self.show(self.scans[-1])
        else:
            self.scan = None
            self._display.show_volume_in_slice_background(None)
            self.choose(None)

    def choose(self, segmentation: Any) -> None:
        """The segmentation that is seen, corrected and exported; the others are hidden."""
        self.segmentation = segmentation
        for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
            if node.GetDisplayNode() is not None:
                node.GetDisplayNode().SetVisibility(node is segmentation)
        for callback in self._listeners:
            callback()

    def offer(self, segmentation: Any) -> None:
        """Choose a new segmentation if it is of the scan that is shown; hide it otherwise."""
        self.choose(segmentation if segmentation in self.segmentations() else self.segmentation)

    def segmentations(self) -> list[Any]:
        """Those of the scan that is shown, the newest last."""
        return segmentations_of(self.scan.node) if self.scan is not None else []

    def scan_of(self, node_id: str) -> Scan | None:
        return next((scan for scan in self.scans if scan.node.GetID() == node_id), None)


def segmentations_of(volume: Any) -> list[Any]:
    """The segmentations that were drawn on a volume."""
    nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    return [node for node in nodes if node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is volume]
