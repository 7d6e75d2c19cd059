"""Several volumes, or all frames of a sequence, one after the other, and what became of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from MAESegmentLib import mrml
from MAESegmentLib.app.texts.messages import result_text, tooltip

from .qt_connection import connect

_HEIGHT_OF_TABLE = 160
_WIDTH_OF_NAMES = 140


class BatchSection:
    """Starts nothing itself: `start_volumes(nodes)` and `start_frames(node)` do."""

    def __init__(
        self,
        ui,
        start_volumes: Callable[[list[Any]], None],
        start_frames: Callable[[], None],
        open_row: Callable[[Any, int], None],
        changed: Callable[[], None],
    ) -> None:
        self._ui = ui
        self._open_row = open_row
        self._batch: Any = None
        self._first_open_row = 0
        table = ui.batchTable
        table.setColumnCount(2)
        table.setHorizontalHeaderLabels([_("Volume"), _("Result")])
        table.setColumnWidth(0, _WIDTH_OF_NAMES)
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
        ui.batchButton.toolTip = tooltip(nothing) or _(
            "Segment all of each ticked volume with the model above; one that fails does not stop the rest."
        )
        frames = mrml.frames_of(volume)
        lacking = reason or ("" if frames else _("The input volume belongs to no sequence."))
        ui.framesButton.enabled = not lacking
        ui.framesButton.text = _("Segment all {n} frames").format(n=len(frames)) if frames else _("Segment all frames")
        ui.framesButton.toolTip = tooltip(lacking) or _(
            "Segment every frame of the input's sequence; the result is a sequence too."
        )

    def show(self, batch: Any) -> None:
        """The table of a batch, under way or over; called at every step, so it looks only at rows that may be new."""
        if batch is not self._batch:
            self._begin(batch)
        first, self._first_open_row = self._first_open_row, batch.index
        for number in range(0 if batch.is_finished else first, min(batch.index + 1, len(batch.rows))):
            self._set(number, 1, _outcome(batch.rows[number]))
        if batch.index > first and not batch.is_finished:
            self._ui.batchTable.scrollToItem(self._ui.batchTable.item(batch.index, 0))

    def _begin(self, batch: Any) -> None:
        self._batch, self._first_open_row = batch, 0
        self._ui.batchTable.setRowCount(0)
        self._ui.batchTable.setRowCount(len(batch.rows))
        self._ui.batchTable.visible = True
        for number, row in enumerate(batch.rows):
            self._set(number, 0, row.name)
            self._set(number, 1, _outcome(row))

    def clear(self) -> None:
        self._batch = None
        self._ui.batchTable.setRowCount(0)
        self._ui.batchTable.visible = False

    def _set(self, row: int, column: int, text: str) -> None:
        item = self._ui.batchTable.item(row, column)
        if item is None:
            item = qt.QTableWidgetItem()
            self._ui.batchTable.setItem(row, column, item)
        if item.text() != text:
            item.setText(text)
            item.setToolTip(tooltip(text))
            if column == 1:
                self._ui.batchTable.resizeRowToContents(row)

    def _on_double_click(self, row: int, _column: int) -> None:
        if self._batch is not None and row < len(self._batch.rows):
            self._open_row(self._batch, row)


def batch_text(batch: Any) -> str:
    """The sentence after a batch."""
    done, total = len(batch.succeeded), len(batch.rows)
    if batch.cancel_requested:
        return _("Cancelled; {done} of {n} segmented.").format(done=done, n=total)
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
