"""The bar on top that says what the Python for the network lacks, and installs it when asked to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
from slicer.i18n import tr as _

from MAESegmentLib.app.texts.messages import breakable, tooltip

from .dependencies import DependencyReport
from .installing import Installer
from .qt_connection import connect

_LONGEST_NOTE = 160


class DependencyBar:
    """Hidden while all is well. `report` is None until the first check is over."""

    def __init__(self, ui, logic, changed: Callable[[], None], installer: Any = None) -> None:
        self.report: DependencyReport | None = None
        self._ui = ui
        self._logic = logic
        self._changed = changed
        self.installer = installer
        self._is_declined = False
        self._is_installing = False
        self._is_checking = False
        self._note = ""
        connect(ui.installButton, "clicked()", self.install)
        connect(ui.commandButton, "clicked()", self._copy_command)
        connect(ui.declineButton, "clicked()", self._decline)
        self._update()

    @property
    def is_installing(self) -> bool:
        return self._is_installing

    @property
    def is_checking(self) -> bool:
        return self._is_checking

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
            self._is_checking = True
            self._update()
            self._logic.dependencies.check(self._on_report)

    def install(self) -> None:
        """On the button only; where there is nothing that could be installed, it checks again."""
        if self.report is None or not self.report.can_install:
            self._note = ""
            self.check()
            return
        if self.installer is None:
            self.installer = Installer(self._logic.session, self._logic.dependencies)
        self._is_installing, self._is_declined, self._note = True, False, ""
        self._update()
        self._changed()
        self.installer.install(self.report, self._on_line, self._on_installed)

    def cleanup(self) -> None:
        """The widgets go; a check under way is given up."""
        self._logic.dependencies.stop()

    def _on_report(self, report: DependencyReport) -> None:
        self.report = report
        self._is_checking = False
        self._update()
        self._changed()

    def _on_line(self, line: str) -> None:
        self._note = line.strip()[:_LONGEST_NOTE]
        self._update()

    def _on_installed(self, report: DependencyReport, error: Exception | None) -> None:
        self._is_installing = False
        self._note = str(error).replace("\n", " ") if error is not None else ""
        self._on_report(report)

    def _decline(self) -> None:
        self._is_declined = True
        self._update()

    def _copy_command(self) -> None:
        if self.report is not None:
            slicer.app.clipboard().setText(self.report.command)
            self._note = _("Copied. Run it in a terminal, then press Check again.")
            self._update()

    def _update(self) -> None:
        report, ui = self.report, self._ui
        needed = self._is_installing or (report is not None and not report.ready)
        ui.dependencyFrame.visible = needed
        if not needed:
            return
        busy = self._is_installing or self._is_checking
        can_install = report is not None and report.can_install
        ui.dependencyLabel.text = breakable(self._text())
        ui.dependencyLabel.toolTip = (
            "" if report is None else tooltip("\n".join(one.message for one in report.problems))
        )
        ui.commandButton.visible = report is not None and report.is_foreign and bool(report.command)
        ui.commandButton.toolTip = tooltip(
            _("Run in a terminal: {command}").format(command=report.command if report else "")
        )
        ui.declineButton.visible = not self._is_declined and not self._is_installing
        ui.installButton.text = _("Install") if can_install else _("Check again")
        ui.installButton.enabled = not busy
        ui.installButton.toolTip = self._tip(can_install)

    def _text(self) -> str:
        report = self.report
        if self._is_declined:
            return _("Packages are missing; nothing can be segmented yet.")
        lines = [] if report is None else [report.sentence]
        if report is not None and report.failure is not None:
            lines.append(report.failure.hint)
        return "\n".join(line for line in (*lines, self._note) if line)

    def _tip(self, can_install: bool) -> str:
        if self._is_installing:
            return _("An installation is under way.")
        if self._is_checking:
            return _("The packages are being checked.")
        if can_install:
            return _("Download and install into Slicer's own Python; what Slicer has is not changed.")
        return _("Look again whether the packages are there.")
