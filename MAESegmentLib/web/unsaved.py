"""Segmentations that were not exported: kept on disk while they are drawn, so that no crash or restart loses them.

One file each, in a folder of the user's own; its name begins with what the scan is recognised by, so that a
segmentation is never offered for another scan.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import time
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk

from .. import mrml
from ..app.outputs import check_notes, sign_again
from ..errors import VolumeReadError, refused
from ..images.hashing import voxel_hash
from ..mrml.case_nodes import CONTENT as CASE_CONTENT
from ..mrml.case_nodes import is_changed
from ..mrml.content import CONTENT_TAG
from ..mrml.layers import LABELMAP, block_of, image_matrix, layers_of, oriented_image, outcome, segments_of
from ..mrml.redrawing import MADE_TAG
from ..storage.atomic_file import replacing
from ..storage.user_folders import make_private_folder
from ..translation import tr as _
from .exporting import content_stamp

_ENDING = ".npz"
#: Of all users together; the oldest go first.
_MOST_FILES, _MOST_BYTES, _LONGEST_S = 100, 2 << 30, 30 * 86400.0
#: What reading a damaged file may raise.
_DAMAGED = (
    OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, EOFError, MemoryError, zipfile.BadZipFile,
    zlib.error, NotImplementedError, RuntimeError, SyntaxError,
)  # fmt: skip


@dataclass(frozen=True)
class Kept:
    """What can be restored: of which scan (its name), and when it was kept last."""

    path: Path
    scan: str
    at: float

    @property
    def when(self) -> str:
        return time.strftime("%d %b %H:%M %Z", time.localtime(self.at))


class Unsaved:
    """`folder` is that of one user."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._images: dict[str, str] = {}
        self._files: dict[str, Path] = {}
        self._saved: dict[str, tuple[Any, ...]] = {}
        self._turn = asyncio.Lock()

    def is_unsaved(self, node: Any) -> bool:
        """Whether closing it would lose what a user drew: neither exported nor stored as a case as it is now."""
        return mrml.is_edited(node) and not self._is_saved(node) and _is_drawn(node)

    def saved(self, node: Any, stamp: tuple[Any, ...]) -> None:
        """The user has a file of what `stamp` (`content_stamp`) stands for."""
        self._saved[node.GetID()] = stamp

    async def keep(self, node: Any, volume: Any) -> None:
        """Write what is drawn on `volume` now in place of what was; nothing is kept of what is saved or empty."""
        async with self._turn:
            image = await self._image_of(volume)
            if node.GetScene() is None:
                return
            if self._is_saved(node) or not _is_drawn(node):
                self._drop(node)
                return
            path = self._files.setdefault(node.GetID(), self._new_file(image))
            arrays = _packed(node, image, volume.GetName())
            await asyncio.to_thread(_write, path, arrays)

    async def forget(self, node: Any) -> None:
        """Nothing is to be restored of it any more."""
        async with self._turn:
            self._drop(node)

    def leave(self, node: Any) -> None:
        """The node is about to be removed: what was kept can be offered again."""
        known: dict[str, Any]
        for known in (self._files, self._saved, self._images):
            known.pop(node.GetID(), None)

    async def found(self, volume: Any) -> list[Kept]:
        """What can be restored on this scan and is not open, the oldest first."""
        image = await self._image_of(volume)
        return [one for one in await self.list() if one.path.name.startswith(image)]

    async def list(self) -> list[Kept]:
        """What can be restored and is not open, of any scan."""
        return await asyncio.to_thread(_listed, self._folder, {*self._files.values()})

    async def restore(self, kept: Kept, volume: Any) -> Any:
        """The segmentation as a node of `volume`; `VolumeReadError` if the file is damaged."""
        async with self._turn:
            image = await self._image_of(volume)
            try:
                about, arrays = await asyncio.to_thread(_read, kept.path)
                if about["image"] != image:
                    raise ValueError("it is of another scan")
                check_notes(about["attributes"])
                segments = _segments(about, arrays)
                node = _node(volume, str(about["name"]), segments, about["attributes"])
            except _DAMAGED as error:
                text = _("The segmentation of {scan} that was kept on {time} cannot be read: its file is damaged.")
                raise VolumeReadError(
                    text.format(scan=volume.GetName(), time=kept.when), _("Discard it, and segment again.")
                ) from error
            # Another window's session may still write to that file.
            path = self._files[node.GetID()] = self._new_file(image)
            kept.path.rename(path)
            return node

    def discard(self, kept: Sequence[Kept]) -> None:
        for one in kept:
            one.path.unlink(missing_ok=True)

    def _is_saved(self, node: Any) -> bool:
        is_case = bool(node.GetAttribute(CASE_CONTENT)) and not is_changed(node)
        return is_case or self._saved.get(node.GetID()) == content_stamp(node)

    def _drop(self, node: Any) -> None:
        path = self._files.pop(node.GetID(), None)
        if path is not None:
            path.unlink(missing_ok=True)

    def _new_file(self, image: str) -> Path:
        return self._folder / f"{image}-{secrets.token_hex(6)}{_ENDING}"

    async def _image_of(self, volume: Any) -> str:
        """By what the scan is recognised: its voxels, and where they are."""
        key = volume.GetID()
        if key not in self._images:
            image = mrml.image_of([volume])
            voxels = await asyncio.to_thread(voxel_hash, [channel.T for channel in image.channels])
            place = np.round(image.ijk_to_world, 4) + 0.0
            self._images[key] = hashlib.sha256(f"{voxels}{place.tolist()}".encode()).hexdigest()[:32]
        return self._images[key]


