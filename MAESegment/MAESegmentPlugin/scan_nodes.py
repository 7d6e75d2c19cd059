"""The scans of the scene, and those of a folder that are not in it yet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from MAESegmentLib.errors import MAESegmentError

from .input_section import is_scan


def volumes() -> list[Any]:
    return [node for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if is_scan(node)]


def node_of(source: Any) -> Any:
    """The volume of a ranked scan, a node (the first of several channels) or a file, which is loaded."""
    if not isinstance(source, Path):
        node = source[0] if isinstance(source, Sequence) else source
        if node.GetScene() is None:
            raise MAESegmentError(_("{name} is no longer in the scene.").format(name=node.GetName()))
        return node
    known = next((node for node in volumes() if _file_of(node) == source), None)
    if known is not None:
        return known
    if not source.is_file():
        raise MAESegmentError(
            _("{name} is a folder of DICOM files.").format(name=source.name),
            _("Load it with the module DICOM, then look for the slice again among the scans of the scene."),
        )
    return slicer.util.loadVolume(str(source))


def _file_of(node: Any) -> Path | None:
    storage = node.GetStorageNode()
    return Path(storage.GetFileName()) if storage is not None and storage.GetFileName() else None
