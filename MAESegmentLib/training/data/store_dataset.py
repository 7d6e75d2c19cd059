"""A case store, or a copy of its cases, as a dataset to fine-tune a model on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ...bundle import Bundle
from ...cases.dataset import CaseDataset, load_dataset
from ...images.labels import Label


def store_dataset(path: Path, labels: Sequence[Label], base: Bundle) -> tuple[CaseDataset, tuple[Label, ...]]:
    """The dataset at `path` with the labels of `base` added, and the labels that are new to it.

    `labels` are the store's, for the colours and codes of the new ones. A label of the base that no case has was not
    annotated in any: it is kept, and nothing is learnt of it.
    """
    dataset = load_dataset(path)
    own = {name.casefold(): value for name, value in dataset.labels.items()}
    known = {label.name.casefold(): label.name for label in base.labels}
    free = _unused(dataset.labels.values())
    values = {name: own[key] if key in own else next(free) for key, name in known.items()}
    added = {name: value for name, value in dataset.labels.items() if name.casefold() not in known}
    missing = tuple(name for key, name in known.items() if key not in own)
    cases = tuple(replace(case, unknown=(*case.unknown, *missing)) for case in dataset.cases)
    by_name = {label.name: label for label in labels}
    output = _unused(label.value for label in base.labels)
    new = tuple(replace(by_name.get(name, Label(1, name)), value=next(output)) for name in added)
    return replace(dataset, labels={**values, **added}, cases=cases), new


def _unused(taken) -> Iterator[int]:  # type: ignore[no-untyped-def]
    """Label values that are free, smallest first."""
    return iter(sorted(set(range(1, 255)) - set(taken)))
