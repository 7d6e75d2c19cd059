"""`maesegment cases add`: one corrected segmentation and its scan into the store."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..cases.records import TRAIN, VALIDATION, role_name
from ..errors import ConfigurationError, DuplicateCase
from . import options
from .terminal import say

if TYPE_CHECKING:
    from ..bundle import Bundle
    from ..cases.records import CaseRecord
    from ..cases.store import CaseStore
    from ..cases.submission import CaseSubmission
    from ..images.formats.dicom.structure_set import StructureSet
    from ..images.formats.overlapping import Overlapping
    from ..images.labels import Label
    from ..images.volume import LabelMap, Volume


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="the scan (one file per channel, or a DICOM folder), then its segmentation: .seg.nrrd, DICOM SEG, "
        "RTSTRUCT, or a label map as NIfTI or NRRD",
    )
    options.add_model(parser, "the model whose result was corrected; all its versions share a store")
    options.add_store(parser, "folder of the store (default: the model's)")
    parser.add_argument(
        "--role",
        type=role_name,
        choices=(TRAIN, VALIDATION),
        default="",
        help="train (default), or validation: never trained on, only used to measure how good a model is",
    )
    parser.add_argument(
        "--group", default="", metavar="NAME", help="an ID that all scans of one patient share; not the patient's name"
    )
    parser.add_argument(
        "--labels", metavar="1=NAME,2=NAME", help="what the values of a label map mean (default: as in the model)"
    )
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="SEGMENT=LABEL",
        help="store a segment as this label; SEGMENT= leaves it out",
    )
    parser.add_argument(
        "--new-label",
        action="append",
        default=[],
        metavar="NAME",
        help="add this label, which neither model nor store has yet",
    )
    parser.add_argument(
        "--absent",
        action="append",
        default=[],
        metavar="NAME",
        help="a label that was looked for and is not in this scan",
    )
    parser.add_argument(
        "--region", metavar=options.BOX, help="only this box (RAS mm) was annotated; `all`: the whole scan"
    )
    parser.add_argument("--update", default="", metavar="ID", help="replace this case, e.g. case-0003")


def run(arguments: argparse.Namespace) -> int:
    if len(arguments.files) < 2:
        raise ConfigurationError("Give the scan, then its segmentation.", "maesegment cases add SCAN SEGMENTATION ...")
    from ..bundle.spec import check_channels
    from ..bundle.suitability import ScanFacts, mismatch
    from ..cases.case import check_files_differ
    from ..images.formats.dicom.belonging import check_belongs, place_on
    from ..images.labels import by_name, plain_name
    from ..images.reading import read_volumes
    from .case_stores import choose_store

    store, bundle = choose_store(arguments.store, arguments.model)
    if arguments.update:
        store.get(arguments.update)
    *scan, segmentation = arguments.files
    volume = read_volumes(scan)
    if bundle is not None:
        check_channels(len(volume.array), bundle.channels)
        if reason := mismatch(bundle, ScanFacts.of(volume)):
            say(f"note: {reason}", error=True)
    drawing, segments = _read_segments(segmentation, arguments.labels, bundle, store)
    check_files_differ(scan, segmentation)  # read by now: they are there
    check_belongs(drawing, volume)
    known = by_name((*store.labels(), *(bundle.labels if bundle else ())))
    sided = {label.name: own.name for label, own in bundle.sided} if bundle is not None else {}
    mapping = _mapping(segments, arguments, known, {**sided, **store.remembered()})
    label_map, notes = place_on(drawing, volume, [segment.value for segment, label in mapping if label is None])
    submission, label_map = _submission(arguments, label_map, mapping, bundle, known)
    for note in (*volume.notes, *notes):
        say(f"note: {note}", error=True)
    _print(_store(store, volume, label_map, submission), store)
    # What need not be said again: what was said, not what goes without saying.
    said = {plain_name(pair.partition("=")[0]) for pair in arguments.map}
    store.remember(
        {segment.name: label.name if label else None for segment, label in mapping if plain_name(segment.name) in said}
    )
    return 0


def _read_segments(
    path: Path, meanings: str | None, bundle: Bundle | None, store: CaseStore
) -> tuple[LabelMap | StructureSet | Overlapping, tuple[Label, ...]]:
    """What is drawn and its segments, whose names are in the file, given, or those of the model or the store."""
    from ..images.formats.dicom.structure_set import StructureSet
    from ..images.reading import read_drawing

    label_map, segments = read_drawing(path)
    if isinstance(label_map, StructureSet):
        segments = label_map.drawn()  # nobody need decide about the rest of a template
    if meanings and segments:
        raise ConfigurationError(
            f"{path.name} names its segments itself: {', '.join(f'{one.value} is {one.name!r}' for one in segments)}.",
            "Leave out --labels; to store a segment as another label: --map SEGMENT=LABEL.",
        )
    if meanings:
        return label_map, _meanings(meanings)
    if segments:
        return label_map, segments
    if labels := bundle.all_labels if bundle else store.labels():
        return label_map, labels
    raise ConfigurationError(
        f"What the values in {path.name} mean is not known.", 'Add -m MODEL, or --labels "1=anterior,2=posterior".'
    )


def _meanings(text: str) -> tuple[Label, ...]:
    from ..images.labels import Label

    labels = []
    for part in text.split(","):
        value, _, name = part.partition("=")
        if not value.strip().isdecimal() or not name.strip():
            raise ConfigurationError(
                f"--labels {text!r}: {part!r} is not VALUE=NAME.", 'Write --labels "1=anterior,2=posterior".'
            )
        labels.append(Label(int(value), name.strip()))
    return tuple(labels)


def _mapping(
    segments: Sequence[Label],
    arguments: argparse.Namespace,
    known: Mapping[str, Label],
    remembered: Mapping[str, str | None],
) -> list[tuple[Label, Label | None]]:
    """Each segment and the label it is stored as (None: not at all); `ConfigurationError` naming those that somebody
    has to decide about."""
    from ..cases.mapping import propose_mapping
    from ..images.labels import same_names

    names = [segment.name for segment in segments]
    # The first case of a store without a model says what labels there are: nothing can be mistaken.
    allowed = [*arguments.new_label, *(() if known else names)]
    mapped, questions = [], []
    for segment, choice in zip(
        segments, propose_mapping(names, list(known), {**remembered, **_given(arguments.map, names)}), strict=True
    ):
        label = choice.label
        if choice.kind == "new" and (alike := same_names(segment.name, allowed)):
            label = alike[0]
        elif choice.kind == "new":
            questions.append(f"{segment.name!r} is not a label yet: --new-label {_quoted(segment.name)}")
        elif choice.kind == "similar":
            questions.append(f"{segment.name!r} may be {label!r}: --map {_quoted(f'{segment.name}={label}')}")
        elif label is not None and label not in known and not same_names(label, allowed):
            questions.append(f"{label!r} is not a label yet: --new-label {_quoted(label)}")
        mapped.append((segment, None if label is None else known.get(label, replace(segment, name=label))))
    if questions:
        there = ", ".join(known) or "none"
        questions.append(f"Labels: {there}. To leave a segment out: --map SEGMENT=")
        raise ConfigurationError("Which label some segments are has to be said once.", "\n".join(questions))
    return mapped


def _given(pairs: Sequence[str], segments: Sequence[str]) -> dict[str, str | None]:
    """What --map assigns."""
    from ..cases.mapping import same_name

    given: dict[str, str | None] = {}
    for pair in pairs:
        segment, equals, label = pair.partition("=")
        if not equals or not any(same_name(segment, name) for name in segments):
            raise ConfigurationError(
                f"--map {pair!r} names no segment of the segmentation.",
                f"Write --map SEGMENT=LABEL; the segments are: {', '.join(segments)}.",
            )
        given[segment] = label.strip() or None
    return given


def _submission(
    arguments: argparse.Namespace,
    label_map: LabelMap,
    mapping: Sequence[tuple[Label, Label | None]],
    bundle: Bundle | None,
    known: Mapping[str, Label],
) -> tuple[CaseSubmission, LabelMap]:
    """What is to be stored; segments that are left out are cleared from the label map."""
    import numpy as np

    from ..cases.submission import CaseSubmission
    from ..images.labels import other_names
    from ..images.roi import Roi
    from ..images.volume import LabelMap

    labels = [replace(label, value=segment.value) for segment, label in mapping if label is not None]
    left_out = [segment.value for segment, label in mapping if label is None]
    array = label_map.array.copy()
    array[np.isin(array, left_out)] = 0
    # Labels that were looked for without being a segment have values that the label map does not have.
    free = 1 + max([int(array.max(initial=0)), *(label.value for label in labels)])
    for value, name in enumerate(other_names(arguments.absent, (label.name for label in labels)), start=free):
        if name not in known:
            there = ", ".join(known) or "none"
            raise ConfigurationError(
                f"--absent {name!r} is not a label of the model or the store.", f"Labels: {there}."
            )
        labels.append(replace(known[name], value=value))
    region: tuple[float, ...] | None = None  # as before
    if arguments.region is not None:
        region = () if arguments.region == "all" else Roi.of(arguments.region).bounds
    submission = CaseSubmission(
        labels=tuple(labels),
        unknown=other_names((label.name for label in bundle.labels) if bundle else (), (one.name for one in labels)),
        role=arguments.role,
        group=arguments.group,
        model=bundle.reference if bundle else None,
        region=region,
        replace=arguments.update,
        absent=tuple(arguments.absent),
    )
    return submission, LabelMap(array, label_map.ijk_to_ras)


def _store(store: CaseStore, volume: Volume, label_map: LabelMap, submission: CaseSubmission) -> CaseRecord:
    try:
        return store.add(
            volume,
            label_map,
            submission,
            report=lambda warning: say(f"note: {warning.message}\n  {warning.hint}", error=True),
        )
    except DuplicateCase as error:
        error.hint = f"Add --update {error.details['case']} to replace its label map."
        raise


def _print(record: CaseRecord, store: CaseStore) -> None:
    say(f"{'Updated' if record.revision > 1 else 'Stored'} {record.id} ({role_name(record.role)}) in {store.folder}")
    say(f"  {', '.join(f'{name} {ml:.2f} ml' for name, ml in record.volumes_ml.items())}")
    if record.unknown:
        say(f"  not annotated: {', '.join(record.unknown)}")


def _quoted(text: str) -> str:
    return f'"{text}"' if re.search(r"[^\w=-]", text) else text
