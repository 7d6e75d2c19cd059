"""A model bundle in, predictions out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..bundle import Bundle
from ..bundle.spec import check_channels
from ..bundle.training_statistics import FamiliarityStatistics
from ..bundle.usage.cleaning import cleaning_of
from ..bundle.usage.sides import mirrorable_axes, sides_of
from ..bundle.usage.sizes import unlike_text, volumes_of
from ..device import Device, has_torch, the_processor
from ..errors import ConfigurationError, is_out_of_memory
from ..images.roi import Roi
from ..images.volume import LabelMap, Volume
from ..images.volumetry import values_at_border, volumes_ml, voxel_ml
from ..preprocessing.plan import Prepared
from .familiarity import Familiarity, compare, statistics_of
from .islands import MUCH, Cleaned, clean
from .runtimes.openvino_runtime import OpenVinoRuntime, is_installed, stored_runtime
from .runtimes.torch_runtime import Runtime
from .segmenter import Segmenter, stop_if
from .settings import OPENVINO, TORCH, InferenceSettings, ReportStage, ShouldCancel

if TYPE_CHECKING:
    from torch import nn


class Predictor(Segmenter):
    """Segments volumes with one model; the network is loaded once. Without `settings`, those stored with the model."""

    def __init__(
        self, bundle: Bundle, settings: InferenceSettings | None = None, *, network: nn.Module | None = None
    ) -> None:
        """`network` is the bundle's own if it has been loaded already; torch runs what is given."""
        self._bundle, self._converts = bundle, network is None
        self._openvino: OpenVinoRuntime | None = None
        #: The bundle's description.
        self.spec = spec = bundle.spec
        super().__init__(
            network,
            spec.preprocessing,
            [0, *(label.value for label in spec.labels)],
            settings or InferenceSettings.of_model(spec.inference),
            mirror_axes=mirrorable_axes(spec.inference, len(spec.labels)),
            sides=sides_of(spec.inference, len(spec.labels)),
            token_size=(1, 1, 1) if spec.network is None else spec.network.token_size,
        )
        self.bundle, self.labels = bundle, spec.labels
        self.runtime_on(self.device)  # loaded now

    def runtime_on(self, device: Device) -> Runtime:
        """A model that was converted for OpenVINO meanwhile is found by the next scan."""
        chosen = self.settings.runtime
        if not self._converts or chosen == TORCH or device.type != "cpu":
            return super().runtime_on(device)
        self._openvino = self._openvino or stored_runtime(self._bundle, self.settings.precision)
        if self._openvino is None and chosen == OPENVINO:
            self._check_torch()
            from .runtimes.conversion import prepare

            self._openvino = OpenVinoRuntime(prepare(self._bundle).converted, self.settings.precision)
        return self._openvino or super().runtime_on(device)

    def load(self) -> nn.Module:
        self._check_torch()
        return self._bundle.load_network()

    def _check_torch(self) -> None:
        if has_torch():
            return
        model = f"{self._bundle.name} {self._bundle.version}"
        if not is_installed():
            raise ConfigurationError(
                f"Neither PyTorch nor OpenVINO is installed, so nothing can run {model}.",
                "Install the package openvino to segment on the processor, or torch to fine-tune as well.",
            )
        if self.settings.runtime == TORCH:
            raise ConfigurationError(
                "The runtime torch is PyTorch, which is not installed.",
                "Install the package torch, or choose auto.",
            )
        raise ConfigurationError(
            f"PyTorch is not installed, and for OpenVINO {model} has no conversion that can be used as chosen.",
            "Install the package torch, which runs any model and converts it, or segment with a model that ships.",
        )

    def familiarity(self, volume: Volume, prepared: Prepared) -> Familiarity | None:
        """How far `volume`, of which `prepared` was made, is from the training scans; None if these are unknown."""
        statistics = self._statistics
        if statistics is None:
            return None

        def found(device: Device, precision: str) -> Familiarity | None:
            encode = self.runtime_on(device).encoder_on(device, precision)
            if encode is None:
                return None
            return compare(statistics, self.spec.preprocessing, volume, prepared, encode, device=device)

        try:
            # What half precision changes is nothing beside the spread between scans, unless it overflows.
            result = found(self.device, self.settings.precision)
            overflowed = result is not None and not math.isfinite(result.excess)
            return found(self.device, "fp32") if overflowed else result
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return found(the_processor(), "fp32")

    @cached_property
    def _statistics(self) -> FamiliarityStatistics | None:
        return statistics_of(self.spec)

    def check(self, volume: Volume) -> None:
        check_channels(len(volume.array), self.spec.channels)
        super().check(volume)

    def _examine(self, volume: Volume, prepared: Prepared) -> list[str]:
        result = self.familiarity(volume, prepared) if self.settings.check_familiarity else None
        return [result.message] if result and result.message else []

    def _judge(self, label_map: LabelMap, roi: Roi | None) -> list[str]:
        known = volumes_of(self.spec.inference)
        if not known:
            return []
        cut_off = values_at_border(label_map if roi is None else label_map.crop(roi.voxels(label_map.grid)))
        if roi is not None and any(roi.planes_outside(label_map.grid)):
            cut_off = {label.value for label in self.labels}  # its border is not that of the voxels
        text = unlike_text(volumes_ml(label_map, self.labels), known, self.labels, cut_off)
        return [text] if text else []

    def _clean(
        self, label_map: LabelMap, warnings: list[str], report: ReportStage, should_cancel: ShouldCancel | None
    ) -> Mapping[str, Cleaned]:
        def between(fraction: float) -> None:
            stop_if(should_cancel)
            report("restore", fraction)

        names = {label.value: label.name for label in self.spec.labels}
        recipes = cleaning_of(self.spec.inference) if self.settings.clean else {}
        recipes = {value: recipe for value, recipe in recipes.items() if value in names}
        changed, left = clean(label_map.array, recipes, voxel_ml(label_map), between)
        if left:
            warnings.append(
                f"Too little memory to remove stray pieces of {', '.join(names[value] for value in left)}: look for "
                "islands in the result, or close other programs and segment again."
            )
        warnings.extend(
            f"{100 * found.share:.0f} % of {names[value]} ({found.removed_ml:.1f} ml in {found.islands} "
            f"piece{'' if found.islands == 1 else 's'}) was removed as stray: check that nothing is missing, or "
            "segment again without removing stray pieces."
            for value, found in changed.items()
            if found.share > MUCH
        )
        return {names[value]: found for value, found in changed.items()}


def trained_mirror_axes(spec: Any) -> tuple[int, ...]:
    """Axes the network was trained to be flipped along without any structure changing places."""
    return tuple(int(axis) for axis in spec.inference.get("mirror_axes", (0, 1, 2)))
