"""Peak memory of one piece of work: of the GPU, or, where there is none, of the process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import torch

from MAESegmentLib.bundle import Bundle
from MAESegmentLib.device import autocast, resolve_device
from MAESegmentLib.images.reading import read_volume
from MAESegmentLib.inference.predictor import Predictor
from MAESegmentLib.inference.settings import InferenceSettings

from ..benchmarks.network_cases import train


def peak_of_segmenting(bundle: Bundle, scan: Path, device: str) -> dict[str, Any]:
    """As `maesegment segment` does it."""
    settings = InferenceSettings.of_model(bundle.spec.inference, device=device, allow_cpu=False)
    _reset(device)
    prediction = Predictor(bundle, settings).predict(read_volume(scan))
    return {"scan_s": round(prediction.seconds, 3), "warnings": list(prediction.warnings), **_peak(device)}


def peak_of_training(bundle: Bundle, batch: int, device: str) -> dict[str, Any]:
    """Forward and backward of `batch` patches, in the precision that training takes."""
    on = resolve_device(device)
    network = bundle.load_network().to(on)
    image = torch.randn(batch, len(bundle.spec.channels), *bundle.spec.preprocessing.patch_size, device=on)
    _reset(device)
    for _ in range(2):
        with autocast(on, "auto"):
            train(network, image)
    return _peak(device)


def _reset(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def _peak(device: str) -> dict[str, Any]:
    if not device.startswith("cuda"):
        return {"process_gib": round(psutil.Process().memory_info().rss / 2**30, 3)}
    allocated, reserved = torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)
    return {"allocated_gib": round(allocated / 2**30, 3), "reserved_gib": round(reserved / 2**30, 3)}
