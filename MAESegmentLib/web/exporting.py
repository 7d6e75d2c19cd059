"""A segmentation as a file: for Slicer, for research, for the archive, for printing."""

from __future__ import annotations

import asyncio
import zipfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any, TypeVar

from .. import mrml
from ..errors import NodeError, OutputError
from ..images.labels import Label, is_background
from ..images.segment_statistics import write_statistics
from ..images.volume import LabelMap
from ..storage.atomic_file import replacing
from ..storage.file_names import file_name, unique_file_names
from ..text import in_words
from ..translation import tr as _
from .door.confined import confined
from .workspace import Scan

T = TypeVar("T")


@dataclass(frozen=True)
class Format:
    """`ending` of the file; `title` and `hint` are what a user reads."""

    ending: str
    title: str
    hint: str


FORMATS = (
    Format(".seg.nrrd", _("3D Slicer (.seg.nrrd)"), _("Names, colours and terminology; 3D Slicer opens it.")),
    Format(".nii.gz", _("NIfTI (.nii.gz)"), _("Label values only, on the scan's grid.")),
    Format(".dcm", _("DICOM SEG (.dcm)"), _("For the archive (PACS).")),
    Format(".rtstruct.dcm", _("RTSTRUCT (.rtstruct.dcm)"), _("Contours, for radiotherapy planning.")),
    Format(
        ".csv", _("Statistics (.csv)"), _("Volume, grey values and extent, named as in Slicer's Segment Statistics.")
    ),
    Format(".zip", _("Surfaces (STL, zip)"), _("One closed surface per structure, in LPS mm.")),
)


async def stepped(steps: Generator[float, None, T]) -> T:
    """What a generator returns, a step a turn of the event loop."""
    while True:
        try:
            next(steps)
        except StopIteration as over:
            return over.value
        await asyncio.sleep(0)


def content_stamp(segmentation: Any) -> tuple[Any, ...]:
    """Changes whenever a file that is exported would: with voxels, names, colours, terminology or order; cheap."""
    return (segmentation.GetName(), *mrml.looks_of(segmentation), *mrml.content_stamp(segmentation))


def formats_of(scan: Scan) -> list[Format]:
    """What its segmentations can be written as: DICOM refers to the DICOM files of its scan."""
    return [one for one in FORMATS if not one.ending.endswith(".dcm") or scan.source.source is not None]


async def export(
    scan: Scan, segmentation: Any, ending: str, folder: Path, *, with_empty: bool = False
) -> tuple[Path, tuple[str, ...]]:
    """(the file, what to know about it). A structure without voxels is left out unless it is asked for, a background
    always."""
    every = mrml.drawn_segments(segmentation)
    segments = [segment for segment in every if not is_background(segment.name)]
    notes = []
    if any(not segment.is_empty for segment in every if segment not in segments):
        notes.append(_("Left out: the background, which is no structure but says where there is none."))
    if all(segment.is_empty for segment in segments):
        text = _("Nothing is drawn in {segmentation}.").format(segmentation=segmentation.GetName())
        raise NodeError(text, _("Segment or draw something first."))
    path = folder / (file_name(segmentation.GetName(), default="segmentation") + ending)
    if ending == ".zip":
        if not segmentation.GetSegmentation().ContainsRepresentation("Closed surface"):
            # It is made for the file: nobody asked for it in the views.
            mrml.show_in_3d(segmentation, False)
        for _step in mrml.surface_steps(segmentation):
            await asyncio.sleep(0)
        segmentation.CreateClosedSurfaceRepresentation()
        path, said = await _stl(segmentation, segments, path)
        return path, (*notes, *said)
    if ending == ".csv":
        rows = await stepped(mrml.statistics_steps(segmentation, [scan.node]))
        return write_statistics(path, [row for row in rows if with_empty or row[1].voxels]), tuple(notes)
    numbered = zip(segments, _labels(segments), strict=True)
    written = {segment: label for segment, label in numbered if with_empty or not segment.is_empty}
    values, labels = {segment.id: label.value for segment, label in written.items()}, list(written.values())
    drawing = await stepped(mrml.drawing_steps(segmentation, scan.node, values))
    label_map = LabelMap(drawing.array.transpose(2, 1, 0), drawing.ijk_to_world)

    def write() -> Path:
        from ..images.writing import write_label_map

        # DICOM reads the scan's files again.
        places = (scan.root, folder, Path(gettempdir())) if scan.root is not None else ()
        with confined(scan.node.GetName(), *places) if places else nullcontext():
            return write_label_map(path, label_map, labels, source=scan.source, volume_name=scan.node.GetName())

    names = {segment.id: in_words(segment.name) for segment in segments}
    text = _("{one} and {other} overlap in {count} voxels; there, {other} was written.")
    notes += [
        text.format(one=names[loser], other=names[winner], count=count) for loser, winner, count in drawing.overlaps
    ]
    if left_out := [in_words(segment.name) for segment in segments if segment not in written]:
        notes.append(_("Left out because they are empty: {names}.").format(names=", ".join(left_out)))
    return await asyncio.to_thread(write), tuple(notes)


def _labels(segments: Sequence[mrml.Segment]) -> list[Label]:
    """Values as the model has them, so that they mean the same in every file; a free one for what a user added."""
    values: list[int] = []
    for segment in segments:
        head, _dash, number = segment.id.partition("_")
        wanted = int(number) if head == "Segment" and number.isdecimal() else 0
        values.append(wanted if 0 < wanted < 1 << 16 and wanted not in values else 0)
    free = (number for number in range(1, 1 << 16) if number not in values)
    return [
        Label(value or next(free), segment.name, segment.colour, segment.terminology)
        for value, segment in zip(values, segments, strict=True)
    ]


async def _stl(segmentation: Any, segments: Sequence[mrml.Segment], path: Path) -> tuple[Path, tuple[str, ...]]:
    """One file a segment that has voxels, as many as were asked for or an error; and which had none."""
    drawn = [segment for segment in segments if not segment.is_empty]
    surfaces = {segment.id: mrml.world_surface(segmentation, segment.id) for segment in drawn}
    names = dict(zip(surfaces, unique_file_names((segment.name for segment in drawn), ".stl"), strict=True))
    without = [in_words(segment.name) for segment in drawn if surfaces[segment.id].GetNumberOfPolys() == 0]
    if without:
        text = _("No surface could be made of {segments}.").format(segments=", ".join(without))
        raise OutputError(text, _("Smooth the segment, or choose another format."))
    await asyncio.to_thread(_pack, path, {names[key]: surface for key, surface in surfaces.items()})
    text = _("{segment} is empty: it has no surface.")
    return path, tuple(text.format(segment=in_words(segment.name)) for segment in segments if segment.is_empty)


def _pack(path: Path, surfaces: Mapping[str, Any]) -> None:
    """A zip of one STL for each file name; `OutputError` if it cannot be written whole."""
    with replacing(path) as temporary:
        with (
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
            TemporaryDirectory(dir=path.parent) as aside,
        ):
            for number, (name, surface) in enumerate(surfaces.items()):
                # Only inside the zip it bears its name: not every file system takes every name.
                file = Path(aside) / f"{number}.stl"
                mrml.write_stl(surface, file)
                archive.write(file, name)
        with zipfile.ZipFile(temporary) as archive:
            written = archive.namelist()
    if sorted(written) != sorted(surfaces):
        text = _("{n} of {all} surfaces were written.").format(n=len(written), all=len(surfaces))
        raise OutputError(text, _("Free some space, then export again."))
