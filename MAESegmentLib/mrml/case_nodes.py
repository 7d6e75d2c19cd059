"""Stored cases and the scene: which node is which case, whether it was edited since, and a case as nodes again."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from .. import mrml
from ..cases.records import IGNORE, CaseRecord, same_size
from ..cases.snapshot import LABEL, image_names
from ..cases.store import CaseStore
from ..errors import DatasetError, MAESegmentError
from ..images.hashing import VoxelHashes, version_of
from ..translation import tr as _
from .matrices import ijk_to_ras, to_vtk

#: The store's folder name and the case's id, as "hippocampus-mr/case-0003".
CASE = "MAESegment.Case"
#: What of the case the node was when it was stored: the content of the segmentation, and the hash of the image.
CONTENT = "MAESegment.CaseContent"
IMAGE = "MAESegment.CaseImage"

#: Runs a function in a thread and waits for it, while the program that the scene is in stays alive.
Aside = Callable[[Callable[[], None]], None]

_SINGLE_FILE, _LABEL_MAP = 4, 1
_NIFTI_HEADER = 348
#: What was found out about a node's content, until that changes: by node ID, (stamp, text, whether it differs).
_known: dict[str, tuple[Any, ...]] = {}
#: The hashes of what was identified, by the IDs of its nodes, with the stamp of then.
_images: dict[tuple[str, ...], tuple[tuple[Any, ...], dict[int, str]]] = {}


def link(segmentation: Any, store: CaseStore, record: CaseRecord, content: str, stamp: tuple[Any, ...]) -> None:
    """Note on the node, such that it is saved with the scene, that its `content` (of `stamp`) is stored as `record`."""
    segmentation.SetAttribute(CASE, f"{store.folder.name}/{record.id}")
    segmentation.SetAttribute(CONTENT, content)
    segmentation.SetAttribute(IMAGE, record.image_hash)
    _known[segmentation.GetID()] = (stamp, content, False)


def unlink(segmentation: Any) -> None:
    for name in (CASE, CONTENT, IMAGE):
        segmentation.RemoveAttribute(name)


def linked_case(segmentation: Any, store: CaseStore) -> CaseRecord | None:
    """The case that the node was stored as, or opened from, if `store` still has it."""
    family, _slash, case_id = (segmentation.GetAttribute(CASE) or "").rpartition("/")
    if family != store.folder.name:
        return None
    image = segmentation.GetAttribute(IMAGE)
    # Numbers begin again in another store of the same name.
    return next((one for one in store.list() if one.id == case_id and one.image_hash == image), None)


def is_changed(segmentation: Any) -> bool:
    """Whether the node is linked with a case, and is not what was stored any more."""
    content = segmentation.GetAttribute(CONTENT)
    if not content:
        return False
    now = (mrml.content_stamp(segmentation), content)
    known = _known.get(segmentation.GetID())
    if known is None or known[:2] != now:
        known = _known[segmentation.GetID()] = (*now, not mrml.has_content(segmentation, content))
    return bool(known[2])


def linked_segmentations() -> list[Any]:
    """Those of the scene that are linked with a case of any store."""
    nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    return [node for node in nodes if node.GetAttribute(CASE)]


def stored_volumes() -> list[Any]:
    """Volumes of the scene with a segmentation that is linked with a case."""
    return [mrml.volume_of(node) for node in linked_segmentations()]


def scan_names() -> dict[str, str]:
    """What the scans of stored cases are called that are in the scene, by the folder's name and the id of the case,
    which does not know it itself; what was identified, by the hash of the image."""
    names: dict[str, str] = {}
    for stamp, hashes in _images.values():
        nodes = [slicer.mrmlScene.GetNodeByID(node_id) for node_id, _time in stamp]
        if all(node is not None and node.GetImageData() is not None for node in nodes) and _image_stamp(nodes) == stamp:
            names |= dict.fromkeys(hashes.values(), nodes[0].GetName())
    links = [(node.GetAttribute(CASE), mrml.volume_of(node)) for node in linked_segmentations()]
    return names | {case: scan.GetName() for case, scan in links if scan is not None}


def find_duplicate(
    nodes: Sequence[Any], image: mrml.NodeImage, records: Sequence[CaseRecord], aside: Aside
) -> CaseRecord | None:
    """The case whose image has the same voxels. They are looked at only if a case has the same size, and `aside`:
    that takes up to a second."""
    look = identify(nodes, image, records)
    while look is not None:
        aside(look)
        look = identify(nodes, mrml.image_of(nodes), records)  # again, if the image was edited meanwhile
    hashes = _images[_ids(nodes)][1].values() if _ids(nodes) in _images else ()
    return next((one for one in _alike(image, records) if one.image_hash in hashes), None)


def identify(nodes: Sequence[Any], image: mrml.NodeImage, records: Sequence[CaseRecord]) -> Callable[[], None] | None:
    """What has to be run, in any thread, before `find_duplicate` knows; None if it does."""
    stamp = _image_stamp(nodes)
    recorded = [record.image_hash for record in _alike(image, records)]
    known = _images.get(_ids(nodes))
    if known is not None and known[0] == stamp and {version_of(one) for one in recorded} <= set(known[1]):
        return None
    if not recorded:
        return None

    def look() -> None:
        # Of types that are stored as they are; others have a hash that no case has.
        hashes = VoxelHashes([channel.T for channel in image.channels])
        hashes.among(recorded)
        _images[_ids(nodes)] = (stamp, hashes.computed)

    return look


def _alike(image: mrml.NodeImage, records: Sequence[CaseRecord]) -> list[CaseRecord]:
    return same_size((len(image.channels), *image.grid.shape), records)


def _ids(nodes: Sequence[Any]) -> tuple[str, ...]:
    return tuple(node.GetID() for node in nodes)


def _image_stamp(nodes: Sequence[Any]) -> tuple[Any, ...]:
    return tuple((node.GetID(), node.GetImageData().GetMTime()) for node in nodes)


def open_case(store: CaseStore, record: CaseRecord) -> tuple[Any, Any]:
    """Image (a list of nodes if it has several channels) and segmentation, linked with the case."""
    folder = store.case_path(record.id)
    names = image_names(record.channels)
    titles = [record.id] if len(names) == 1 else [f"{record.id} {number + 1}" for number in range(len(names))]
    volumes: list[Any] = []
    label_node = None
    try:
        for name, title in zip(names, titles, strict=True):
            volumes.append(_load(folder / name, title))
        label_node = _load(folder / LABEL, f"{record.id} labels", _LABEL_MAP)
        segmentation = _segmentation(store, record, volumes[0], label_node)
    except BaseException:
        for volume in volumes:
            mrml.remove_node(volume)
        raise
    finally:
        mrml.remove_node(label_node)
    link(segmentation, store, record, mrml.content_of(segmentation), mrml.content_stamp(segmentation))
    return (volumes[0] if len(volumes) == 1 else volumes), segmentation


def _segmentation(store: CaseStore, record: CaseRecord, volume: Any, label_node: Any) -> Any:
    voxels = slicer.util.arrayFromVolume(label_node)
    if voxels.shape != slicer.util.arrayFromVolume(volume).shape:
        raise DatasetError(
            _("Case {case}: the label map does not lie on its image's grid.").format(case=record.id),
            _("Remove the case, then add it again."),
        )
    labels = [label for label in _labels(store, record) if label.name in record.labels]
    block = np.where(voxels == IGNORE, 0, voxels).astype(np.uint8)
    name = mrml.unique_name(f"{record.id} segmentation")
    segmentation = mrml.add_segmentation(volume, labels, block, (0, 0, 0), name=name)
    # The user drew it: it must not pass for a result that can be replaced.
    mrml.forget_content(segmentation)
    return segmentation


def _labels(store: CaseStore, record: CaseRecord) -> tuple[Any, ...]:
    from ..cases.layout import parse_labels
    from ..cases.snapshot import RECORD

    try:
        content = json.loads((store.case_path(record.id) / RECORD).read_text(encoding="utf-8"))
        return parse_labels(content["values"])
    except (OSError, ValueError, KeyError, TypeError):
        return store.labels()


def _load(path: Path, title: str, options: int = 0) -> Any:
    """A volume node of the file, which Slicer will not write to when the scene is saved."""
    node = slicer.modules.volumes.logic().AddArchetypeVolume(str(path), title, _SINGLE_FILE | options)
    if node is None:
        raise MAESegmentError(_("{file} cannot be loaded.").format(file=path), _("Remove the case, then add it again."))
    storage = node.GetStorageNode()
    if storage is not None:
        slicer.mrmlScene.RemoveNode(storage)
    _unflip(node, path)
    return node


def _unflip(node: Any, path: Path) -> None:
    """Slicer turns left-handed images over as it loads them: turned back, they are known as the same image again."""
    with gzip.open(path) as stream:
        header = stream.read(_NIFTI_HEADER)
    if len(header) < _NIFTI_HEADER or not struct.unpack_from("<h", header, 254)[0]:
        return
    stored = np.eye(4)
    stored[:3] = np.frombuffer(header, "<f4", 12, 280).reshape(3, 4)
    loaded = ijk_to_ras(node)
    if np.linalg.det(stored) * np.linalg.det(loaded) < 0:
        voxels = slicer.util.arrayFromVolume(node)
        voxels[:] = voxels[::-1].copy()
        loaded[:3, 3] += loaded[:3, 2] * (len(voxels) - 1)
        loaded[:3, 2] *= -1
        node.SetIJKToRASMatrix(to_vtk(loaded))
        slicer.util.arrayFromVolumeModified(node)
