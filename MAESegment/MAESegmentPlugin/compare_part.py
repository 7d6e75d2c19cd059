"""Two versions on the chosen volume: both segmentations in the scene, where they differ, and how much of each label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

from MAESegmentLib.app.texts.learning import dice_text
from MAESegmentLib.app.texts.messages import breakable, tooltip, volume_text
from MAESegmentLib.app.texts.model_cards import name_of
from MAESegmentLib.bundle import Bundle
from MAESegmentLib.errors import Cancelled, MAESegmentError

from .qt_connection import connect
from .table_rows import figure_item, fill, label_item

_MOST_ROWS = 8


class ComparePart:
    """Starts `logic.compare`; its nodes are the scene's."""

    def __init__(self, ui: Any, logic: Any, place: Any) -> None:
        self._ui = ui
        self._logic = logic
        self._place = place
        self._job: Any = None
        self._names = ("", "")
        self._choices: list[str] = []
        table = ui.comparisonTable
        table.setColumnCount(4)
        table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        for column in (1, 2, 3):
            table.horizontalHeader().setSectionResizeMode(column, qt.QHeaderView.ResizeToContents)
        connect(ui.compareButton, "clicked()", self._on_button)
        self.clear()

    def clear(self) -> None:
        """The scene goes, and what was compared in it."""
        if self._job is not None:
            self._job.cancel()
        ui = self._ui
        ui.compareProgressBar.visible = ui.comparisonLabel.visible = ui.comparisonTable.visible = False

    def cleanup(self) -> None:
        if self._job is not None:
            job, self._job = self._job, None
            job.cancel()

    def update(self, versions: Sequence[Bundle], previous: Bundle | None) -> None:
        """`previous` is proposed for the comparison."""
        bundle = self._place.bundle
        others = [one for one in versions if bundle is not None and one.content_hash != bundle.content_hash]
        combo = self._ui.compareComboBox
        names = [name_of(one) for one in others]
        if names != self._choices:
            self._choices = names
            current = combo.currentData
            combo.clear()
            for one in others:
                combo.addItem(f"{one.name} {one.version}", name_of(one))
            wanted = current if current in names else (name_of(previous) if previous is not None else "")
            combo.setCurrentIndex(max(combo.findData(wanted), 0) if names else -1)
        self._update_button()

    def start(self, first: str, second: str) -> None:
        """Segment the chosen volume with both (name@version) and compare."""
        place = self._place
        if self._job is not None:
            return
        if place.volume is None:
            place.failed(MAESegmentError(_("Select a volume to compare on.")))
            return
        self._names = (first, second)
        self._ui.comparisonLabel.visible = self._ui.comparisonTable.visible = False
        try:
            job = self._logic.compare(
                place.scan, first, second, roi=place.roi, device=place.device, wait=False, callback=self._on_job
            )
        except MAESegmentError as error:
            place.failed(error)
            return
        if not job.is_finished:
            self._job = job
        self._update_button()

    def _update_button(self) -> None:
        ui, is_running = self._ui, self._job is not None
        nothing = ""
        if not self._choices:
            nothing = _("There is no other version to compare with.")
        elif self._place.volume is None:
            nothing = _("Select a volume.")
        ui.compareComboBox.enabled = bool(self._choices) and not is_running
        ui.compareProgressBar.visible = is_running
        ui.compareButton.enabled = is_running or not nothing
        ui.compareButton.text = _("Cancel") if is_running else _("Compare on this volume")
        ui.compareButton.toolTip = tooltip(
            _("Stop it; nothing is kept.")
            if is_running
            else nothing
            or _(
                "Makes three segmentations: one with each version, and one of where they differ. Yours is not changed."
            )
        )

    def _on_button(self) -> None:
        if self._job is not None:
            self._job.cancel()
        elif self._place.bundle is not None and self._choices:
            self.start(str(self._ui.compareComboBox.currentData), name_of(self._place.bundle))

    def _on_job(self, job: Any) -> None:
        if not job.is_finished:
            self._ui.compareProgressBar.value = round(1000 * job.fraction)
            return
        self._job = None
        if job.error is None:
            self._show(job.result())
        elif not isinstance(job.error, Cancelled):
            self._place.failed(job.error)
        self._update_button()

    def _show(self, comparison: Any) -> None:
        ui = self._ui
        text = _("Where they differ is shown as {name}.")
        ui.comparisonLabel.text = breakable(text.format(name=comparison.disagreement.GetName()))
        versions = [name.partition("@")[2] or name for name in self._names]
        headers = [_("Label"), *(_("{version} (ml)").format(version=version) for version in versions), _("Agreement")]
        ui.comparisonTable.setHorizontalHeaderLabels(headers)
        rows = []
        for row in comparison.rows:
            agreement = figure_item(dice_text(row.dice), _("Dice between both: 1 if they are the same."))
            volumes = [figure_item(_millilitres(volume)) for volume in (row.first_ml, row.second_ml)]
            rows.append([label_item(row.label, None), *volumes, agreement])
        fill(ui.comparisonTable, rows, _MOST_ROWS)
        ui.comparisonLabel.visible = ui.comparisonTable.visible = True


def _millilitres(volume: float | None) -> str:
    """A dash for a structure that a version does not know."""
    return "\u2013" if volume is None else volume_text(volume, fine=True)
