"""A volume in, a label map on exactly its grid out: with progress, cancel and bounded memory.

Names are imported when first used, so that settings can be read without loading torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import importing

if TYPE_CHECKING:
    from ..device import resolve_device
    from ..images.roi import Roi
    from .predictor import Predictor
    from .segmenter import Segmenter
    from .settings import InferenceSettings, Prediction

_HOME = {
    "InferenceSettings": "settings",
    "Prediction": "settings",
    "Predictor": "predictor",
    "Roi": ".images.roi",
    "Segmenter": "segmenter",
    "resolve_device": ".device",
}

__all__ = ["InferenceSettings", "Prediction", "Predictor", "Roi", "Segmenter", "resolve_device"]

__getattr__ = importing(__name__, _HOME)
