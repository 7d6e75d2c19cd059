"""The labels of a fine-tuned model: which output of its base each one starts from, and which is whose mirror image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...bundle import Bundle
from ...bundle.plain_text import name_problem
from ...bundle.spec import check_label_names
from ...bundle.usage.sides import Sides as ModelSides
from ...cases.dataset import CaseDataset, load_dataset
from ...errors import ConfigurationError
from ...images.labels import ByName, Label, by_name, distinct_colour, other_names
from ...images.volume import LabelMap
from ..settings import Augmentation
from .prepared import IGNORED


@dataclass(frozen=True)
class LabelPlan:
    """`labels[i]` is output channel i + 1; it is voxel value `values[i]` in the dataset's label maps and starts from
    channel `origins[i]` of the base model (None: from random weights)."""

    labels: tuple[Label, ...]
    values: tuple[int, ...]
    origins: tuple[int | None, ...]

    def __post_init__(self) -> None:
        # Here, because a name that a model may not hold must not come to light after hours of training.
        check_label_names(self.names)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)

    def channels_of(self, names: Iterable[str]) -> tuple[int, ...]:
        """Output channels of those `names` that are learnt."""
        wanted = ByName((name, True) for name in names)
        return tuple(n for n, name in enumerate(self.names, start=1) if name in wanted)

    def describe(self, base_labels: Sequence[Label]) -> str:
        """What happens to the head, in a sentence."""
        if self.origins == tuple(range(1, len(base_labels) + 1)):
            return f"Same labels as the base model: {', '.join(self.names)}."
        kept = [name for name, origin in zip(self.names, self.origins, strict=True) if origin is not None]
        new = [name for name, origin in zip(self.names, self.origins, strict=True) if origin is None]
        dropped = [label.name for n, label in enumerate(base_labels, start=1) if n not in self.origins]
        parts = ["The head is re-made" if base_labels else "The head is new"]
        parts += [
            f"{word}: {', '.join(names)}"
            for word, names in (("kept", kept), ("new", new), ("dropped", dropped))
            if names
        ]
        return "; ".join(parts) + "."

    def to_classes(self, label_map: LabelMap, ignore: int | None = None) -> LabelMap:
        """Voxel values -> output channels; labels that are not learnt become background, the value `ignore` IGNORED."""
        table = np.zeros(max(int(label_map.array.max(initial=0)), ignore or 0, *self.values) + 1, dtype=np.uint8)
        if ignore is not None:
            table[ignore] = IGNORED
        table[list(self.values)] = np.arange(1, len(self.values) + 1)
        return LabelMap(table[label_map.array], label_map.ijk_to_ras)


def plan_labels(
    dataset: Mapping[str, int],
    base: Sequence[Label] = (),
    wanted: Sequence[str] | None = None,
    described: Sequence[Label] = (),
) -> LabelPlan:
    """Labels to learn: those of the dataset, or the `wanted` of them. Names are compared without regard to case.

    Colours, codes and values come from `described`, else from the base model's label of that name.
    """
    written = ByName((name, name) for name in dataset)
    base_channel = ByName((label.name, n) for n, label in enumerate(base, start=1))
    if not dataset:
        raise ConfigurationError("The dataset names no labels.", 'Add "labels": {"liver": 1} to its dataset.json.')
    missing = [name for name in wanted or () if name not in written]
    if missing:
        raise ConfigurationError(f"The dataset has no label {', '.join(missing)}.", f"It has {', '.join(dataset)}.")
    names = list(dict.fromkeys(written[name] for name in wanted)) if wanted else list(dataset)
    if not wanted and len(written) == len(base_channel) and all(name in base_channel for name in names):
        names = [written[label.name] for label in base]
    for name in names:  # not when the model is saved, hours later
        if problem := name_problem(name):
            raise ConfigurationError(f"The label name {name[:80]!r} {problem}.", "Rename the label, or leave it out.")
    if len(names) > 254:
        raise ConfigurationError(f"{len(names)} labels are more than the 254 that can be learnt.")
    origins = tuple(base_channel.get(name) for name in names)
    known = by_name((*base, *described))
    own_values = all(name in known for name in names)
    labels = []
    for n, name in enumerate(names):
        label = known.get(name, Label(dataset[name], name, distinct_colour(n)))
        labels.append(label if own_values else replace(label, value=dataset[name]))
    return LabelPlan(tuple(labels), tuple(dataset[name] for name in names), origins)


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


class Sides(ModelSides):
    """As training finds and uses them."""

    @classmethod
    def of(cls, pairs: Sequence[tuple[str, str]], names: Sequence[str], orientation: str) -> Sides | None:
        """From pairs of label names, the `names` of output channels 1, 2, ... and e.g. "RAS"; None without pairs.

        Raises `ConfigurationError` if a name is not a label that is learnt.
        """
        if not pairs:
            return None
        channels = ByName((name, channel) for channel, name in enumerate(names, start=1))
        missing = [name for pair in pairs for name in pair if name not in channels]
        if missing:
            raise ConfigurationError(
                f'The setting "sides" names {", ".join(missing)}, which is not among the labels: {", ".join(names)}.',
                'Name pairs of labels that are learnt, e.g. [["LeftParotid", "RightParotid"]].',
            )
        found = tuple((channels[a], channels[b]) for a, b in pairs)
        return cls(next(axis for axis, letter in enumerate(orientation) if letter in "LR"), found)

    def exchange(self, classes: Tensor) -> Tensor:
        """Any shape of output channels -> the same with the channels of each pair exchanged."""
        return torch.tensor(self.order(256), dtype=classes.dtype)[classes.long()]

    def allowed(self, augmentation: Augmentation, unknown: Sequence[int]) -> Augmentation:
        """`augmentation` for a case with `unknown` channels: not mirrored where only one side was annotated."""
        if all((one in unknown) == (other in unknown) for one, other in self.pairs):
            return augmentation
        return replace(augmentation, flip_axes=tuple(axis for axis in augmentation.flip_axes if axis != self.axis))
