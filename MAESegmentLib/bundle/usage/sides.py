"""Which structures of a model are each other's mirror image: those with a left and a right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import ConfigurationError

#: Of a spec's `inference`, where a model was trained on patches that were mirrored across its sides.
KEY = "sides"


@dataclass(frozen=True)
class Sides:
    """`axis` (0, 1, 2 = D, H, W) runs between left and right; `pairs` of output channels change places across it."""

    axis: int
    pairs: tuple[tuple[int, int], ...]

    def order(self, channels: int) -> list[int]:
        """Of as many `channels`, once a mirrored image was mirrored back."""
        order = list(range(channels))
        for one, other in self.pairs:
            order[one], order[other] = other, one
        return order

    def to_dict(self) -> dict[str, Any]:
        return {"axis": self.axis, "pairs": [list(pair) for pair in self.pairs]}


def sides_of(inference: Mapping[str, Any], labels: int) -> Sides | None:
    """From a spec's `inference`, of a model with as many `labels`; `ConfigurationError` for what is none."""
    stored = inference.get(KEY)
    if stored is None:
        return None
    if not isinstance(stored, Mapping) or set(stored) != {"axis", "pairs"} or not isinstance(stored["pairs"], list):
        raise ConfigurationError("It is not an axis with pairs.")
    if type(stored["axis"]) is not int or stored["axis"] not in (0, 1, 2):
        raise ConfigurationError("Its axis is not 0, 1 or 2.")
    pairs = stored["pairs"][: labels + 1]
    if not pairs or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise ConfigurationError("Its pairs are not pairs.")
    channels = [channel for pair in pairs for channel in pair]
    if not all(type(channel) is int and 1 <= channel <= labels for channel in channels):
        raise ConfigurationError(f"Its pairs are not of labels 1 to {labels}.")
    if len(set(channels)) < len(channels):
        raise ConfigurationError("A label is in two pairs.")
    return Sides(stored["axis"], tuple((one, other) for one, other in pairs))


def mirrorable_axes(inference: Mapping[str, Any], labels: int) -> tuple[int, ...]:
    """Along which a model was trained to be flipped, the one across which its structures change places among them."""
    sides = sides_of(inference, labels)
    # A version before, which exchanges nothing, finds that axis only in `sides`.
    return tuple(sorted({*inference.get("mirror_axes", (0, 1, 2)), *([] if sides is None else [sides.axis])}))
