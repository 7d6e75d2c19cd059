"""Boxes for models that are made for one: when to ask for it, and one to begin with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer

from ..bundle import Bundle
from ..translation import tr as _


def box_hint(bundle: Bundle | None) -> str:
    """What to say if the model's author asks for a box around the structure; else ""."""
    if bundle is None or not re.search(r"\b(box|ROI)\b", str(bundle.metadata.get("intended_use", ""))):
        return ""
    return _("Made for a box around the structure: choose or add one. Without it the whole volume is searched.")


def add_box(volume: Any, bundle: Bundle | None, centre: Sequence[float] | None = None) -> Any:
    """An ROI node of the model's window size, ready to be dragged; `centre` (RAS mm) is by default the volume's."""
    bounds = [0.0] * 6
    volume.GetRASBounds(bounds)
    low, high = np.array(bounds[0::2]), np.array(bounds[1::2])
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", _("{name} region").format(name=volume.GetName()))
    roi.CreateDefaultDisplayNodes()
    roi.SetCenter([float(value) for value in ((low + high) / 2 if centre is None else centre)])
    roi.SetSize([float(value) for value in np.minimum(window_mm(bundle), high - low)])
    display = roi.GetDisplayNode()
    if display is not None:
        display.SetHandlesInteractive(True)
        display.SetFillOpacity(0.1)
    return roi


def window_mm(bundle: Bundle | None) -> np.ndarray:
    """Size (3,) of the network's window along R, A, S in mm."""
    if bundle is None:
        return np.full(3, 100.0)
    recipe = bundle.metadata["maesegment"]["preprocessing"]
    size = np.array(recipe["patch_size"], float) * np.array(recipe["spacing"], float)
    axes = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}
    result = np.empty(3)
    result[[axes[letter] for letter in recipe["orientation"]]] = size
    return result
