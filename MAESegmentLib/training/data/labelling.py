"""Which labels a fine-tuned model has, and which output of its base each one starts from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...bundle.plain_text import name_problem
from ...bundle.spec import check_label_names
from ...errors import ConfigurationError
from ...images.labels import ByName, Label, by_name, distinct_colour
from ...images.volume import LabelMap
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
