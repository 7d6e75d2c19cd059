"""How images are drawn from maps of tissues; `drawing` draws them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ...errors import ConfigurationError
from ...values import check_known


@dataclass(frozen=True)
class Synthesis:
    """Ranges and chances that an image is drawn with; lengths are in mm, grey values before noise run from 0 to 1."""

    rotation_degrees: float = 15.0
    scale: tuple[float, float] = (0.85, 1.15)
    #: Standard deviation of the displacement, drawn anew for each image, and the distance over which it changes.
    elastic_mm: tuple[float, float] = (0.0, 4.0)
    elastic_distance_mm: float = 40.0
    #: Standard deviation within a tissue.
    spread: tuple[float, float] = (0.0, 0.1)
    #: Chance that what surrounds the body is black.
    black_outside: float = 0.7
    #: Chance that all tissues but the `inner` ones are taken away, as a skull-stripping program does.
    strip: float = 0.0
    inner: tuple[int, ...] = ()
    #: Largest standard deviation of the logarithm of the bias field.
    bias: float = 0.5
    bias_distance_mm: float = 60.0
    #: Chance that an image has thick slices, along any axis, and how thick they are.
    thick_slices: float = 0.5
    slice_mm: tuple[float, float] = (1.0, 6.0)
    blur_mm: tuple[float, float] = (0.0, 1.5)
    #: Largest deviation of the logarithm of the exponent that grey values are raised to.
    gamma: float = 0.4
    noise: tuple[float, float] = (0.0, 0.08)
    #: Patches that are cut from an image before the next is drawn.
    patches_per_volume: int = 4

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))
        for name in ("black_outside", "strip", "thick_slices"):
            _require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "a chance from 0 to 1")
        for name in ("scale", "elastic_mm", "spread", "slice_mm", "blur_mm", "noise"):
            value = getattr(self, name)
            ordered = len(value) == 2 and all(map(math.isfinite, value)) and 0 <= value[0] <= value[1]
            _require(ordered, name, value, "two increasing numbers of 0 or more")
        for name in ("elastic_distance_mm", "bias_distance_mm"):
            _require(getattr(self, name) > 0, name, getattr(self, name), "above 0 mm")
        _require(self.scale[0] > 0, "scale", self.scale, "two increasing factors above 0")
        _require(self.slice_mm[0] > 0, "slice_mm", self.slice_mm, "two increasing lengths above 0 mm")
        _require(self.patches_per_volume >= 1, "patches_per_volume", self.patches_per_volume, "1 or more")
        _require(not self.strip or bool(self.inner), "inner", self.inner, "the tissues that stay when others are taken")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Synthesis:
        check_known(cls, data, "synthesis settings")
        return cls(**data)


def _require(ok: bool, name: str, value: object, wanted: str) -> None:
    if not ok:
        raise ConfigurationError(f"Setting synthesis.{name} is {value!r}; it must be {wanted}.")
