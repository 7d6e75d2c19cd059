"""What came out: one line, the segments with their volumes, warnings, and the two next steps."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import slicer
from slicer.i18n import tr as _

from MAESegmentLib import mrml
from MAESegmentLib.app.presenters.result import result_view
from MAESegmentLib.app.texts.messages import breakable, tooltip

from .widgets import RowTable, connect, figure_item, label_item, show_button


class ResultSection:
    """Hidden until there is a result. Belongs to one segmentation node and its volume."""

    def __init__(self, ui: Any, session: Any) -> None:
        self._ui = ui
        self._session = session
        self._segmentation: Any = None
        self._volume: Any = None
        self._summary: Any = None
        self._surfaces: Iterator[float] | None = None
        self._table = RowTable(ui.segmentsTable, "sf", (_("Segment"), _("Volume (ml)")))
        connect(ui.show3DButton, "toggled(bool)", self._on_show_3d)
        connect(ui.correctButton, "clicked()", self.correct)
        self.clear()

    @property
    def segmentation(self) -> Any:
        """The node that is shown; None if it has gone."""
        node = self._segmentation
        return node if node is not None and node.GetScene() is not None else None

    def clear(self) -> None:
        self._segmentation = self._volume = self._surfaces = None
        self._ui.resultFrame.visible = False

    def show(self, summary: Any, segmentation: Any, volume: Any) -> None:
        """Present a finished job."""
        self._segmentation, self._volume, self._surfaces, self._summary = segmentation, volume, None, summary
        ui = self._ui
        ui.resultLabel.toolTip = tooltip(segmentation.GetName())
        self._fill(segmentation, is_edited=False)
        was_shown, ui.show3DButton.checked = ui.show3DButton.checked, False
        ui.resultFrame.visible = True
        self.update()
        if was_shown:
            ui.show3DButton.checked = True

    def refresh(self) -> None:
        """The volumes are those of the result only until it is edited, which reads its voxels."""
        if self.segmentation is not None:
            self._fill(self.segmentation, is_edited=mrml.is_edited(self.segmentation))

    def _fill(self, node: Any, *, is_edited: bool) -> None:
        view = result_view(node.GetName(), self._summary, mrml.drawn_segments(node), is_edited=is_edited)
        self._table.show(view.rows, lambda row: [label_item(row.name, row.colour, row.tip), figure_item(row.volume)])
        self._ui.resultLabel.text = breakable(view.line)
        self._ui.warningLabel.text = breakable(view.warnings)
        self._ui.warningLabel.visible = bool(view.warnings)

    def update(self) -> None:
        """The buttons need the node, which the user may have removed."""
        gone = _("The segmentation is no longer in the scene.") if self.segmentation is None else ""
        show_button(self._ui.show3DButton, gone, _("Show the surfaces of the segments in the 3D view."))
        show_button(self._ui.correctButton, gone, _("Open the result in Segment Editor, over its scan."))

    def correct(self) -> None:
        """Open Segment Editor on the result."""
        node = self.segmentation
        if node is None:
            self.update()
            return
        slicer.util.selectModule("SegmentEditor")
        widget = slicer.util.getModuleWidget("SegmentEditor")
        widget.editor.setSegmentationNode(node)
        if self._volume is not None and self._volume.GetScene() is not None:
            widget.editor.setSourceVolumeNode(self._volume)

    def _on_show_3d(self, shown: bool) -> None:
        node = self.segmentation
        if node is None:
            return
        if not shown:
            self._surfaces = None
            mrml.show_in_3d(node, False)
            return
        # A segment a turn: a surface takes long enough to notice.
        self._surfaces = mrml.surface_steps(node)
        self._session.loop.call_later(0.0, lambda steps=self._surfaces: self._make_surface(steps))

    def _make_surface(self, steps: Iterator[float]) -> None:
        node = self.segmentation
        if steps is not self._surfaces or node is None:
            return
        try:
            next(steps)
        except StopIteration:
            self._surfaces = None
            mrml.show_in_3d(node, True)
        except Exception:
            self._surfaces = None
            logging.exception("MAESegment: the surfaces could not be made")
        else:
            self._session.loop.call_later(0.0, lambda: self._make_surface(steps))


def volume_of(segmentation: Any) -> Any:
    """The scan that a segmentation was made on; None if that is not known."""
    return segmentation.GetNodeReference(segmentation.GetReferenceImageGeometryReferenceRole())
