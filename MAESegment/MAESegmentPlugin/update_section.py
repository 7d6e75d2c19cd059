"""The view of `UpdatePresenter`: what was drawn, the buttons that let the rest of the scan follow, and the way back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import slicer

from MAESegmentLib import mrml
from MAESegmentLib.app.presenters.update import UpdatePresenter
from MAESegmentLib.app.texts.messages import breakable
from MAESegmentLib.jobs.runner import logged

from .ask_bar import AskBar
from .widgets import connect, show_control


def segment_editor() -> Any:
    """Slicer's own, a `qMRMLSegmentEditorWidget`."""
    return slicer.util.getModuleWidget("SegmentEditor").editor


def open_in_editor(segmentation: Any, volume: Any) -> None:
    """Go to Segment Editor, over the scan."""
    slicer.util.selectModule("SegmentEditor")
    segment_editor().setSegmentationNode(segmentation)
    if volume is not None:
        segment_editor().setSourceVolumeNode(volume)
        mrml.show_in_views(volume)


class UpdateSection:
    """An `UpdateHost`, of what is chosen in the panel."""

    def __init__(self, ui: Any, logic: Any, panel: Any) -> None:
        self._ui = ui
        self._panel = panel
        self.presenter = presenter = UpdatePresenter(logic, self, self._show)
        self._asks = AskBar(ui, "updateAsk", presenter.act)
        connect(ui.updateButton, "clicked()", presenter.press_update)
        connect(ui.undoUpdateButton, "clicked()", presenter.press_undo)
        connect(ui.scribbleButton, "clicked()", presenter.press_scribble)
        connect(ui.growButton, "clicked()", presenter.press_grow)
        connect(ui.fixCollapsibleButton, "contentsCollapsed(bool)", lambda _collapsed: presenter.look())
        self._show()

    # What the presenter sees of the panel -----------------------------------------------------------------------------

    @property
    def volume(self) -> Any:
        return self._panel.improve.volume

    @property
    def segmentation(self) -> Any:
        return self._panel.improve.segmentation

    @property
    def roi(self) -> Any:
        return self._panel.improve.roi

    @property
    def device(self) -> str:
        return str(self._panel.improve.device)

    @property
    def is_looked_at(self) -> bool:
        return not self._ui.fixCollapsibleButton.collapsed

    def failed(self, error: Exception) -> None:
        self._panel.show_error(logged(error))

    @contextmanager
    def changing(self, segmentation: Any) -> Iterator[None]:
        """Segment Editor's Undo, too, takes it back, while it has the segmentation and its undo is on."""
        if segment_editor().segmentationNode() is segmentation:
            segment_editor().saveStateForUndo()
        yield

    def changed(self, segmentation: Any) -> None:
        if segmentation is self._panel.result.segmentation:
            self._panel.result.refresh()

    def scribble(self) -> None:
        open_in_editor(self.segmentation, self.volume)
        segment_editor().setActiveEffectByName("Paint")

    # ------------------------------------------------------------------------------------------------------------------

    def _show(self) -> None:
        ui, state = self._ui, self.presenter.state
        for button, control in (
            (ui.updateButton, state.update),
            (ui.undoUpdateButton, state.undo),
            (ui.scribbleButton, state.scribble),
            (ui.growButton, state.grow),
        ):
            show_control(button, control)
        ui.undoUpdateButton.visible = state.can_undo
        ui.updateLabel.text = breakable(state.line)
        ui.updateLabel.visible = bool(state.line) and state.asks is None
        ui.updateSaidLabel.text = breakable(state.said)
        ui.updateSaidLabel.visible = bool(state.said)
        ui.updateProgressBar.visible = state.is_running
        ui.updateProgressBar.value = round(1000 * state.fraction)
        self._asks.show(state.asks)
