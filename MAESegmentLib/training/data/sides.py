"""Structures with a side: mirrored from left to right, a left gland is a right one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...errors import ConfigurationError
from ...images.labels import ByName
from ..settings import Augmentation


@dataclass(frozen=True)
class Sides:
    """`axis` (0, 1, 2 = D, H, W) runs between left and right; `pairs` of output channels change places across it."""

    axis: int
    pairs: tuple[tuple[int, int], ...]

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
        table = torch.arange(256, dtype=classes.dtype)
        for one, other in self.pairs:
            table[one], table[other] = other, one
        return table[classes.long()]

    def allowed(self, augmentation: Augmentation, unknown: Sequence[int]) -> Augmentation:
        """`augmentation` for a case with `unknown` channels: not mirrored where only one side was annotated."""
        if all((one in unknown) == (other in unknown) for one, other in self.pairs):
            return augmentation
        return replace(augmentation, flip_axes=tuple(axis for axis in augmentation.flip_axes if axis != self.axis))
