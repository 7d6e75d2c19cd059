"""The parts of a bundle's `configs/inference.json`: MONAI's interfaces around the same `Predictor` as everywhere."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.inferers import Inferer
from monai.transforms import Transform
from torch import nn

from ..bundle import Bundle
from ..bundle.spec import check_channels
from ..bundle.suitability import ScanFacts, check_scan, lacks_box
from ..errors import ConfigurationError
from ..images.reading import read_volume, read_volumes
from ..images.volume import LabelMap, Volume
from ..images.writing import write_label_map
from .islands import cleaned_text
from .predictor import Predictor
from .settings import InferenceSettings, default_output

_log = logging.getLogger(__name__)


class ReadScan(Transform):
    """{"image": path, or one path per channel} -> adds "volume"."""

    def __init__(self, channels: Sequence[str]) -> None:
        self.channels = tuple(channels)

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        image = data["image"]
        if not image:
            raise ConfigurationError("No scan was given.", "Add --input PATH (a list of paths for several channels).")
        volume = read_volume(image) if isinstance(image, (str, Path)) else read_volumes(image)
        check_channels(len(volume.array), self.channels)
        return {**data, "volume": volume}


class VolumeInferer(Inferer):
    """(volume, network) -> label map on the volume's grid."""

    def __init__(self, bundle: Bundle, *, allow_mismatch: bool = False, **settings: Any) -> None:
        Inferer.__init__(self)
        self.bundle = bundle
        self.allow_mismatch = allow_mismatch
        self.settings = InferenceSettings.of_model(bundle.spec.inference, **settings)

    def __call__(self, inputs: Volume, network: nn.Module, *_args: Any, **_kwargs: Any) -> LabelMap:
        facts = ScanFacts.of(inputs)
        hint = "If you know that it fits, add --inferer#allow_mismatch True."
        allowed = check_scan(self.bundle, facts, allowed=self.allow_mismatch, hint=hint)
        if text := lacks_box(self.bundle, facts.grid, None):
            _log.warning("%s Crop the scan to it first.", text)
        prediction = Predictor(self.bundle, self.settings, network=network).predict(inputs)
        if prediction.cleaned:
            _log.info("Cleaned: %s", cleaned_text(prediction.cleaned))
        for warning in (*allowed, *prediction.warnings):
            _log.warning("%s", warning)
        return prediction.label_map


class SaveSegmentation(Transform):
    """Writes "label_map" and adds "written", the file's path."""

    def __init__(self, bundle: Bundle, output: str | None = None) -> None:
        self.labels = bundle.labels
        self.output = output

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        image = data["image"]
        first = Path(image if isinstance(image, (str, Path)) else image[0])
        output = Path(self.output) if self.output else default_output(first)
        written = write_label_map(output, data["label_map"], self.labels, source=data["volume"], volume_name=first.name)
        return {**data, "written": written}


class VolumeEvaluator:
    """Takes every item of `dataloader` through inferer and postprocessing; MONAI's evaluators need pytorch-ignite."""

    def __init__(
        self,
        dataloader: Iterable[Sequence[Mapping[str, Any]]],
        network: nn.Module,
        inferer: Inferer,
        postprocessing: Any,
    ) -> None:
        self.dataloader = dataloader
        self.network = network
        self.inferer = inferer
        self.postprocessing = postprocessing

    def run(self) -> list[Path]:
        """The files written."""
        written = []
        for batch in self.dataloader:
            for item in batch:
                label_map = self.inferer(item["volume"], self.network)
                written.append(self.postprocessing({**item, "label_map": label_map})["written"])
        return written
