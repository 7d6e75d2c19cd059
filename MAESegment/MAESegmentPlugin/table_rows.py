"""Tables in a narrow panel: as high as their rows, texts and figures with what they mean."""

from __future__ import annotations

from typing import Any

import qt

from MAESegmentLib.app.texts.messages import tooltip


def fit_height(table: Any, most_rows: int) -> None:
    """As high as its rows, at most `most_rows` of them; the rest is scrolled to."""
    rows = min(table.rowCount, most_rows)
    header = table.horizontalHeader().sizeHint.height()
    table.setFixedHeight(header + sum(table.rowHeight(row) for row in range(rows)) + 4)


def text_item(text: str, tip: str = "") -> Any:
    item = qt.QTableWidgetItem(text)
    item.setToolTip(tooltip(tip or text))
    return item


def figure_item(text: str, tip: str = "") -> Any:
    """To the right, as figures are."""
    item = text_item(text, tip)
    item.setTextAlignment(qt.Qt.AlignRight + qt.Qt.AlignVCenter)
    return item


def label_item(name: str, colour: tuple[int, ...] | None, tip: str = "") -> Any:
    """A name with its colour before it."""
    item = text_item(name, tip)
    if colour is not None:
        swatch = qt.QPixmap(12, 12)
        swatch.fill(qt.QColor(*colour))
        item.setIcon(qt.QIcon(swatch))
    return item


def fill(table: Any, rows: list[list[Any]], most_rows: int) -> None:
    """Put `rows` of items into the table in place of what is there."""
    table.setRowCount(0)
    table.setRowCount(len(rows))
    for number, row in enumerate(rows):
        for column, item in enumerate(row):
            table.setItem(number, column, item)
    fit_rows(table, most_rows)


def fit_rows(table: Any, most_rows: int) -> None:
    """Rows as high as their texts. Once more when a table that was just shown has its width."""
    table.resizeRowsToContents()
    fit_height(table, most_rows)
