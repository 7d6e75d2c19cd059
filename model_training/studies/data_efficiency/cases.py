"""The cases of a data set as a plan uses them, read and prepared once per process."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from MAESegmentLib.cases.case import Case
from MAESegmentLib.cases.dataset import CaseDataset, load_dataset
from MAESegmentLib.errors import DatasetError
from MAESegmentLib.preprocessing.plan import Preprocessing
from MAESegmentLib.training.data.labelling import LabelPlan, plan_labels
from MAESegmentLib.training.data.prepared import CaseCache, PreparedCase
from MAESegmentLib.training.data.preparing import prepare_cases

from .study import Plan

#: Memory for prepared cases before the rest is read from disk.
CACHE_GB = 8.0


@dataclass(frozen=True)
class StudyCases:
    """Selections of one data set by the rules of its plan; `work` holds what does not fit into memory."""

    plan: Plan
    dataset: CaseDataset
    work: Path

    @classmethod
    def load(cls, plan: Plan, data: Path, work: Path) -> StudyCases:
        return cls(plan, load_dataset(data / plan.dataset), work)

    @property
    def labels(self) -> LabelPlan:
        return plan_labels(self.dataset.labels)

    def training(self, labels: int | None) -> tuple[Case, ...]:
        """The first `labels` patients of the pool (None: all of it)."""
        chosen = self.dataset.select(self.plan.pool if labels is None else f"{self.plan.pool}:{labels}")
        self._check_apart(chosen, self.plan.test)
        if labels is not None:
            self._check_apart(chosen, self.plan.check)
        return chosen

    def measured(self, measured_on: str) -> tuple[Case, ...]:
        return self.dataset.select(self.plan.test if measured_on == "validation" else self.plan.check)

    def unlabelled(self, share: float = 1.0, seed: int = 0) -> tuple[Case, ...]:
        """The plan's images but those of test patients, or a random share of the patients (nested over shares)."""
        test = {case.group for case in self.dataset.select(self.plan.test)}
        images = self.dataset.select(self.plan.images) if self.plan.images else self.dataset.cases
        cases = [case for case in images if case.group not in test]
        groups = list(dict.fromkeys(case.group for case in cases))
        order = np.random.default_rng((seed, 17)).permutation(len(groups))
        kept = {groups[int(n)] for n in order[: math.ceil(share * len(groups))]}
        return tuple(case for case in cases if case.group in kept)

    def prepare(self, cases: Sequence[Case], preprocessing: Preprocessing | None = None) -> list[PreparedCase]:
        """With labels."""
        cache = CaseCache(CACHE_GB, self.work / "prepared")
        chosen = preprocessing or self.plan.preprocessing
        prepare_cases(cases, chosen, cache, learnt=(self.dataset, self.labels))
        return list(cache)

    def prepare_images(self, cases: Sequence[Case], preprocessing: Preprocessing | None = None) -> list[PreparedCase]:
        cache = CaseCache(CACHE_GB, self.work / "prepared_images")
        prepare_cases(cases, preprocessing or self.plan.preprocessing, cache)
        return list(cache)

    def _check_apart(self, cases: Sequence[Case], selection: str) -> None:
        shared = {case.group for case in cases} & {case.group for case in self.dataset.select(selection)}
        if shared:
            raise DatasetError(
                f"{self.plan.dataset}: {len(shared)} cases of {selection!r} would be learnt from.",
                "Choose splits that do not overlap.",
            )
