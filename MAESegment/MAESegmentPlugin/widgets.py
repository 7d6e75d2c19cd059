"""Widgets in a narrow panel: signals, buttons that say why they cannot be pressed, tables as high as their rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import qt

from MAESegmentLib.app.presenters.elements import Control
from MAESegmentLib.app.texts.messages import tooltip

T = TypeVar("T")


def connect(sender: Any, signal: str, slot: Callable[..., Any]) -> None:
    """`sender.connect(signal, slot)`, which Qt refuses silently if the name is wrong."""
    if not sender.connect(signal, slot):
        raise RuntimeError(f"{sender.className()} has no signal {signal}")


def scroll_to(widget: Any) -> None:
    """Show it, where what is around it can be scrolled, as in Slicer's panel."""
    area = widget.parent()
    while area is not None and not hasattr(area, "ensureWidgetVisible"):
        area = area.parent()
    if area is not None:
        area.ensureWidgetVisible(widget)


def show_button(button: Any, reason: str, tip: str) -> None:
    """Enabled unless there is a reason why not, which then is the tip."""
    button.enabled = not reason
    button.toolTip = tooltip(reason or tip)


def show_control(button: Any, control: Control) -> None:
    button.text = control.text
    button.enabled = control.is_enabled
    button.toolTip = tooltip(control.tip)


class RowTable:
    """A table as high as its rows, at most `most_rows` of them: the rest is scrolled to."""

    def __init__(
        self,
        table: Any,
        widths: str,
        titles: Sequence[str] = (),
        *,
        most_rows: int = 8,
        soon: Callable[[Callable[[], None]], None] = lambda _act: None,
    ) -> None:
        """`widths` has a letter for each column: "s" takes the room that is left, "f" is as wide as its texts.

        `soon(act)` calls it in a later turn, when a table that was just shown has its width.
        """
        self.table = table
        self._most_rows = most_rows
        self._soon = soon
        self._rows: tuple[Any, ...] = ()
        table.setColumnCount(len(widths))
        if titles:
            table.setHorizontalHeaderLabels([*titles])
        modes = {"s": qt.QHeaderView.Stretch, "f": qt.QHeaderView.ResizeToContents}
        for column, width in enumerate(widths):
            table.horizontalHeader().setSectionResizeMode(column, modes[width])

    @property
    def selected(self) -> int:
        """The number of the chosen row, or -1."""
        return int(self.table.currentRow()) if self.table.selectedItems() else -1

    def show(self, rows: Sequence[T], cells: Callable[[T], Sequence[Any]]) -> bool:
        """`cells(row)` are its items. False, and nothing is done, if these rows are shown already."""
        if tuple(rows) == self._rows:
            return False
        self._rows = tuple(rows)
        self.table.setRowCount(0)
        self.table.setRowCount(len(rows))
        for number, row in enumerate(rows):
            for column, item in enumerate(cells(row)):
                self.table.setItem(number, column, item)
        self._fit()
        self._soon(self._fit)
        return True

    def _fit(self) -> None:
        """Rows as high as their texts."""
        self.table.resizeRowsToContents()
        fit_height(self.table, self._most_rows)


def fit_height(table: Any, most_rows: int, most_height: int = 10_000) -> None:
    """As high as its rows, at most `most_rows` of them, and no higher than `most_height`."""
    rows = min(table.rowCount, most_rows)
    header = table.horizontalHeader().sizeHint.height()
    table.setFixedHeight(min(most_height, header + sum(table.rowHeight(row) for row in range(rows)) + 4))


def text_item(text: str, tip: str = "") -> Any:
    item = qt.QTableWidgetItem(text)
    item.setToolTip(tooltip(tip or text))
    return item


def figure_item(text: str, tip: str = "") -> Any:
    """To the right, as figures are."""
    item = text_item(text, tip)
    item.setData(qt.Qt.TextAlignmentRole, qt.Qt.AlignRight + qt.Qt.AlignVCenter)
    return item


def label_item(name: str, colour: tuple[int, ...] | None, tip: str = "") -> Any:
    """A name with its colour before it."""
    item = text_item(name, tip)
    if colour is not None:
        swatch = qt.QPixmap(12, 12)
        swatch.fill(qt.QColor(*colour))
        item.setIcon(qt.QIcon(swatch))
    return item
