"""A segmentation that another tool made, opened on the scan that is shown: to look at, correct, store and export."""

from __future__ import annotations

import asyncio
import colorsys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from trame.widgets import html
from trame.widgets import vuetify3 as v3

from ... import mrml
from ...cases.case import case_id
from ...errors import NodeError, VolumeReadError
from ...images.labels import Label
from ...images.scans import is_dicom, is_image
from ...images.volume import LabelMap
from ...mrml.layers import block_of
from ...text import visible
from ...translation import tr as _
from ..door.confined import confined
from ..exporting import content_stamp, stepped
from ..workspace import Scan
from .panel import Page, Panel, busy

#: No label map has so many values; a scan of whole numbers has.
_MOST_VALUES = 1000
_LONGEST_NAME = 120

#: Of one file: its voxels, and what their values stand for.
Part = tuple[LabelMap, tuple[Label, ...]]


class OpenSegmentation(Panel):
    prefix = "opening"

    def __init__(self, app: Page) -> None:
        super().__init__(app)
        self.put(busy="")
        app.server.trigger("segmentation_uploaded")(self._on_uploaded)

    def build(self) -> None:
        is_busy = (f"!!{self.name('busy')} || !!data_busy || is_uploading",)
        v3.VBtn(
            _("Open a segmentation of it"),
            prepend_icon="mdi-shape-plus",
            click="window.maesegment.choose('upload-segmentation')",
            disabled=is_busy,
            variant="tonal",
            block=True,
            id="open-segmentation",
            title=_("Made by another tool: .seg.nrrd, DICOM SEG, RTSTRUCT, label map, or a file for each structure."),
        )
        html.Input(
            id="upload-segmentation",
            type="file",
            style="display: none",
            change="window.maesegment.upload($event.target, trame)",
            raw_attrs=["multiple", 'data-trigger="segmentation_uploaded"'],
        )
        busy(self.name("busy"), id="opening-busy")

    async def _on_uploaded(self, upload: str, name: str) -> None:
        upload, uploads, scan = str(upload), self.app.uploads, self.workspace.scan
        title = visible(str(name))[-_LONGEST_NAME:]
        self.put(busy=_("Opening {name}").format(name=title))
        try:
            if scan is None:
                raise NodeError(_("There is no scan that it could be of."), _("Open its scan first."))
            root = uploads.folder(upload)
            parts, notes = await asyncio.to_thread(lambda: _read(uploads.scan(upload), root, scan))
            node, said = await _put(scan, parts, case_id(Path(title)) or title)
            self.app.unsaved.saved(node, content_stamp(node))
            self.workspace.offer(node)
            self.app.say(" ".join([*notes, *said]))
        except Exception as error:
            self.failed(error)
        finally:
            self.put(busy="")
            await asyncio.to_thread(uploads.forget, upload)


def _read(path: Path, root: Path, scan: Scan) -> tuple[list[Part], tuple[str, ...]]:
    """What the files hold, and what had to be assumed; slow. Files that name no structures are called after the file,
    never after a model's labels: other tools number as they like."""
    from ...images.formats.dicom.belonging import check_belongs, place_on
    from ...images.formats.dicom.structure_set import StructureSet
    from ...images.formats.overlapping import Overlapping
    from ...images.reading import read_drawing

    files = sorted(one for one in path.rglob("*") if is_image(one) or is_dicom(one)) if path.is_dir() else [path]
    parts: list[Part] = []
    notes = dict[str, None]()
    with confined(path.name, root, Path(tempfile.gettempdir())):
        for file in files:
            drawing, labels = read_drawing(file)
            if not isinstance(drawing, StructureSet):
                notes.update(dict.fromkeys(check_belongs(drawing, scan.source)))
            if isinstance(drawing, LabelMap):
                parts.append((drawing, labels or _named(file, drawing, sum(len(of) for _one, of in parts))))
                continue
            if isinstance(drawing, Overlapping):
                for layer in drawing.layers:
                    inside = set(np.unique(layer.array))
                    parts.append((layer, tuple(label for label in labels if label.value in inside)))
                continue
            values = {label.value for label in labels}
            for label in labels:  # contours, each for itself: they may overlap
                placed, said = place_on(drawing, scan.source, values - {label.value})
                notes.update(dict.fromkeys(said))
                parts.append((placed, (label,)))
    if not any(labels for _label_map, labels in parts):
        raise VolumeReadError(_("Nothing is segmented in this file."), _("Choose another one."))
    return parts, tuple(notes)


def _named(file: Path, label_map: LabelMap, before: int) -> tuple[Label, ...]:
    values = [int(value) for value in np.unique(label_map.array) if value]
    if len(values) > _MOST_VALUES:
        text = _("{name} is not a label map: it has {n} different values.")
        raise VolumeReadError(text.format(name=file.name, n=len(values)), _("Give the segmentation, not the scan."))
    stem = case_id(file)
    names = {value: stem if len(values) == 1 else f"{stem} {value}" for value in values}
    return tuple(Label(value, name, _colour(before + value)) for value, name in names.items())


def _colour(number: int) -> tuple[int, int, int]:
    """Neighbours in number are far apart in hue."""
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618 % 1.0, 0.6, 0.9)
    return round(255 * red), round(255 * green), round(255 * blue)


async def _put(scan: Scan, parts: Sequence[Part], name: str) -> tuple[Any, tuple[str, ...]]:
    """The node, on the scan's grid (each voxel has the nearest one's label), and which segments reach beyond it. What
    overlaps in two files still does."""
    segments: dict[str, Any] = {}
    outside: list[str] = []
    for label_map, labels in (part for part in parts if part[1]):
        numbers = range(len(segments) + 1, len(segments) + 1 + len(labels))
        ours = [replace(label, value=number) for number, label in zip(numbers, labels, strict=True)]
        values = {label.value: number for label, number in zip(labels, numbers, strict=True)}
        array = label_map.with_values(values).array.T
        names = {label.value: label.name for label in ours}
        drawing = await stepped(mrml.array_steps(array, label_map.ijk_to_ras, scan.node, names))
        outside += drawing.outside
        block = block_of(drawing.array) or (slice(0, 0),) * 3
        first = [part.start for part in block][::-1]
        segments.update(await stepped(mrml.prepare_segments(scan.node, ours, drawing.array[block], first)))
    node = mrml.put_segments(scan.node, segments, name=mrml.unique_name(name))
    mrml.forget_content(node)
    text = _("Beyond the scan, and left out there: {names}.")
    return node, (text.format(names=", ".join(outside)),) if outside else ()
