"""What a user can do about an error: buttons beside it, the best first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ...errors import EDITED_OUTPUT, LACKS_BOX, NONLINEAR_TRANSFORM, MAESegmentError
from ...translation import tr as _
from ..texts.messages import duration_text
from .elements import Option


class Remedy(str, Enum):
    """What a button beside an error does."""

    RETRY = "retry"
    USE_CPU = "use_cpu"
    USE_AUTO_DEVICE = "use_auto_device"
    ADD_ROI = "add_roi"
    HARDEN = "harden"
    NEW_OUTPUT = "new_output"
    REPLACE_OUTPUT = "replace_output"
    ALLOW_MISMATCH = "allow_mismatch"
    WITHOUT_BOX = "without_box"
    INSTALL = "install"
    SHOW_LOG = "show_log"
    COPY_DIAGNOSTICS = "copy_diagnostics"
    CHOOSE_FOLDER = "choose_folder"


@dataclass(frozen=True)
class OfferContext:
    """What the choice of offers depends on."""

    has_roi: bool = False
    python_lacks_packages: bool = False
    device: str = "auto"


def offers_for(error: MAESegmentError, details: Mapping[str, Any], context: OfferContext) -> list[Option]:
    """At most three buttons, the best first."""
    if details.get("problem") == NONLINEAR_TRANSFORM:
        return [Option(Remedy.HARDEN, _("Segment a hardened copy"))]
    if details.get("problem") == EDITED_OUTPUT:
        return [
            Option(Remedy.NEW_OUTPUT, _("Write to a new segmentation")),
            Option(Remedy.REPLACE_OUTPUT, _("Replace it")),
        ]
    if details.get("problem") == LACKS_BOX:
        return [Option(Remedy.ADD_ROI, _("Add a box")), Option(Remedy.WITHOUT_BOX, _("Segment all the same"))]
    if error.code == "mismatch":
        return [Option(Remedy.ALLOW_MISMATCH, _("Segment all the same"))]
    if error.code == "device_memory":
        return _memory_offers(details, context)
    if error.code == "device":
        return [
            Option(Remedy.USE_AUTO_DEVICE, _("Choose the device automatically")),
            Option(Remedy.SHOW_LOG, _("Show log")),
        ]
    if error.code == "worker":
        first = Option(Remedy.INSTALL, _("Install")) if context.python_lacks_packages else None
        return [*([first] if first else []), Option(Remedy.RETRY, _("Retry")), Option(Remedy.SHOW_LOG, _("Show log"))]
    if error.code == "output":
        return [Option(Remedy.CHOOSE_FOLDER, _("Choose another folder")), Option(Remedy.RETRY, _("Retry"))]
    if error.code in ("node", "geometry", "volume_read", "configuration"):
        return []
    return [Option(Remedy.SHOW_LOG, _("Show log")), Option(Remedy.COPY_DIAGNOSTICS, _("Copy diagnostics"))]


def _memory_offers(details: Mapping[str, Any], context: OfferContext) -> list[Option]:
    offers = []
    if context.device != "cpu":
        seconds = details.get("cpu_seconds")
        text = _("Use the CPU")
        if seconds:
            text = _("Use the CPU (about {time})").format(time=duration_text(float(seconds)))
        offers.append(Option(Remedy.USE_CPU, text))
    if not context.has_roi:
        offers.append(Option(Remedy.ADD_ROI, _("Segment only a region")))
    return [*offers, Option(Remedy.RETRY, _("Retry"))]
