"""How large the structures are in the cases that are learnt from: kept with the model, doubted where one is far off."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ...bundle.usage.sizes import Volumes, outlying
from ...images.labels import Label
from .prepared import IGNORED, PreparedCase


def volumes_by_case(cases: Iterable[PreparedCase], labels: Sequence[Label]) -> dict[int, dict[str, float]]:
    """Label value -> case -> ml, of cases that were annotated throughout and have the structure."""
    found: dict[int, dict[str, float]] = {}
    for case in cases:
        if case.classes is None or (case.classes == IGNORED).any():
            continue
        voxel_ml = math.prod(case.spacing) / 1000
        counts = np.bincount(case.classes.ravel(), minlength=len(labels) + 1)[1:]
        for label, count in zip(labels, counts, strict=True):
            if count:
                found.setdefault(label.value, {})[case.id] = float(count) * voxel_ml
    return found


def volumes_entry(found: Mapping[int, Mapping[str, float]], before: Mapping[int, Volumes]) -> dict[str, dict[str, Any]]:
    """For a spec's `inference`, of `volumes_by_case` and what the base knew `before`."""
    known = dict(before)
    for value, by_case in found.items():
        own = Volumes.of(list(by_case.values()))
        known[value] = own.with_more(known[value]) if value in known else own
    return {str(value): volumes.to_dict() for value, volumes in known.items()}


def doubts(found: Mapping[int, Mapping[str, float]], labels: Sequence[Label]) -> list[str]:
    """A sentence for each structure whose contour is far larger in some cases than in the others."""
    sentences = []
    for label in labels:
        by_case = found.get(label.value, {})
        ids, ml = list(by_case), list(by_case.values())
        wrong = ", ".join(f"{ids[number]} ({ml[number]:.0f} ml)" for number in outlying(ml))
        if wrong:
            sentences.append(
                f"{label.name} is far larger in {wrong} than in the other cases (median {np.median(ml):.3g} ml): "
                "check its contour there, or mark it as not annotated."
            )
    return sentences
