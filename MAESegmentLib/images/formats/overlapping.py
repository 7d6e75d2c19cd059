"""Segments of which some share voxels: files can hold them, one label map cannot."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np

from ..labels import Label
from ..volume import LabelMap


@dataclass(frozen=True, eq=False)
class Overlapping:
    """The segments of the file `name`; each of `layers`, on one grid, has some of them, by the values of `labels`."""

    name: str
    labels: tuple[Label, ...]
    layers: tuple[LabelMap, ...]

    def merged(self, leave_out: Collection[int] = ()) -> LabelMap:
        """The segments but those of the values `leave_out`; where they overlap, the smallest, as its notes say."""
        of = {value: layer.array for layer in self.layers for value in map(int, np.unique(layer.array)) if value}
        sizes = {value: np.count_nonzero(array == value) for value, array in of.items() if value not in leave_out}
        kept = sorted((label for label in self.labels if label.value in sizes), key=lambda one: -sizes[one.value])
        merged = np.zeros(self.layers[0].array.shape, np.uint16)
        places = ((label, np.flatnonzero(of[label.value] == label.value)) for label in kept)
        notes = paint(merged, self.name, places)
        return LabelMap(merged, self.layers[0].ijk_to_ras, self.layers[0].source, tuple(notes))


def in_layers(masks: Iterable[tuple[int, np.ndarray]]) -> list[np.ndarray]:
    """Each mask, as its value, in the first array in which it overlaps no other; one array if none overlap."""
    layers: list[np.ndarray] = []
    for value, mask in masks:
        layer = next((one for one in layers if not one[mask].any()), None)
        if layer is None:
            layers.append(layer := np.zeros(mask.shape, np.uint16))
        layer[mask] = value
    return layers


def paint(array: np.ndarray, name: str, structures: Iterable[tuple[Label, np.ndarray]]) -> list[str]:
    """Put structures (flat indices of their voxels), the largest first, into `array`, which is contiguous.

    Says which of the file `name` overlap, and of which nothing is left.
    """
    flat = array.reshape(-1)
    left: dict[int, int] = {}
    names: dict[int, str] = {}
    notes = []
    for label, places in structures:
        for value, count in zip(*np.unique(flat[places], return_counts=True), strict=True):
            if not value:
                continue
            left[int(value)] -= int(count)
            rest = "" if left[int(value)] else f" Nothing is left of {names[int(value)]!r}."
            notes.append(
                f"{name}: {names[int(value)]!r} and {label.name!r} overlap in {count} voxels; there, {label.name!r}, "
                f"the smaller one, was taken.{rest}"
            )
        flat[places] = label.value
        left[label.value], names[label.value] = len(places), label.name
    return notes
