"""The one button that segments and cancels, and how far the segmentation is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from MAESegmentLib.app.presenters.segment import SegmentState
from MAESegmentLib.app.texts.messages import tooltip

from .qt_connection import connect


class RunSection:
    """`pressed` is called for Segment and for Cancel alike."""

    def __init__(self, ui: Any, pressed: Callable[[], None]) -> None:
        self._ui = ui
        connect(ui.segmentButton, "clicked()", pressed)

    def show(self, state: SegmentState) -> None:
        """The button and the progress."""
        button = self._ui.segmentButton
        button.text = state.button.text
        button.enabled = state.button.is_enabled
        button.toolTip = tooltip(state.button.tip)
        self._ui.progressWidget.visible = state.is_running
        self.show_progress(state)

    def show_progress(self, state: SegmentState) -> None:
        """Where it is not known how long a step takes, the bar moves without a figure."""
        self._ui.progressBar.maximum = 1000 if state.fraction is not None else 0
        self._ui.progressBar.value = round(1000 * (state.fraction or 0.0))
        self._ui.stageLabel.text = state.text
