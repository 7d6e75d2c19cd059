"""What became of each case that a finished fine-tuning was checked on, label by label."""

from __future__ import annotations

from typing import Any

import qt
from slicer.i18n import tr as _

from MAESegmentLib.app.texts.learning import change_text
from MAESegmentLib.runs import RunResult

from .qt_connection import connect
from .table_rows import figure_item, fill, text_item

_MOST_ROWS = 8


class OutcomeTable:
    """Under the banner, shown when a person asks for it."""

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        self._result: RunResult | None = None
        table = ui.outcomeTable
        table.setColumnCount(3)
        table.setHorizontalHeaderLabels([_("Case"), _("Label"), _("Dice before \u2192 after")])
        table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.ResizeToContents)
        table.horizontalHeader().setSectionResizeMode(1, qt.QHeaderView.Stretch)
        table.horizontalHeader().setSectionResizeMode(2, qt.QHeaderView.ResizeToContents)
        connect(ui.outcomeButton, "toggled(bool)", self._on_toggled)
        self.show(None)

    def show(self, result: RunResult | None) -> None:
        """None: there is nothing to show."""
        has_cases = result is not None and bool(result.per_case)
        self._ui.outcomeButton.visible = has_cases
        self._ui.outcomeTable.visible = has_cases and self._ui.outcomeButton.checked
        if result != self._result and result is not None:
            fill(self._ui.outcomeTable, _rows(result), _MOST_ROWS)
        self._result = result

    def _on_toggled(self, shown: bool) -> None:
        self._ui.outcomeTable.visible = shown and self._result is not None


def _rows(result: RunResult) -> list[list[Any]]:
    rows = []
    for case in result.per_case:
        rows.append([text_item(case.case), text_item(_("Mean")), figure_item(change_text(case.before, case.after))])
        if len(case.after_by_label) < 2:
            continue
        for label, after in case.after_by_label.items():
            before = case.before_by_label.get(label)
            rows.append([text_item(""), text_item(label), figure_item(change_text(before, after))])
    return rows
