"""The one button that segments and cancels, and how far the segmentation is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from MAESegmentLib.app.texts.messages import overall_fraction, progress_text, tooltip

from .qt_connection import connect

#: A person reads no faster; painting more often would only cost.
_REDRAW_EVERY_S = 0.1


class RunSection:
    """`pressed` is called for Segment and for Cancel alike."""

    def __init__(self, ui, pressed: Callable[[], None]) -> None:
        self._ui = ui
        self._drawn = 0.0
        self._text = ""
        ui.progressWidget.visible = False
        connect(ui.segmentButton, "clicked()", pressed)

    def update(self, *, is_running: bool, cancel_requested: bool, reason: str) -> None:
        """`reason` says why nothing can be segmented now; "" if it can."""
        button = self._ui.segmentButton
        if is_running:
            button.text = _("Cancelling...") if cancel_requested else _("C&ancel")
            button.enabled = not cancel_requested
            button.toolTip = (
                _("The segmentation stops at its next window.") if cancel_requested else _("Stop; nothing is changed.")
            )
        else:
            button.text = _("&Segment")
            button.enabled = not reason
            button.toolTip = tooltip(reason) or _("Segment the volume with this model. Slicer can be used meanwhile.")
        self._ui.progressWidget.visible = is_running
        if not is_running:
            self._ui.progressBar.maximum = 1000
            self._ui.progressBar.value = 0
            self._ui.stageLabel.text = self._text = ""

    def show_progress(self, job: Any, *, is_starting: bool, prefix: str = "") -> None:
        """Draw where `job` stands, unless that was done a moment ago and nothing but a figure has changed."""
        text = prefix + progress_text(job.state.name, job.stage, job.eta_s, job.position, is_starting=is_starting)
        now = time.monotonic()
        if now - self._drawn < _REDRAW_EVERY_S and text.partition(",")[0] == self._text.partition(",")[0]:
            return
        self._drawn, self._text = now, text
        # Nothing is known of how long the process takes to start: the bar moves without a figure.
        self._ui.progressBar.maximum = 0 if is_starting else 1000
        self._ui.progressBar.value = round(1000 * overall_fraction(job.stage, job.fraction))
        self._ui.stageLabel.text = text
