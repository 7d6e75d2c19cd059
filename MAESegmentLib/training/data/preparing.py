"""From cases on disk to prepared cases in the cache, with every unusable case found before training starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ...cases.case import Case
from ...cases.checks import read_image, read_labels
from ...cases.dataset import CaseDataset
from ...errors import DatasetError, GeometryError
from ...images.hashing import FIRST, voxel_hash
from ...images.volume import LabelMap, Volume
from ...preprocessing.foreground import Block
from ...preprocessing.grey_values import describe_grey_values
from ...preprocessing.grid import NetworkGrid
from ...preprocessing.plan import Preprocessing
from ..run_context import UNATTENDED, RunContext
from .labelling import LabelPlan
from .prepared import IGNORED, CaseCache, PreparedCase, as_array, places_of

if TYPE_CHECKING:
    from ...images.formats.dicom.headers import Identity

#: So many unusable cases are named in one message.
MAX_NAMED = 10
#: Maps of tissues hold whole numbers up to this.
MAX_TISSUE = 255


@dataclass(frozen=True)
class Prepared:
    """The cases, the hashes of their voxels by case id ({"image": ..., "label": ...}), and what readers remarked."""

    cases: CaseCache
    hashes: dict[str, dict[str, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    #: About labels, without any case's name: they go into the bundle.
    label_notes: list[str] = field(default_factory=list)
    #: What DICOM headers say of whose the cases are, where they are DICOM; for this run alone, never stored.
    identities: dict[str, Identity | None] = field(default_factory=dict)

    @property
    def twins(self) -> list[str]:
        """Notes on cases whose images are the same, voxel by voxel."""
        cases: dict[str, list[str]] = {}
        for case, hashes in self.hashes.items():
            cases.setdefault(hashes["image"], []).append(case)
        return [f"Cases {' and '.join(same)} have the same image." for same in cases.values() if len(same) > 1]


def prepare_cases(
    cases: Sequence[Case],
    preprocessing: Preprocessing,
    cache: CaseCache,
    context: RunContext = UNATTENDED,
    *,
    learnt: tuple[CaseDataset, LabelPlan] | None = None,
    tissues: bool = False,
) -> Prepared:
    """Read, check and prepare images, with the label maps of what is `learnt`; one `DatasetError` names every bad case.

    `tissues`: the images are maps of tissues, from which images are drawn later.
    """
    prepared = Prepared(cache)
    channels: list[int] = []

    def prepare(case: Case) -> None:
        volume = read_image(case, channels[0] if channels else None)
        label_map = None if learnt is None else _label_map(case, volume, *learnt)
        channels.append(len(volume.array))
        image, grid, region = _network_image(case, volume, preprocessing, tissues)
        d, h, w = (float(s) for s in grid.spacing)
        grey = None if tissues else describe_grey_values(volume.crop(region).array, preprocessing.intensity)
        ready = PreparedCase(case.id, image, (d, h, w), grey=grey)
        # Of the first version: a checkpoint belongs to these, and one that exists already is to be resumed.
        hashes, notes = {"image": voxel_hash(volume.array, FIRST)}, list(volume.notes)
        if label_map is not None and learnt is not None:
            dataset, plan = learnt
            hashes["label"] = voxel_hash(label_map.array, FIRST)
            whole = plan.to_classes(label_map, dataset.ignore)
            shown = whole.crop(region)
            classes = preprocessing.prepare_labels(shown, grid).astype("uint8")
            unknown = plan.channels_of(case.unknown)
            contradicts = np.isin(classes, unknown)
            if contradicts.any():  # the loss knows no chance of what is unknown
                names = ", ".join(plan.names[channel - 1] for channel in np.unique(classes[contradicts]))
                classes[contradicts] = 0
                notes.append(f"Its contours of {names} are left out, as the case lists that as unknown.")
            ready = replace(ready, classes=classes, places=places_of(classes), unknown=unknown)
            notes += [*label_map.notes, *_lost(whole, shown)]
        cache.add(ready)
        prepared.hashes[case.id], prepared.identities[case.id] = hashes, identity_of(volume)
        prepared.notes.extend(f"Case {case.id}: {note}" for note in notes)

    _each(cases, prepare, context)
    if learnt is not None:
        _check_absent(prepared, learnt[1])
    return prepared


def identity_of(volume: Volume) -> Identity | None:
    """What DICOM headers say of whose it is; None for other files."""
    return getattr(volume.source, "identity", None)


def _label_map(case: Case, volume: Volume, dataset: CaseDataset, plan: LabelPlan) -> LabelMap:
    names = {value: name for name, value in dataset.labels.items()}
    wanted = [names[value] for value in plan.values]
    return read_labels(case, volume, dataset.labels, wanted, dataset.ignore)


def _lost(learnt: LabelMap, shown: LabelMap) -> list[str]:
    """A note if labels lie where the body is not: the model will not look there."""
    before, after = (int(np.count_nonzero((x.array != 0) & (x.array != IGNORED))) for x in (learnt, shown))
    if after == before:
        return []
    return [
        f"{before - after} of {before} labelled voxels lie in the background around the body and are not learnt; the "
        "model will find nothing there either."
    ]


def _check_absent(prepared: Prepared, plan: LabelPlan) -> None:
    """A label that the base knows may be missing in all cases; a new one may not: nothing could be learnt of it."""
    learnt = {value for case in prepared.cases for value, _ in case.places}
    absent = [channel for channel in range(1, len(plan.labels) + 1) if channel not in learnt]
    unknown = set.intersection(*(set(case.unknown) for case in prepared.cases)) if absent else set()
    kept = [c for c in absent if plan.origins[c - 1] is not None]
    names = ", ".join(plan.names[c - 1] for c in absent if c not in kept)
    if names:
        raise DatasetError(
            f"No case has a voxel of {names} at the model's resolution.",
            "Leave this label out, or add a case that shows it.",
        )
    ignored = ", ".join(plan.names[channel - 1] for channel in kept if channel in unknown)
    if ignored:
        prepared.label_notes.append(f"Not annotated in any case, so neither learnt nor checked: {ignored}.")
    nowhere = ", ".join(plan.names[channel - 1] for channel in kept if channel not in unknown)
    if nowhere:
        prepared.label_notes.append(
            f"No case has a voxel of {nowhere}: the model only learns that it is not there, and nothing is checked."
        )


def _network_image(
    case: Case, volume: Volume, preprocessing: Preprocessing, tissues: bool
) -> tuple[np.ndarray, NetworkGrid, Block]:
    """Float32 (C, D, H, W), or uint8 (1, D, H, W) of tissues, on the network's grid of a block of the volume."""
    if not tissues:
        prepared = preprocessing.prepare(volume)
        return as_array(prepared.image), prepared.grid, prepared.region
    array = volume.array
    if len(array) != 1 or not np.issubdtype(array.dtype, np.integer) or array.min() < 0 or array.max() > MAX_TISSUE:
        raise DatasetError(
            f"Case {case.id}: images cannot be drawn from it; it is not a map of tissues.",
            f"Give label maps of whole numbers from 0 (what surrounds the body) to {MAX_TISSUE} as images.",
        )
    grid = preprocessing.grid_for(volume)
    mapped = preprocessing.prepare_labels(LabelMap(array[0], volume.ijk_to_ras), grid)
    i, j, k = (slice(0, n) for n in volume.grid.shape)
    return mapped.astype(np.uint8)[None], grid, (i, j, k)


def _each(cases: Sequence[Case], prepare: Callable[[Case], None], context: RunContext) -> None:
    problems: list[DatasetError] = []
    report = context.reports_preparing()
    for number, case in enumerate(cases):
        context.check_cancelled()
        report(number, len(cases), case.id)
        try:
            prepare(case)
        except DatasetError as error:
            problems.append(error)
        except GeometryError as error:  # a voxel size that the network cannot be given
            problems.append(DatasetError(f"Case {case.id}: {error.message}", error.hint))
    if problems:
        rest = len(problems) - MAX_NAMED
        messages = [error.message for error in problems[:MAX_NAMED]] + ([f"... and {rest} more."] if rest > 0 else [])
        raise DatasetError("\n".join(messages), problems[0].hint)
