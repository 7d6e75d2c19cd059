"""The bar on top that says what the Python for the network lacks, and installs it when asked to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from MAESegmentLib.app.texts.messages import breakable, tooltip

from .packages import SEGMENT_ONLY, SEGMENT_ONLY_TIP, Packages
from .widgets import connect


class DependencyBar(Packages):
    """Hidden while all is well."""

    def __init__(self, ui: Any, logic: Any, changed: Callable[[], None]) -> None:
        super().__init__(logic, changed)
        self._ui = ui
        self._is_declined = False
        connect(ui.installButton, "clicked()", self.install)
        connect(ui.segmentOnlyButton, "clicked()", self.install_to_segment_only)
        connect(ui.commandButton, "clicked()", self.copy_command)
        connect(ui.declineButton, "clicked()", self._decline)
        self.show()

    def cleanup(self) -> None:
        """The widgets go; a check under way is cancelled."""
        self._logic.dependencies.stop()

    def install(self) -> None:
        self._is_declined = self._is_declined and not self.can_install
        super().install()

    def install_to_segment_only(self) -> None:
        self._is_declined = False
        super().install_to_segment_only()

    def _decline(self) -> None:
        self._is_declined = True
        self.show()

    def show(self) -> None:
        report, ui = self.report, self._ui
        needed = self.is_installing or (report is not None and not report.ready)
        ui.dependencyFrame.visible = needed
        if not needed:
            return
        missing = _("Packages are missing; nothing can be segmented yet.")
        ui.dependencyLabel.text = breakable(missing if self._is_declined else self.text)
        problems = () if report is None else report.problems
        ui.dependencyLabel.toolTip = tooltip("\n".join(one.message for one in problems)) if report is not None else ""
        ui.commandButton.visible = self.has_command
        command = "" if report is None else report.command
        ui.commandButton.toolTip = tooltip(_("Run in a terminal: {command}").format(command=command))
        ui.declineButton.visible = not self._is_declined and not self.is_installing
        ui.segmentOnlyButton.visible = self.has_choice
        ui.segmentOnlyButton.text = SEGMENT_ONLY
        ui.installButton.text = self.install_text
        for button, tip in ((ui.segmentOnlyButton, SEGMENT_ONLY_TIP), (ui.installButton, self.install_tip)):
            button.enabled = not (self.is_installing or self.is_checking)
            button.toolTip = tooltip(self._tip(tip))

    def _tip(self, tip: str) -> str:
        if self.is_installing:
            return _("An installation is under way.")
        if self.is_checking:
            return _("The packages are being checked.")
        return tip
