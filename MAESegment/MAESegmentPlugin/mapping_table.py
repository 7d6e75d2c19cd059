"""The question which label each segment is, as a table; an empty label is asked whether it was looked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

from MAESegmentLib.app.texts.messages import tooltip

from .qt_connection import connect
from .table_rows import fit_height, text_item

_MOST_ROWS = 8
#: What a combo box's entry stands for; no label's name begins so.
_OPEN, _NEW, _LEFT_OUT, _UNKNOWN, _ABSENT = (f"\x01{word}" for word in ("open", "new", "left out", "unknown", "absent"))


class MappingTable:
    """One row a segment, then one row an empty label."""

    def __init__(self, table: Any, changed: Callable[[], None]) -> None:
        self._table = table
        self._changed = changed
        self._segments: dict[str, Any] = {}
        self._empty: dict[str, Any] = {}
        table.setColumnCount(2)
        table.setHorizontalHeaderLabels([_("Segment"), _("Stored as")])
        table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        table.horizontalHeader().setSectionResizeMode(1, qt.QHeaderView.Stretch)

    @property
    def missing(self) -> str:
        """What is still to be answered, as a sentence; "" if nothing is."""
        for segment, combo in self._segments.items():
            if combo.currentData == _OPEN:
                return _("Say what {segment} is.").format(segment=segment)
        if self._segments and all(label is None for label in self.mapping.values()):
            return _("All segments are left out: there is nothing to store.")
        return ""

    @property
    def mapping(self) -> dict[str, str | None]:
        """Segment -> label; None: it is left out."""
        return {segment: self._label(segment, str(combo.currentData)) for segment, combo in self._segments.items()}

    @property
    def new_labels(self) -> tuple[str, ...]:
        return tuple(segment for segment, combo in self._segments.items() if combo.currentData == _NEW)

    @property
    def absent(self) -> tuple[str, ...]:
        """Empty labels that were looked for and are not there."""
        return tuple(label for label, combo in self._empty.items() if combo.currentData == _ABSENT)

    def ask(self, choices: Sequence[Any], labels: Sequence[str], empty: Sequence[str]) -> None:
        """`choices` are `cases.mapping.Choice`, `labels` all there are, `empty` those without a voxel."""
        table = self._table
        self._segments, self._empty = {}, {}
        table.setRowCount(0)
        table.setRowCount(len(choices) + len(empty))
        for row, choice in enumerate(choices):
            self._put(row, choice.segment, combo := self._segment_combo(choice, labels))
            self._segments[choice.segment] = combo
        for row, label in enumerate(empty, len(choices)):
            self._put(row, _("{label} (empty)").format(label=label), combo := self._empty_combo(label))
            self._empty[label] = combo
        fit_height(table, _MOST_ROWS)

    def _label(self, segment: str, chosen: str) -> str | None:
        if chosen in (_OPEN, _LEFT_OUT):
            return None
        return segment if chosen == _NEW else chosen

    def _put(self, row: int, text: str, combo: Any) -> None:
        self._table.setItem(row, 0, text_item(text))
        self._table.setCellWidget(row, 1, combo)

    def _segment_combo(self, choice: Any, labels: Sequence[str]) -> Any:
        combo = _combo(_("Which of the labels this segment is. The answer is remembered for segments of this name."))
        if choice.kind == "new" and choice.label is None:
            combo.addItem(_("Choose..."), _OPEN)
        for label in labels:
            combo.addItem(label, label)
        if choice.segment not in labels:
            combo.addItem(_("New label: {name}").format(name=choice.segment), _NEW)
            tip = _("The model learns it as a further structure. Rename the segment first for another name.")
            combo.setItemData(combo.count - 1, tooltip(tip), qt.Qt.ToolTipRole)
        combo.addItem(_("Leave out (not annotated)"), _LEFT_OUT)
        wanted = choice.label if choice.label is not None else (_LEFT_OUT if choice.kind == "left out" else _OPEN)
        combo.setCurrentIndex(max(combo.findData(wanted), 0))
        connect(combo, "currentIndexChanged(int)", lambda _index: self._changed())
        return combo

    def _empty_combo(self, label: str) -> Any:
        tip = _("Nothing is drawn as {label}. If it was looked for and is not there, the model may learn that.")
        combo = _combo(tip.format(label=label))
        combo.addItem(_("Not annotated"), _UNKNOWN)
        combo.addItem(_("Not in this scan"), _ABSENT)
        return combo


def _combo(tip: str) -> Any:
    combo = qt.QComboBox()
    combo.setSizeAdjustPolicy(qt.QComboBox.AdjustToMinimumContentsLengthWithIcon)
    combo.setMinimumContentsLength(10)
    combo.toolTip = tooltip(tip)
    return combo
