"""A case store, or a copy of its cases, as a dataset to fine-tune a model on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ...bundle import Bundle
from ...cases.dataset import CaseDataset, load_dataset
from ...images.labels import ByName, Label, by_name, other_names


def store_dataset(path: Path, labels: Sequence[Label], base: Bundle) -> tuple[CaseDataset, tuple[Label, ...]]:
    """The dataset at `path` with the labels of `base` added, and the labels that are new to it.

    `labels` are the store's, for the colours and codes of the new ones. A label of the base that no case has was not
    annotated in any: it is kept, and nothing is learnt of it.
    """
    dataset = load_dataset(path)
    own, base_names = ByName(dataset.labels.items()), [label.name for label in base.labels]
    free = _unused(dataset.labels.values())
    values = {name: own[name] if name in own else next(free) for name in base_names}
    added = {name: own[name] for name in other_names(own, base_names)}
    missing = other_names(base_names, own)
    cases = tuple(replace(case, unknown=(*case.unknown, *missing)) for case in dataset.cases)
    described = by_name(labels)
    output = _unused(label.value for label in base.labels)
    new = tuple(replace(described.get(name, Label(1, name)), name=name, value=next(output)) for name in added)
    return replace(dataset, labels={**values, **added}, cases=cases), new


def _unused(taken: Iterable[int]) -> Iterator[int]:
    """Label values that are free, smallest first."""
    return iter(sorted(set(range(1, 255)) - set(taken)))
