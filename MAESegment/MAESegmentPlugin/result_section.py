"""The segmentation that is chosen: one line, the segments with their volumes, warnings, and the two next steps."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import qt
from slicer.i18n import tr as _

from MAESegmentLib import mrml
from MAESegmentLib.app.outputs import scan_title
from MAESegmentLib.app.presenters.elements import attempt
from MAESegmentLib.app.presenters.result import result_view
from MAESegmentLib.app.result_notes import summary_of
from MAESegmentLib.app.texts.messages import breakable, tooltip
from MAESegmentLib.storage.file_names import file_name

from .update_section import open_in_editor
from .widgets import RowTable, connect, figure_item, label_item, show_button


class ResultSection:
    """Hidden while no segmentation is chosen; what its buttons do, they do to the one that is shown."""

    def __init__(self, ui: Any, logic: Any, panel: Any) -> None:
        self._ui = ui
        self._logic = logic
        self._panel = panel
        self._segmentation: Any = None
        #: What came with each segmentation that was made here, by the ID of its node.
        self._summaries: dict[str, Any] = {}
        self._surfaces: Iterator[float] | None = None
        self._is_3d_wanted = False
        self._table = RowTable(ui.segmentsTable, "sf", (_("Segment"), _("Volume (ml)")))
        connect(ui.show3DButton, "clicked(bool)", self._on_3d_clicked)
        connect(ui.correctButton, "clicked()", self.correct)
        connect(ui.statisticsButton, "clicked()", self._save_statistics)
        self.clear()

    @property
    def segmentation(self) -> Any:
        """The node that is shown; None if it has gone."""
        node = self._segmentation
        return node if node is not None and node.GetScene() is not None else None

    def clear(self) -> None:
        """The scene goes."""
        self._summaries.clear()
        self.show(None)

    def add(self, segmentation: Any, summary: Any) -> None:
        """What is known of a result, which may be that of a node that had another one before."""
        self._summaries[segmentation.GetID()] = summary
        if segmentation is self._segmentation:
            self._segmentation = None

    def show(self, segmentation: Any) -> None:
        """Present the chosen segmentation; cheap if it is shown already."""
        ui = self._ui
        if segmentation is not self._segmentation:
            self._segmentation, self._surfaces = segmentation, None
            self.refresh()
            ui.show3DButton.setSegmentationNode(segmentation)
        ui.resultFrame.visible = segmentation is not None
        reason = _("This shows where two versions differ: it is not a segmentation to correct.")
        tip = _("Open the result in Segment Editor, over its scan.")
        show_button(ui.correctButton, reason if mrml.is_difference(segmentation) else "", tip)

    def show_new(self, segmentation: Any, summary: Any) -> None:
        """Present a finished job; in 3D if the user wanted the one before so."""
        self.add(segmentation, summary)
        self.show(segmentation)
        if self._is_3d_wanted:
            # A segment a turn: a surface takes long enough to notice.
            self._surfaces = mrml.surface_steps(segmentation)
            self._logic.session.loop.call_later(0.0, lambda steps=self._surfaces: self._make_surface(steps))

    def refresh(self) -> None:
        """The volumes are those of the result only until it is edited, which reads its voxels."""
        node = self.segmentation
        if node is None:
            return
        summary = self._summaries.get(node.GetID()) or summary_of(node)
        is_edited = summary is not None and mrml.is_edited(node)
        view = result_view(node.GetName(), scan_title(node), summary, mrml.drawn_segments(node), is_edited=is_edited)
        self._table.show(
            view.rows, lambda row: [label_item(row.name, row.colour, row.tip), figure_item(row.volume, row.tip)]
        )
        self._ui.resultLabel.text = breakable(view.line)
        self._ui.resultLabel.toolTip = tooltip(node.GetName())
        self._ui.warningLabel.text = breakable(view.warnings)
        self._ui.warningLabel.visible = bool(view.warnings)

    def correct(self) -> None:
        """Open Segment Editor on the result."""
        node = self.segmentation
        if node is not None:
            open_in_editor(node, mrml.volume_of(node))

    def _save_statistics(self) -> None:
        """Of what is drawn now, by whomever, on the scan that it was drawn on."""
        node, parent = self.segmentation, self._ui.statisticsButton
        if node is None:
            return
        name, kind = f"{file_name(node.GetName())}.csv", _("Table (*.csv)")
        path = qt.QFileDialog.getSaveFileName(parent, _("Save statistics"), name, kind)
        if path:
            scan = mrml.volume_of(node) or self._panel.volume
            attempt(lambda: self._logic.statistics(scan, node, out=str(path)), self._panel.show_error)

    def _on_3d_clicked(self, checked: bool) -> None:
        """Slicer's button has made the surfaces, or removed them."""
        self._surfaces, self._is_3d_wanted = None, checked

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
            self._logic.session.loop.call_later(0.0, lambda: self._make_surface(steps))
