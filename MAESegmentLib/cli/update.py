"""`maesegment update`: the rest of a scan follows from what was drawn on some of its slices."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigurationError, OutputError
from . import options
from .segment import check_output
from .terminal import ProgressBar, make_console, make_table, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..bundle import Bundle
    from ..images.labels import Label
    from ..images.volume import LabelMap, Volume
    from ..propagation.update import Updated


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scan", type=Path, metavar="SCAN", help="the scan: a file, or a DICOM folder")
    parser.add_argument(
        "segmentation",
        type=Path,
        metavar="SEGMENTATION",
        help="what was drawn on it: a result of which some slices were corrected, or structures drawn on some slices",
    )
    options.add_out(parser, "OUT", "a .seg.nrrd, .nii.gz, or for DICOM input .dcm or .rtstruct.dcm file", required=True)
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    parser.add_argument(
        "--before", type=Path, metavar="RESULT", help="the result before it was corrected: slices that differ were"
    )
    options.add_model(parser, "the model whose labels the values are, for files that give them no names")
    parser.add_argument(
        "--axis",
        default="",
        metavar="PLANE",
        help="the plane that was drawn in: axial, coronal or sagittal (default: found)",
    )
    options.add_device(parser)
    options.add_quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    inputs = [arguments.scan, arguments.segmentation, *([arguments.before] if arguments.before else [])]
    if arguments.out.resolve() in {path.resolve() for path in inputs}:
        raise OutputError(f"{arguments.out} is what was drawn; it is not overwritten.", "Choose another name with -o.")
    check_output(arguments.out, overwrite=arguments.overwrite)

    from ..bundle.library import ModelLibrary
    from ..images.labels import is_background
    from ..images.reading import read_volume
    from ..images.writing import check_label_map_destination, write_label_map
    from ..propagation.drawn import axis_of_plane
    from ..propagation.update import update_scan

    bundle = ModelLibrary().find(arguments.model, verify=True) if arguments.model else None
    volume = read_volume(arguments.scan)
    now, labels, is_named = _read(arguments.segmentation, volume, bundle)
    before = None
    if arguments.before:
        before, labels = _before(arguments.before, volume, labels, is_named, bundle)
    check_label_map_destination(arguments.out, source=volume, labels=labels)
    with ProgressBar("Updating", shown=not arguments.quiet) as bar:
        updated = update_scan(
            now,
            before.array if before is not None else None,
            {label.value: label.name for label in labels},
            volume=volume,
            axis=axis_of_plane(arguments.axis, volume.ijk_to_ras) if arguments.axis else None,
            report=bar.update,
        )
    labels = tuple(label for label in labels if not is_background(label.name))
    path = write_label_map(arguments.out, updated.label_map, labels, source=volume, volume_name=arguments.scan.name)
    if not arguments.quiet:
        _print_result(updated, path)
    return 0


def _read(path: Path, volume: Volume, bundle: Bundle | None) -> tuple[LabelMap, tuple[Label, ...], bool]:
    """On the scan's grid, with a name for each value; and whether the file or the model has any names."""
    import numpy as np

    from ..images.formats.dicom.belonging import place_on
    from ..images.labels import Label, distinct_colour
    from ..images.reading import read_drawing

    drawing, labels = read_drawing(path)
    label_map, notes = place_on(drawing, volume)
    for note in notes:
        say(f"note: {note}", error=True)
    known = {label.value: label for label in labels or (bundle.labels if bundle is not None else ())}
    is_named = bool(known)
    for value in sorted({int(value) for value in np.unique(label_map.array)} - {0, *known}):
        known[value] = Label(value, f"label {value}", distinct_colour(value))
    return label_map, tuple(known.values()), is_named


def _before(
    path: Path, volume: Volume, labels: tuple[Label, ...], is_named: bool, bundle: Bundle | None
) -> tuple[LabelMap, tuple[Label, ...]]:
    """The result with the values of what was drawn, by the names of the structures; and all structures of both."""
    before, were, was_named = _read(path, volume, bundle)
    if was_named != is_named:
        say("note: only one of the two segmentations names its structures; they were matched by value.", error=True)
    same = _same(were, labels, by_value=was_named != is_named)
    free = max([0, *(label.value for label in labels)])
    for label in were:
        if label.value not in same:
            free += 1
            same[label.value] = replace(label, value=free)
            labels = (*labels, same[label.value])
    if free > 65535:
        raise ConfigurationError("The two segmentations have more labels than a file can hold.")
    return before.with_values({value: label.value for value, label in same.items()}), labels


def _same(were: Sequence[Label], labels: Sequence[Label], *, by_value: bool) -> dict[int, Label]:
    """Which of `labels` each value of `were` is; of several of one name, that of the same value, else the next."""
    from ..images.labels import loose_name

    rest: dict[str | int, list[Label]] = {}
    for label in labels:
        rest.setdefault(label.value if by_value else loose_name(label.name), []).append(label)
    same: dict[int, Label] = {}
    for is_exact in (True, False):
        for label in were:
            alike = rest.get(label.value if by_value else loose_name(label.name), [])
            found = next((one for one in alike if one.value == label.value or not is_exact), None)
            if found is not None and label.value not in same:
                alike.remove(found)
                same[label.value] = found
    return same


def _print_result(updated: Updated, path: Path) -> None:
    table = make_table("Structure", "Slices", "Followed by", "Voxels changed", right=["Slices", "Voxels changed"])
    for one in updated.followed:
        table.add_row(one.name, f"{len(one.slices)} {one.plane}", one.method, str(one.changed_voxels))
    if updated.followed:
        make_console().print(table)
    else:
        say("no other slice changed: the others are too far away, or were right already")
    for why in dict.fromkeys(f"{one.name}: {one.why}" for one in updated.followed):
        say(why)
    for note in updated.notes:
        say(f"note: {note}", error=True)
    planes = " and ".join(dict.fromkeys([updated.plane, *(one.plane for one in updated.followed)]))
    say(f"drawn in {planes} slices; segmentation: {path}")