def _is_drawn(node: Any) -> bool:
    return any(not segment.is_empty for segment in mrml.drawn_segments(node))


def _packed(node: Any, image: str, scan: str) -> dict[str, np.ndarray]:
    """Copies of the voxels, and everything else as JSON."""
    segments = segments_of(node.GetSegmentation())
    arrays: dict[str, np.ndarray] = {}
    places: dict[int, tuple[int, int]] = {}
    grids = []
    for number, layer in enumerate(layers_of(segments.values())):
        block = block_of(layer.voxels) or (slice(0, 0),) * 3
        start = [part.start + first for part, first in zip(block, layer.image.GetExtent()[-2::-2], strict=True)]
        arrays[f"layer{number}"] = layer.voxels[block].copy()
        grids.append({"first": start[::-1], "matrix": image_matrix(layer.image).tolist()})
        places |= {order: (number, value) for order, value in layer.segments}
    tags = (slicer.vtkSegment.GetTerminologyEntryTagName(), CONTENT_TAG, MADE_TAG)
    about = {
        "format": 1,
        "image": image,
        "scan": scan,
        "name": node.GetName(),
        "attributes": {name: node.GetAttribute(name) for name in node.GetAttributeNames() if "MAESegment" in name},
        "layers": grids,
        "segments": [
            {
                "id": segment_id,
                "name": segment.GetName(),
                "colour": segment.GetColor(),
                "tags": {tag: _tag(segment, tag) for tag in tags},
                "place": places.get(order),
            }
            for order, (segment_id, segment) in enumerate(segments.items())
        ],
    }
    return {"about": np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays}


def _tag(segment: Any, name: str) -> str:
    text = vtk.reference("")
    return str(text) if segment.GetTag(name, text) else ""


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    try:
        make_private_folder(path.parent)
    except OSError as error:
        raise refused(f"{path.parent} cannot be made", error) from error
    with replacing(path) as temporary:
        temporary.touch(mode=0o600)
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]
    _limit(path)


def _limit(newest: Path) -> None:
    """Remove the oldest beyond what all users together may keep, never the one just written."""
    files = []
    for path in newest.parent.parent.glob(f"*/*{_ENDING}"):
        status = path.stat()
        files.append((status.st_mtime, status.st_size, path))
    used = 0
    for count, (at, size, path) in enumerate(sorted(files, reverse=True), 1):
        used += size
        if path != newest and (count > _MOST_FILES or used > _MOST_BYTES or time.time() - at > _LONGEST_S):
            path.unlink(missing_ok=True)


def _listed(folder: Path, in_use: set[Path]) -> list[Kept]:
    found = []
    for path in folder.glob(f"[0-9a-f]*{_ENDING}"):
        if path not in in_use:
            try:
                scan = str(_read(path, voxels=False)[0]["scan"])
            except _DAMAGED:
                scan = ""
            found.append(Kept(path, scan, path.stat().st_mtime))
    return sorted(found, key=lambda one: one.at)


def _read(path: Path, *, voxels: bool = True) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What is known of it, and its label maps."""
    with np.load(path, allow_pickle=False) as arrays:
        about = json.loads(arrays["about"].tobytes())
        if about["format"] != 1:
            raise ValueError("a newer version wrote it")
        return about, {name: arrays[name] for name in arrays.files if voxels and name != "about"}


def _segments(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    images = []
    for number, grid in enumerate(about["layers"]):
        voxels, matrix = arrays[f"layer{number}"], np.array(grid["matrix"], float)
        if voxels.ndim != 3 or voxels.dtype.kind not in "iu" or matrix.shape != (4, 4) or not np.isfinite(matrix).all():
            raise ValueError("this is not a label map")
        images.append(outcome(oriented_image(voxels, tuple(map(int, grid["first"])), matrix)))
    segments = {}
    for one in about["segments"]:
        segment = segments[str(one["id"])] = slicer.vtkSegment()
        segment.SetName(one["name"])
        segment.SetColor(*map(float, one["colour"]))
        for tag, text in one["tags"].items():
            if text:
                segment.SetTag(tag, text)
        if one["place"] is not None:
            layer, value = one["place"]
            segment.SetLabelValue(int(value))
            segment.AddRepresentation(LABELMAP, images[layer])
    return segments


def _node(volume: Any, name: str, segments: dict[str, Any], attributes: dict[str, str]) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", mrml.unique_name(name))
    with slicer.util.NodeModify(node):
        node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
        node.GetSegmentation().SetSourceRepresentationName(LABELMAP)
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        node.CreateDefaultDisplayNodes()
        for segment_id, segment in segments.items():
            node.GetSegmentation().AddSegment(segment, segment_id)
        sign_again(node, volume, attributes)
    return node
