"""The public face: data-efficient 3D segmentation with an MAE-pretrained nnFormer.

Each of the names here is imported when first used, so that this package alone needs neither numpy
nor torch.

>>> import MAESegmentLib
>>> MAESegmentLib.errors.BundleError("There is no model.", "Import one.").hint
'Import one.'
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import errors
from .lazy import importing
from .version import __version__

if TYPE_CHECKING:
    from .bundle.store import ModelStore
    from .console.console import Console
    from .images.reading import read_label_map, read_volume
    from .images.roi import Roi
    from .images.writing import write_label_map
    from .inference.predictor import Predictor
    from .inference.settings import InferenceSettings

_HOME = {
    "Console": "console.console",
    "InferenceSettings": "inference.settings",
    "ModelStore": "bundle.store",
    "Predictor": "inference.predictor",
    "Roi": "images.roi",
    "read_label_map": "images.reading",
    "read_volume": "images.reading",
    "write_label_map": "images.writing",
}

__all__ = [
    "Console",
    "InferenceSettings",
    "ModelStore",
    "Predictor",
    "Roi",
    "__version__",
    "errors",
    "read_label_map",
    "read_volume",
    "write_label_map",
]

__getattr__ = importing(__name__, _HOME)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
