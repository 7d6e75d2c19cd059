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
    """`source` is the volume that was read, without its voxels: what DICOM refers to; its files are in `root`.

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
        #: Where two versions differ: shown over the segmentation of its scan, but never corrected, stored or exported.
        self.difference: Any = None
        #: By the scan's node.
        self._chosen: dict[str, Any] = {}
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
        before = self._chosen.get(scan.node.GetID())
        self.choose(before if before in mine else (mine or [None])[-1])

    def remove(self, scan: Scan) -> None:
        """Forget a scan, its segmentations and its boxes."""
        for node in (*(one for one in _all() if mrml.volume_of(one) is scan.node), *scan.boxes, scan.node):
            if node.GetScene() is not None:
                mrml.remove_node(node)
        if self.difference is not None and self.difference.GetScene() is None:
            self.difference = None
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
        if self.scan is not None:
            self._chosen[self.scan.node.GetID()] = segmentation
        for node in _all():
            if node.GetDisplayNode() is not None:
                is_over = node is self.difference and self.scan is not None and mrml.volume_of(node) is self.scan.node
                node.GetDisplayNode().SetVisibility(node is segmentation or is_over)
        for callback in self._listeners:
            callback()

    def offer(self, segmentation: Any) -> None:
        """Choose a new segmentation if it is of the scan that is shown; hide it otherwise."""
        self.choose(segmentation if segmentation in self.segmentations() else self.segmentation)

    def show_difference(self, segmentation: Any) -> None:
        """Over what is chosen; None: no longer."""
        self.difference = segmentation
        mine = self.segmentations()
        self.choose(self.segmentation or (mine or [None])[-1])

    def segmentations(self) -> list[Any]:
        """Those of the scan that is shown, the newest last."""
        return mrml.segmentations_of(self.scan.node) if self.scan is not None else []

    def scan_of(self, node_id: str) -> Scan | None:
        return next((scan for scan in self.scans if scan.node.GetID() == node_id), None)


def _all() -> list[Any]:
    return [*slicer.util.getNodesByClass("vtkMRMLSegmentationNode")]
