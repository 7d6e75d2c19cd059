"""Which cases are trained on and which are held out, patient by patient."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...cases.case import Case
from ...cases.dataset import CaseDataset
from ...cases.records import role_name
from ...errors import DatasetError
from .labelling import LabelPlan
from .preparing import Prepared

#: With fewer cases than this, holding some out costs more than leave-one-out takes time.
FEW_CASES = 5
#: The share of the cases that is held out where nothing else is said.
HELD_OUT = 0.2


@dataclass(frozen=True)
class Holdout:
    """`held_out` are the cases never trained on; leave-one-out has `folds` instead, each with its own.

    `measured` are those of them that Dice is measured on; None: all.
    """

    training: tuple[Case, ...]
    held_out: tuple[Case, ...] = ()
    folds: tuple[Holdout, ...] = ()
    how: str = "none"
    measured: tuple[Case, ...] | None = None

    @property
    def checked(self) -> tuple[Case, ...]:
        return self.held_out if self.measured is None else self.measured

    @property
    def cases(self) -> tuple[Case, ...]:
        return (*self.training, *self.held_out)


def plan_holdout(dataset: CaseDataset, split: str | None, validation: str, seed: int) -> Holdout:
    """`split` selects the cases to learn from (None: all with a label map). `validation` says what is held out of them:

    "none"; "loo" (leave-one-out); a fraction such as "0.2"; a split or ids as in `CaseDataset.select`; "auto" is
    leave-one-out below five cases, else a fifth.
    """
    chosen = dataset.select(split) if split else dataset.labelled
    unlabelled = [case.id for case in chosen if case.label is None]
    if not chosen or unlabelled:
        raise DatasetError(
            f"Case {unlabelled[0]} has no label map." if unlabelled else "The dataset has no case with a label map.",
            "Put label maps in labels/ under the names of their images.",
        )
    groups = list(dict.fromkeys(case.group for case in chosen))
    if validation == "auto":
        validation = "loo" if len(groups) < FEW_CASES else str(HELD_OUT)
    if validation == "none":
        return Holdout(chosen)
    if validation == "loo":
        return _leave_one_out(chosen, groups)
    if re.fullmatch(r"0?\.\d+", validation):
        count = max(1, round(float(validation) * len(groups)))
        order = np.random.default_rng((seed, 7)).permutation(len(groups))
        held = {groups[int(i)] for i in order[:count]}
        held_out = tuple(case for case in chosen if case.group in held)
        how = f"{len(held)} of {len(groups)}, drawn at random"
    else:
        held_out = dataset.select(validation)
        # Ids may be names of patients; `how` goes into the bundle.
        named = dataset.split_called(validation.partition(":")[0]) is not None
        how = role_name(validation) if named else f"{len(held_out)} chosen cases"
    missing = [case.id for case in held_out if case.label is None]
    if missing:
        raise DatasetError(f"Case {missing[0]} is to be held out for validation but has no label map.")
    held = {case.group for case in held_out}
    training = tuple(case for case in chosen if case.group not in held)
    if not training:
        raise DatasetError("Every case is held out for validation; none is left to learn from.")
    return Holdout(training, held_out, how=how)


def only_held_out(prepared: Prepared, plan: LabelPlan, holdout: Holdout) -> list[str]:
    """A note if a label has voxels in held-out cases alone."""
    training = {case.id for case in holdout.training}
    found, learnt = set(), set()
    for case in prepared.cases:
        channels = {channel for channel, _ in case.places}
        found |= channels
        learnt |= channels if case.id in training else set()
    names = ", ".join(plan.names[channel - 1] for channel in sorted(found - learnt))
    return [f"Only held-out cases have a voxel of {names}: it is checked, and not learnt."] if names else []


def _leave_one_out(chosen: Sequence[Case], groups: Sequence[str]) -> Holdout:
    if len(groups) < 2:
        return Holdout(tuple(chosen), how="none: a single case cannot be left out")
    folds = tuple(
        Holdout(
            tuple(case for case in chosen if case.group != group),
            tuple(case for case in chosen if case.group == group),
        )
        for group in groups
    )
    return Holdout(tuple(chosen), folds=folds, how="leave-one-out")
