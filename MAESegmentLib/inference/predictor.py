"""A model bundle in, predictions out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any, Protocol

import torch
from torch import nn

from ..bundle.training_statistics import FamiliarityStatistics
from ..device import autocast
from ..images.roi import Roi
from ..images.volume import Volume
from ..preprocessing.plan import Prepared
from .fallback import is_out_of_memory
from .familiarity import Familiarity, compare, statistics_of
from .segmenter import Segmenter, check_channels
from .settings import InferenceSettings, Prediction, ReportStage, ShouldCancel


class SegmentationBundle(Protocol):
    """The part of a bundle used here."""

    @property
    def spec(self) -> Any: ...

    def load_network(self, device: str = "cpu") -> nn.Module: ...


class Predictor:
    """Segments volumes with one model; the network is loaded once. Without `settings`, those stored with the model."""

    def __init__(
        self, bundle: SegmentationBundle, settings: InferenceSettings | None = None, *, network: nn.Module | None = None
    ) -> None:
        """`network` is the bundle's own if it has been loaded already."""
        self.settings = settings or InferenceSettings.of_model(bundle.spec.inference)
        self._bundle = bundle
        self.segmenter = _segmenter(bundle.spec, network or bundle.load_network(), self.settings)
        self.device = self.segmenter.device

    @property
    def spec(self) -> Any:
        """The bundle's description."""
        return self._bundle.spec

    def predict(
        self,
        volume: Volume,
        *,
        roi: Roi | str | Sequence[float] | None = None,
        progress: ReportStage | None = None,
        should_cancel: ShouldCancel | None = None,
        want_probabilities: bool = False,
        want_entropy: bool = False,
    ) -> Prediction:
        """Label `volume` on its own grid. `progress(stage, fraction)` counts each stage from 0 to 1.

        `roi` confines it to a box: R0, R1, A0, A1, S0, S1 in RAS mm.

        Raises `Cancelled` soon after `should_cancel()` returns True (it is asked before every batch of windows).
        """
        check_channels(volume, self._bundle.spec.channels)
        return self.segmenter.segment(
            volume,
            roi=None if roi is None else Roi.of(roi),
            progress=progress,
            should_cancel=should_cancel,
            want_probabilities=want_probabilities,
            want_entropy=want_entropy,
            examine=self._examine if self.settings.check_familiarity else None,
        )

    def estimate_seconds(self, volume: Volume, roi: Roi | None, device: torch.device) -> float:
        """How long the network would take on `device`, from the time of one window there."""
        return self.segmenter.estimate_seconds(volume, roi, device)

    def familiarity(self, volume: Volume, prepared: Prepared) -> Familiarity | None:
        """How far `volume`, of which `prepared` was made, is from the training scans; None if these are unknown."""
        encoder = getattr(self.segmenter.network, "encoder", None)
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

    def _examine(self, volume: Volume, prepared: Prepared) -> list[str]:
        result = self.familiarity(volume, prepared)
        return [result.message] if result and result.message else []


def trained_mirror_axes(spec: Any) -> tuple[int, ...]:
    """Axes the network was trained to be flipped along."""
    return tuple(int(axis) for axis in spec.inference.get("mirror_axes", (0, 1, 2)))


def _segmenter(spec: Any, network: nn.Module, settings: InferenceSettings) -> Segmenter:
    values = [0, *(label.value for label in spec.labels)]
    return Segmenter(network, spec.preprocessing, values, settings, mirror_axes=trained_mirror_axes(spec))
