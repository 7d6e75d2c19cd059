"""The widgets for several volumes, or all frames of a sequence, and the table of what became of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from MAESegmentLib import mrml
from MAESegmentLib.app.presenters.batch import BatchPresenter
from MAESegmentLib.app.presenters.segment import SegmentPresenter

from .widgets import connect, show_control, text_item

_HEIGHT_OF_TABLE = 160
_WIDTH_OF_NAMES = 140


class BatchSection:
    """`get_volume` returns the chosen input; `open_row(batch, number)` shows what came of a row."""

    def __init__(
        self,
        ui: Any,
        logic: Any,
        segment: SegmentPresenter,
        get_volume: Callable[[], Any],
        open_row: Callable[[Any, int], None],
    ) -> None:
        self._ui = ui
        self._get_volume = get_volume
        self._open_row = open_row
        self._shown: tuple[tuple[str, str], ...] = ()
        presenter = self._presenter = BatchPresenter(logic, segment, self._show)
        table = ui.batchTable
        table.setColumnCount(2)
        table.setHorizontalHeaderLabels([_("Volume"), _("Result")])
        table.setColumnWidth(0, _WIDTH_OF_NAMES)
        table.horizontalHeader().setSectionResizeMode(1, qt.QHeaderView.Stretch)
        table.setFixedHeight(_HEIGHT_OF_TABLE)
        connect(ui.batchButton, "clicked()", lambda: presenter.start_volumes(self._ticked()))
        connect(ui.framesButton, "clicked()", lambda: presenter.start_frames(get_volume()))
        connect(ui.batchSelector, "checkedNodesChanged()", self.update)
        connect(table, "cellDoubleClicked(int,int)", self._on_double_click)
        self._show()

    def update(self) -> None:
        """The buttons."""
        controls = self._presenter.controls(len(self._ticked()), len(mrml.frames_of(self._get_volume())))
        for button, control in zip((self._ui.batchButton, self._ui.framesButton), controls, strict=True):
            show_control(button, control)

    def clear(self) -> None:
        self._presenter.clear()

    def _ticked(self) -> list[Any]:
        """The volumes that are ticked, as they are listed."""
        return [node for node in self._ui.batchSelector.checkedNodes() if node is not None]

    def _show(self) -> None:
        """Only the cells that have changed: a long sequence has hundreds."""
        state, table = self._presenter.state(), self._ui.batchTable
        table.visible = bool(state.rows)
        if table.rowCount != len(state.rows):
            table.setRowCount(0)
            table.setRowCount(len(state.rows))
            self._shown = ()
        for number, row in enumerate(state.rows):
            if number < len(self._shown) and self._shown[number] == row:
                continue
            for column, text in enumerate(row):
                table.setItem(number, column, text_item(text))
            table.resizeRowToContents(number)
            self._keep_to_volume(number)
        if 0 < state.current < len(state.rows) and state.rows != self._shown:
            table.scrollToItem(table.item(state.current, 0))
        self._shown = state.rows

    def _keep_to_volume(self, number: int) -> None:
        """What came of a scan is not seen over another one."""
        batch = self._presenter.batch
        node = batch.rows[number].segmentation if batch is not None else None
        if node is not None and not mrml.may_be_of(node, self._get_volume()):
            mrml.hide(node)

    def _on_double_click(self, row: int, _column: int) -> None:
        batch = self._presenter.batch
        if batch is not None and row < len(batch.rows):
            self._open_row(batch, row)
