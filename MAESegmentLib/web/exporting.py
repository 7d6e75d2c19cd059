"""A segmentation as a file: for Slicer, for research, for the archive, for printing."""

from __future__ import annotations

import asyncio
import zipfile
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import slicer

from .. import mrml
from ..errors import NodeError, OutputError
from ..images.volume import LabelMap
from ..labels import Label
from .uploads import harmless_name
from .workspace import Scan

T = TypeVar("T")


@dataclass(frozen=True)
class Format:
    """`ending` of the file; `title` and `hint` are what a person reads."""

    ending: str
    title: str
    hint: str


FORMATS = (
    Format(".seg.nrrd", "3D Slicer (.seg.nrrd)", "Names, colours and terminology; 3D Slicer opens it."),
    Format(".nii.gz", "NIfTI (.nii.gz)", "Label values only, on the scan's grid."),
    Format(".dcm", "DICOM SEG (.dcm)", "For the archive (PACS); the scan must be DICOM."),
    Format(".zip", "Surfaces (STL, zip)", "One closed surface a segment, in LPS mm."),
)


async def stepped(steps: Generator[float, None, T]) -> T:
    """What a generator returns, a step a turn of the event loop."""
    while True:
        try:
            next(steps)
        except StopIteration as over:
            return over.value
        await asyncio.sleep(0)


async def export(scan: Scan, segmentation: Any, ending: str, folder: Path) -> tuple[Path, tuple[str, ...]]:
    """(the file, what to know about it)."""
    segments = mrml.drawn_segments(segmentation)
    if all(segment.is_empty for segment in segments):
        raise NodeError(f"Nothing is drawn in {segmentation.GetName()}.", "Segment or draw something first.")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (harmless_name(segmentation.GetName()) + ending)
    if ending == ".zip":
        await stepped(_surfaces(segmentation))
        return await _stl(segmentation, path), ()
    labels = _labels(segments)
    values = {segment.id: label.value for segment, label in zip(segments, labels, strict=True)}
    drawing = await stepped(mrml.drawing_steps(segmentation, scan.node, values))
    label_map = LabelMap(drawing.array.transpose(2, 1, 0), drawing.ijk_to_world)

    def write() -> Path:
        from ..images.writing import write_label_map

        return write_label_map(path, label_map, labels, source=scan.source, volume_name=scan.node.GetName())

    names = {segment.id: segment.name for segment in segments}
    notes = tuple(
        f"{names[loser]} and {names[winner]} overlap in {count} voxels; there, {names[winner]} was written."
        for loser, winner, count in drawing.overlaps
    )
    return await asyncio.to_thread(write), notes


def _labels(segments: Sequence[mrml.Segment]) -> list[Label]:
    """Values as the model has them, so that they mean the same in every file; a free one for what a person added."""
    values: list[int] = []
    for segment in segments:
        head, _underscore, number = segment.id.partition("_")
        wanted = int(number) if head == "Segment" and number.isdecimal() else 0
        values.append(wanted if 0 < wanted < 1 << 16 and wanted not in values else 0)
    free = (number for number in range(1, 1 << 16) if number not in values)
    return [
        Label(value or next(free), segment.name, segment.colour, segment.terminology)
        for value, segment in zip(values, segments, strict=True)
    ]


def _surfaces(segmentation: Any) -> Generator[float, None, None]:
    yield from mrml.surface_steps(segmentation)
    segmentation.CreateClosedSurfaceRepresentation()


async def _stl(segmentation: Any, path: Path) -> Path:
    folder = path.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    logic = slicer.modules.segmentations.logic()
    if not logic.ExportSegmentsClosedSurfaceRepresentationToFiles(str(folder), segmentation, None, "STL", True):
        raise OutputError("The surfaces could not be written.", "Is the disk full?")

    def pack() -> Path:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(folder.iterdir()):
                archive.write(file, file.name)
        return path

    return await asyncio.to_thread(pack)
