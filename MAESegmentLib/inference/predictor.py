"""A model bundle in, predictions out."""

from __future__ import annotations

import math
from functools import cached_property, partial
from typing import Any

from torch import nn

from ..bundle import Bundle
from ..bundle.spec import check_channels
from ..bundle.training_statistics import FamiliarityStatistics
from ..device import autocast
from ..errors import is_out_of_memory
from ..images.volume import Volume
from ..preprocessing.plan import Prepared
from .familiarity import Familiarity, compare, statistics_of
from .segmenter import Segmenter
from .settings import InferenceSettings


class Predictor(Segmenter):
    """Segments volumes with one model; the network is loaded once. Without `settings`, those stored with the model."""

    def __init__(
        self, bundle: Bundle, settings: InferenceSettings | None = None, *, network: nn.Module | None = None
    ) -> None:
        """`network` is the bundle's own if it has been loaded already."""
        #: The bundle's description.
        self.spec = spec = bundle.spec
        super().__init__(
            network or bundle.load_network(),
            spec.preprocessing,
            [0, *(label.value for label in spec.labels)],
            settings or InferenceSettings.of_model(spec.inference),
            mirror_axes=trained_mirror_axes(spec),
        )

    def familiarity(self, volume: Volume, prepared: Prepared) -> Familiarity | None:
        """How far `volume`, of which `prepared` was made, is from the training scans; None if these are unknown."""
        encoder = getattr(self.network, "encoder", None)
        if encoder is None or self._statistics is None:
            return None
        found = partial(compare, self._statistics, self.spec.preprocessing, volume, prepared)
        try:
            # What half precision changes is nothing beside the spread between scans, unless it overflows.
            with autocast(self.device, self.settings.precision):
                result = found(encoder.to(self.device), device=self.device)
            return result if math.isfinite(result.excess) else found(encoder, device=self.device)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return found(encoder.to("cpu"))

    @cached_property
    def _statistics(self) -> FamiliarityStatistics | None:
        return statistics_of(self.spec)

    def check(self, volume: Volume) -> None:
        check_channels(len(volume.array), self.spec.channels)
        super().check(volume)

    def _examine(self, volume: Volume, prepared: Prepared) -> list[str]:
        result = self.familiarity(volume, prepared) if self.settings.check_familiarity else None
        return [result.message] if result and result.message else []


def trained_mirror_axes(spec: Any) -> tuple[int, ...]:
    """Axes the network was trained to be flipped along."""
    return tuple(int(axis) for axis in spec.inference.get("mirror_axes", (0, 1, 2)))
