"""Which scan to correct next: those that the model is least certain about come first, with the slice to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ctk
import qt
import slicer
from slicer.i18n import tr as _

from MAESegmentLib.app.texts.cases import ranked_text, ranked_tip
from MAESegmentLib.app.texts.messages import breakable, tooltip
from MAESegmentLib.errors import Cancelled, MAESegmentError
from MAESegmentLib.mrml import case_nodes as case_scene

from .input_section import is_scan
from .qt_connection import connect
from .result_section import volume_of
from .table_rows import figure_item, fill, fit_rows, text_item

_MOST_ROWS = 8
_SCENE, _FOLDER = "scene", "folder"


class NextCaseSection:
    """`place` is the section Improve."""

    def __init__(self, ui: Any, logic: Any, place: Any) -> None:
        self._ui = ui
        self._logic = logic
        self._place = place
        self._job: Any = None
        self._rows: tuple[Any, ...] = ()
        self._reason = ""
        ui.nextIntroLabel.text = _(
            "The model segments each scan several times, mirrored. Where it contradicts itself it has most to learn: "
            "correct that scan first."
        )
        ui.nextSourceComboBox.addItem(_("The scene"), _SCENE)
        ui.nextSourceComboBox.addItem(_("A folder"), _FOLDER)
        ui.nextFolderPathLineEdit.filters = ctk.ctkPathLineEdit.Dirs
        table = ui.rankTable
        table.setColumnCount(3)
        table.setHorizontalHeaderLabels(["#", _("Scan"), _("Why")])
        table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.ResizeToContents)
        table.horizontalHeader().setSectionResizeMode(1, qt.QHeaderView.Stretch)
        table.horizontalHeader().setSectionResizeMode(2, qt.QHeaderView.Stretch)
        connect(ui.nextSourceComboBox, "currentIndexChanged(int)", lambda _index: self._update())
        connect(ui.nextFolderPathLineEdit, "currentPathChanged(QString)", lambda _path: self._update())
        connect(ui.nextVolumesSelector, "checkedNodesChanged()", self._update)
        connect(ui.rankButton, "clicked()", self._on_button)
        connect(ui.showSliceButton, "clicked()", self._on_show)
        connect(table, "itemSelectionChanged()", self._update)
        connect(table, "cellDoubleClicked(int,int)", lambda row, _column: self._show_slice(row))
        self.clear()

    def clear(self) -> None:
        """The scene goes."""
        if self._job is not None:
            self._job.cancel()
        self._rows = ()
        self._ui.rankTable.setRowCount(0)
        self._update()

    def cleanup(self) -> None:
        if self._job is not None:
            job, self._job = self._job, None
            job.cancel()

    def update(self, *, reason: str) -> None:
        """`reason` says why no scan can be looked at now."""
        self._reason = reason
        self._update()

    @property
    def _is_folder(self) -> bool:
        return bool(self._ui.nextSourceComboBox.currentData == _FOLDER)

    @property
    def _folder(self) -> str:
        return str(self._ui.nextFolderPathLineEdit.currentPath)

    def _scans(self) -> list[Any]:
        """The ticked ones, or all that a person sees and has not stored as a case."""
        ticked = [node for node in self._ui.nextVolumesSelector.checkedNodes() if node is not None]
        stored = [volume_of(node) for node in case_scene.linked_segmentations()]
        return ticked or [node for node in _volumes() if node not in stored]

    def _missing(self) -> str:
        if self._reason:
            return self._reason
        if self._place.bundle is None:
            return _("Choose a model.")
        if self._is_folder:
            return "" if self._folder and Path(self._folder).is_dir() else _("Choose a folder of scans.")
        return "" if self._scans() else _("There is no scan in the scene without a corrected case.")

    def _update(self) -> None:
        ui, is_running = self._ui, self._job is not None
        for widget in (ui.nextFolderLabel, ui.nextFolderPathLineEdit):
            widget.visible = self._is_folder
        for widget in (ui.nextVolumesLabel, ui.nextVolumesSelector):
            widget.visible = not self._is_folder
        nothing = self._missing()
        ui.rankButton.enabled = is_running or not nothing
        ui.rankButton.text = _("Cancel") if is_running else _("Rank scans")
        ui.rankButton.toolTip = tooltip(
            _("Stop after the scan under way.")
            if is_running
            else nothing or _("Look at all of them and put the least certain first.")
        )
        ui.rankProgressBar.visible = is_running
        ui.rankLabel.visible = is_running
        ui.rankTable.visible = ui.showSliceButton.visible = bool(self._rows)
        row = self._chosen()
        tip = _("Go to the slice where the model is least certain, and choose the scan above.")
        ui.showSliceButton.enabled = row is not None and row.score is not None
        ui.showSliceButton.toolTip = tooltip(tip if row is not None else _("Choose a scan in the table."))

    def _chosen(self) -> Any:
        table = self._ui.rankTable
        row = table.currentRow()
        return self._rows[row] if 0 <= row < len(self._rows) and table.selectedItems() else None

    def _on_button(self) -> None:
        if self._job is not None:
            self._job.cancel()
            return
        scans = self._folder if self._is_folder else self._scans()
        try:
            job = self._logic.nextCases(
                scans,
                self._place.bundle,
                callback=self._on_job,
                wait=False,
                roi=self._place.roi,
                device=self._place.device,
            )
        except MAESegmentError as error:
            self._place.failed(error)
            return
        if not job.is_finished:
            self._job = job
            self._ui.rankLabel.text = _("Starting ...")
        self._update()

    def _on_job(self, job: Any) -> None:
        """Rows come in as scans are done; those that a cancelled job had done stay."""
        if job.rows != self._rows:
            self._show(tuple(job.rows))
        if not job.is_finished:
            self._ui.rankProgressBar.value = round(1000 * job.fraction)
            self._ui.rankLabel.text = breakable(_("Looking at {scan}").format(scan=job.stage))
            return
        self._job = None
        if job.error is not None and not isinstance(job.error, Cancelled):
            self._place.failed(job.error)
        self._update()

    def _show(self, rows: tuple[Any, ...]) -> None:
        chosen = self._chosen()
        self._rows = rows
        items = []
        for number, row in enumerate(rows, start=1):
            place = figure_item(str(number) if row.score is not None else "\u2013")
            items.append([place, text_item(row.name), text_item(ranked_text(row), ranked_tip(row))])
        self._ui.rankTable.visible = self._ui.showSliceButton.visible = bool(rows)
        fill(self._ui.rankTable, items, _MOST_ROWS)
        self._place.soon(lambda: fit_rows(self._ui.rankTable, _MOST_ROWS))
        for number, row in enumerate(rows):
            if row.score is not None and (chosen is None or row.source is chosen.source):
                self._ui.rankTable.selectRow(number)
                break

    def _on_show(self) -> None:
        self._show_slice(self._ui.rankTable.currentRow())

    def _show_slice(self, number: int) -> None:
        row = self._rows[number] if 0 <= number < len(self._rows) else None
        if row is None or row.score is None:
            return
        try:
            volume = _node_of(row)
        except (MAESegmentError, RuntimeError) as error:
            self._place.failed(error)
            return
        self._place.choose_volume(volume)
        show_position(row.position)


def show_position(ras: tuple[float, ...]) -> None:
    """Move all slice views to a point of the world (mm)."""
    for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        node.JumpSliceByCentering(*ras)


def _node_of(row: Any) -> Any:
    """The volume of a row; a file of a folder is loaded when it is asked for."""
    if not isinstance(row.source, Path):
        node = row.source[0] if isinstance(row.source, Sequence) else row.source
        if node.GetScene() is None:
            raise MAESegmentError(_("{name} is no longer in the scene.").format(name=row.name))
        return node
    known = next((node for node in _volumes() if _file_of(node) == row.source), None)
    if known is not None:
        return known
    if not row.source.is_file():
        raise MAESegmentError(
            _("{name} is a folder of DICOM files.").format(name=row.name),
            _("Load it with the module DICOM, then look for the slice again among the scans of the scene."),
        )
    return slicer.util.loadVolume(str(row.source))


def _volumes() -> list[Any]:
    return [node for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if is_scan(node)]


def _file_of(node: Any) -> Path | None:
    storage = node.GetStorageNode()
    return Path(storage.GetFileName()) if storage is not None and storage.GetFileName() else None
