"""Several volumes, or all frames of a sequence, one after the other, and what became of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from MAESegmentLib import mrml

from .messages import result_text
from .qt_connection import connect

_HEIGHT_OF_TABLE = 160


class BatchSection:
    """Starts nothing itself: `start_volumes(nodes)` and `start_frames(node)` do."""

    def __init__(
        self,
        ui,
        start_volumes: Callable[[list[Any]], None],
        start_frames: Callable[[], None],
        open_row: Callable[[Any], None],
        changed: Callable[[], None],
    ) -> None:
        self._ui = ui
        self._open_row = open_row
        self._rows: list[Any] = []
        table = ui.batchTable
        table.setColumnCount(2)
        table.setHorizontalHeaderLabels([_("Volume"), _("Result")])
        table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.ResizeToContents)
        table.horizontalHeader().setSectionResizeMode(1, qt.QHeaderView.Stretch)
        table.setFixedHeight(_HEIGHT_OF_TABLE)
        table.visible = False
        connect(ui.batchButton, "clicked()", lambda: start_volumes(self.ticked()))
        connect(ui.framesButton, "clicked()", start_frames)
        connect(ui.batchSelector, "checkedNodesChanged()", changed)
        connect(table, "cellDoubleClicked(int,int)", self._on_double_click)

    def ticked(self) -> list[Any]:
        """The volumes that are ticked, as they are listed."""
        return [node for node in self._ui.batchSelector.checkedNodes() if node is not None]

    def update(self, volume: Any, *, reason: str) -> None:
        """`reason` says why nothing at all can be started now."""
        ui = self._ui
        nothing = reason or ("" if self.ticked() else _("Tick the volumes to segment."))
        ui.batchButton.enabled = not nothing
        ui.batchButton.toolTip = nothing or _(
            "Segment the ticked volumes with the model above; one that fails does not stop the rest."
        )
        frames = mrml.frames_of(volume)
        lacking = reason or ("" if frames else _("The input volume belongs to no sequence."))
        ui.framesButton.enabled = not lacking
        ui.framesButton.text = _("Segment all {n} frames").format(n=len(frames)) if frames else _("Segment all frames")
        ui.framesButton.toolTip = lacking or _(
            "Segment every frame of the input's sequence; the result is a sequence too."
        )

    def show(self, batch: Any) -> None:
        """The table of a batch, under way or over."""
        table = self._ui.batchTable
        self._rows = list(batch.rows)
        table.visible = True
        if table.rowCount != len(self._rows):
            table.setRowCount(len(self._rows))
        for number, row in enumerate(self._rows):
            self._set(number, 0, row.name, row.name)
            self._set(number, 1, _outcome(row), row.message)
        if not batch.is_finished:
            table.scrollToItem(table.item(batch.index, 0))

    def clear(self) -> None:
        self._rows = []
        self._ui.batchTable.setRowCount(0)
        self._ui.batchTable.visible = False

    def _set(self, row: int, column: int, text: str, tip: str) -> None:
        item = self._ui.batchTable.item(row, column)
        if item is None:
            item = qt.QTableWidgetItem()
            self._ui.batchTable.setItem(row, column, item)
        if item.text() != text:
            item.setText(text)
            item.setToolTip(tip)
            self._ui.batchTable.resizeRowToContents(row)

    def _on_double_click(self, row: int, _column: int) -> None:
        if row < len(self._rows) and self._rows[row].segmentation is not None:
            self._open_row(self._rows[row].segmentation)


def batch_text(batch: Any) -> str:
    """The sentence after a batch."""
    done, total = len(batch.succeeded), len(batch.rows)
    if done == total:
        return _("All {n} segmented.").format(n=total)
    return _("{done} of {n} segmented; the table says why the others were not.").format(done=done, n=total)


def _outcome(row: Any) -> str:
    words = {
        "QUEUED": _("waiting"),
        "PREPARING": _("starting"),
        "RUNNING": _("running"),
        "CANCELLED": _("cancelled"),
        "FAILED": _("failed: {reason}").format(reason=row.message),
    }
    if row.state.name != "DONE":
        return words.get(row.state.name, row.state.name)
    text = result_text(row.summary) if row.summary is not None else _("done")
    return f"{text} {row.message}".strip()
