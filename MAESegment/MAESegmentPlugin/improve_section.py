"""The section Improve: corrected cases, learning from them, versions, and which case comes next.

It owns its parts and holds them together; the panel knows only this object.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from MAESegmentLib import mrml
from MAESegmentLib.app.presenters.next_case import FOLDER
from MAESegmentLib.app.texts.messages import breakable, log_text
from MAESegmentLib.cases.records import CaseRecord
from MAESegmentLib.errors import MAESegmentError
from MAESegmentLib.images.labels import Label
from MAESegmentLib.jobs.runner import logged
from MAESegmentLib.mrml.case_nodes import stored_volumes

from .add_case_bar import AddCaseBar
from .cases_table import CasesTable
from .finetune_section import FineTuneSection
from .input_section import node_of, volumes
from .next_case_section import NextCaseSection
from .training_packages import TrainingPackages
from .versions_section import VersionsSection
from .widgets import connect

_CHANNELS = ("inputVolume", "channel2", "channel3", "channel4")


class ImproveSection:
    """`panel` is what the sections around it have: parameters, the chosen model, and the message bar."""

    def __init__(self, ui: Any, logic: Any, panel: Any) -> None:
        self._ui = ui
        self._logic = logic
        self._panel = panel
        self._is_open = True
        self.packages = TrainingPackages(ui, logic, self._panel_update)
        self.add_case = AddCaseBar(ui, logic, self)
        self.cases = CasesTable(ui, logic, self)
        self.learning = FineTuneSection(ui, logic, self)
        self.versions = VersionsSection(ui, logic, self)
        self.next_case = NextCaseSection(ui, logic, self)
        ui.planNoteLabel.visible = False
        connect(ui.caseFolderPathLineEdit, "currentPathChanged(QString)", self._on_case_folder)
        connect(ui.improveCollapsibleButton, "contentsCollapsed(bool)", self._on_collapsed)

    # What the parts see of the panel ----------------------------------------------------------------------------------

    @property
    def bundle(self) -> Any:
        """The chosen model, which is the base of what is learned."""
        return self._panel.bundle

    @property
    def volume(self) -> Any:
        return self._panel.parameters.inputVolume if self._panel.parameters is not None else None

    @property
    def scan(self) -> Any:
        """The volume, or the list of volumes of a model with several channels."""
        nodes = self._panel.inputs.nodes(self._panel.parameters, self.bundle)
        return nodes if len(nodes) > 1 else nodes[0]

    @property
    def segmentation(self) -> Any:
        """A map of differences is none."""
        node = self._panel.parameters.outputSegmentation if self._panel.parameters is not None else None
        return None if mrml.is_difference(node) else node

    @property
    def roi(self) -> Any:
        return self._panel.parameters.roi if self._panel.parameters is not None else None

    @property
    def device(self) -> str:
        return str(self._panel.parameters.device) if self._panel.parameters is not None else "auto"

    @property
    def records(self) -> tuple[CaseRecord, ...]:
        """The stored cases of the model's family."""
        return self.cases.presenter.records

    @property
    def labels(self) -> tuple[Label, ...]:
        """Labels that the cases define beside the model's."""
        return self.cases.presenter.labels

    def note(self, text: str) -> None:
        """A quiet line."""
        self._ui.planNoteLabel.text = breakable(text)
        self._ui.planNoteLabel.visible = bool(text)

    def soon(self, act: Callable[[], None]) -> None:
        """In a later turn of the event loop, if the widgets are there still."""
        self._logic.session.loop.call_later(0.0, lambda: act() if self._is_open else None)

    def use_model(self, name: str) -> None:
        """Choose name@version in the panel, too."""
        self._panel.model.refresh()
        self._panel.set_parameter("modelName", name)
        self._panel.update()

    def models_changed(self) -> None:
        """There is one more, or one less."""
        self._panel.model.refresh()

    def compare(self, first: str, second: str) -> None:
        """Two versions (name@version), on the chosen volume."""
        self.versions.compare_versions(first, second)

    def show_case(self, scan: Any, segmentation: Any) -> None:
        """Choose a stored case's nodes."""
        volumes = scan if isinstance(scan, list) else [scan]
        for name, volume in zip(_CHANNELS, volumes, strict=False):
            self._panel.set_parameter(name, volume)
        self._panel.choose(volumes[0], segmentation)

    def show_comparison(self, segmentation: Any) -> None:
        """It is in the scene, where the user sees it, unless another scan is chosen now."""
        if not mrml.may_be_of(segmentation, self.volume):
            mrml.hide(segmentation)

    def scans(self, source: str, folder: str) -> Any:
        """To be ranked."""
        return _scans(source, folder, self.next_case.ticked)

    def more_scans(self, source: str, folder: str) -> Any:
        """To be learnt from without labels."""
        return _scans(source, folder, self.learning.ticked)

    def show_scan(self, source: Any, position: tuple[float, float, float]) -> None:
        """As the input, and in the views at a point (RAS, mm)."""
        volume = node_of(source)
        self._panel.set_parameter("inputVolume", volume)
        mrml.show_in_views(volume, position)

    def failed(self, error: Exception) -> None:
        """Said in this section."""
        known = logged(error)
        self._logic.session.log.add("error", log_text(known))
        if self._is_open:
            self.add_case.show_error(known)

    def refresh(self) -> None:
        """Read the cases again, and bring everything up to date."""
        if self._is_open:
            self.cases.presenter.outdate()
            self.update()

    def set_storing(self, is_storing: bool) -> None:
        self.cases.presenter.set_storing(is_storing)

    def case_removed(self, case: str) -> None:
        self.add_case.presenter.removed(case)

    # What the panel calls ---------------------------------------------------------------------------------------------

    @property
    def is_unfolded(self) -> bool:
        return not self._ui.improveCollapsibleButton.collapsed

    def update(self) -> None:
        """After each change of the parameters. The folder of cases is read only when it may have changed."""
        if not self._is_open or self._panel.parameters is None:
            return
        if self.is_unfolded:
            self.cases.presenter.update()
            self._look_for_packages()
        reason = self._panel.dependencies.reason
        self.add_case.presenter.update(reason or self.packages.storing_reason)
        self.learning.update(reason=reason or self.packages.reason)
        self.versions.update()
        self.next_case.presenter.update(reason)
        title, summary = _("Improve"), self.learning.summary
        self._ui.improveCollapsibleButton.text = f"{title} ({summary})" if summary else title

    def enter(self) -> None:
        """The user comes (back) to the module: stored cases may have been edited meanwhile."""
        self.cases.presenter.outdate()
        self._look_for_runs()
        if self.is_unfolded:
            self._look_for_edits()

    def scene_start_close(self) -> None:
        """What was asked about nodes of the scene is asked no more."""
        self.add_case.clear()
        self.learning.scene_start_close()
        self.versions.compare.presenter.clear()
        self.next_case.presenter.clear()

    def cleanup(self) -> None:
        """The widgets go; what is still to come is not for them."""
        self._is_open = False
        self.packages.cleanup()
        self.learning.cleanup()
        self.versions.cleanup()
        for part in (self.add_case, self.cases, self.next_case):
            part.presenter.close()

    # Cases ------------------------------------------------------------------------------------------------------------

    def _on_collapsed(self, collapsed: bool) -> None:
        if not collapsed and self._panel.parameters is not None:
            self.cases.presenter.outdate()
            self.update()
            self._look_for_edits()

    def _on_case_folder(self, path: str) -> None:
        """Of the setting under Advanced; a path that is being typed need not exist."""
        self._logic.setCaseFolder(str(path))
        self.refresh()

    def _panel_update(self) -> None:
        if self._is_open:
            self._panel.update()

    def _look_for_packages(self) -> None:
        report = self._panel.dependencies.report
        if report is not None and report.ready:
            self.packages.look()

    def _look_for_runs(self) -> None:
        """One that waits for the user opens the section automatically."""
        had_one = self.learning.presenter.job is not None
        try:
            self.learning.presenter.look_for_runs()
        except (MAESegmentError, OSError) as error:
            self.failed(error)
        if self.learning.presenter.job is not None and not had_one:
            self._ui.improveCollapsibleButton.collapsed = False

    def _look_for_edits(self) -> None:
        """Only when the user comes to look: it takes a while."""
        if self._panel.parameters is not None:
            self.add_case.presenter.look_for_edits()


def _scans(source: str, folder: str, ticked: list[Any]) -> Any:
    """Those that the user ticked, or all that are not stored as cases; or a folder."""
    if source == FOLDER:
        return folder if folder and Path(folder).is_dir() else ""
    stored = stored_volumes()
    return ticked or [node for node in volumes() if node not in stored]
