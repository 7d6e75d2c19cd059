"""The view of `LabelQuestion`s: a table with a row for each segment, then one for each empty label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

from MAESegmentLib.app.presenters.add_case import LabelQuestion
from MAESegmentLib.app.texts.messages import tooltip

from .qt_connection import connect
from .table_rows import fit_height, text_item

_MOST_ROWS = 8


class MappingTable:
    """`answer(row, key)` is called with what the user chooses."""

    def __init__(self, table: Any, answer: Callable[[int, str], None]) -> None:
        self._table = table
        self._answer = answer
        self._rows: tuple[Any, ...] = ()
        table.setColumnCount(2)
        table.setHorizontalHeaderLabels([_("Segment"), _("Stored as")])
        table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        table.horizontalHeader().setSectionResizeMode(1, qt.QHeaderView.Stretch)

    def show(self, questions: Sequence[LabelQuestion]) -> None:
        """The boxes are made for new questions only: they change under the hand of the user."""
        rows = tuple((question.title, question.options) for question in questions)
        if rows == self._rows:
            return
        self._rows = rows
        self._table.setRowCount(0)
        self._table.setRowCount(len(questions))
        for number, question in enumerate(questions):
            self._table.setItem(number, 0, text_item(question.title))
            self._table.setCellWidget(number, 1, self._combo(number, question))
        fit_height(self._table, _MOST_ROWS)

    def _combo(self, number: int, question: LabelQuestion) -> Any:
        combo = qt.QComboBox()
        combo.setSizeAdjustPolicy(qt.QComboBox.AdjustToMinimumContentsLengthWithIcon)
        combo.setMinimumContentsLength(10)
        combo.toolTip = tooltip(question.tip)
        for option in question.options:
            combo.addItem(option.text, option.key)
            if option.tip:
                combo.setItemData(combo.count - 1, tooltip(option.tip), qt.Qt.ToolTipRole)
        combo.setCurrentIndex(max(combo.findData(question.answer), 0))
        connect(combo, "currentIndexChanged(int)", lambda _index: self._answer(number, str(combo.currentData)))
        return combo
