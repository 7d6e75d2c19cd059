"""The bar on top that says what the Python for the network lacks, and installs it when asked to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from .dependencies import DependencyReport
from .installing import Installer
from .qt_connection import connect


class DependencyBar:
    """Hidden while all is well. `report` is None until the first check is over."""

    def __init__(self, ui, logic, changed: Callable[[], None], installer: Any = None) -> None:
        self.report: DependencyReport | None = None
        self._ui = ui
        self._logic = logic
        self._changed = changed
        self._installer = installer
        self._is_declined = False
        self._is_installing = False
        self._note = ""
        connect(ui.installButton, "clicked()", self.install)
        connect(ui.declineButton, "clicked()", self._decline)
        self._update()

    @property
    def is_installing(self) -> bool:
        return self._is_installing

    @property
    def reason(self) -> str:
        """Why nothing can be segmented; "" if it can, or if it is not known yet."""
        if self._is_installing:
            return _("Packages are being installed.")
        if self.report is None or self.report.ready:
            return ""
        return self.report.sentence

    def check(self) -> None:
        """Ask anew, without a wait."""
        if not self._is_installing:
            self._logic.dependencies.check(self._on_report)

    def install(self) -> None:
        """On the button only."""
        if self.report is None or not self.report.can_install:
            self.check()
            return
        if self._installer is None:
            self._installer = Installer(self._logic.session, self._logic.dependencies)
        self._is_installing, self._is_declined, self._note = True, False, ""
        self._update()
        self._installer.install(self.report, self._on_line, self._on_installed)

    def _on_report(self, report: DependencyReport) -> None:
        self.report = report
        self._update()
        self._changed()

    def _on_line(self, line: str) -> None:
        self._note = line.strip()[:160]
        self._update()

    def _on_installed(self, report: DependencyReport, error: Exception | None) -> None:
        self._is_installing = False
        self._note = str(error).replace("\n", " ") if error is not None else ""
        self._on_report(report)

    def _decline(self) -> None:
        self._is_declined = True
        self._update()

    def _update(self) -> None:
        report, ui = self.report, self._ui
        needed = self._is_installing or (report is not None and not report.ready)
        ui.dependencyFrame.visible = needed and not self._is_declined
        if not needed:
            return
        lines = [] if report is None else [report.sentence]
        if report is not None and report.is_foreign and report.command:
            lines.append(_("In a terminal: {command}").format(command=report.command))
        if report is not None and report.failure is not None:
            lines.append(report.failure.hint)
        ui.dependencyLabel.text = "\n".join([*lines, *([self._note] if self._note else [])])
        ui.dependencyLabel.toolTip = "" if report is None else "\n".join(one.message for one in report.problems)
        can_install = report is not None and report.can_install
        ui.installButton.text = _("Install") if can_install else _("Check again")
        ui.installButton.enabled = not self._is_installing
        ui.installButton.toolTip = (
            _("An installation is under way.")
            if self._is_installing
            else _("Download and install into Slicer's own Python; what Slicer has is not changed.")
            if can_install
            else _("Look again whether the packages are there.")
        )
        ui.declineButton.enabled = not self._is_installing
