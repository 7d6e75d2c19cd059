"""What learning needs beside segmenting, and the offer to install it; asked for in the section Improve only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
from slicer.i18n import tr as _

from MAESegmentLib.processes.environment import TRAIN

from .ask_bar import Answer, AskBar
from .dependencies import DependencyReport
from .installing import Installer

_LONGEST_NOTE = 160


class TrainingPackages:
    """Looked for once the section is open and segmenting works. `report` is None until that is known."""

    def __init__(self, ui: Any, logic: Any, changed: Callable[[], None], installer: Any = None) -> None:
        self.report: DependencyReport | None = None
        self.installer = installer
        self._bar = AskBar(ui, "trainPackages")
        self._logic = logic
        self._changed = changed
        self._is_checking = self._is_installing = self._is_open = False
        self._note = ""

    @property
    def reason(self) -> str:
        """Why nothing can be learned; "" if it can, or if it is not known yet."""
        if self._is_installing:
            return _("Packages are being installed.")
        return "" if self.report is None or self.report.ready else self.report.sentence

    def look(self) -> None:
        """Ask if it was not asked yet."""
        if self.report is None and not self._is_checking:
            self.check()

    def check(self) -> None:
        """Ask anew, without a wait."""
        if not self._is_installing:
            self._is_checking = self._is_open = True
            self._logic.dependencies.check(self._on_report, TRAIN)

    def forget(self) -> None:
        """Another Python was chosen: what is known is not of that one."""
        self.report, self._note, self._is_checking = None, "", False
        self._update()

    def cleanup(self) -> None:
        """The widgets go; a check under way is given up by the bar on top."""
        self._is_open = False

    def install(self) -> None:
        """Download into Slicer's own Python."""
        if self.report is None or not self.report.can_install:
            self.check()
            return
        if self.installer is None:
            self.installer = Installer(self._logic.session, self._logic.dependencies)
        self._is_installing, self._note = True, ""
        self._update()
        self._changed()
        self.installer.install(self.report, self._on_line, self._on_installed)

    def _on_line(self, line: str) -> None:
        self._note = line.strip()[:_LONGEST_NOTE]
        self._update()

    def _on_installed(self, report: DependencyReport, error: Exception | None) -> None:
        self._is_installing = False
        self._note = str(error).replace("\n", " ") if error is not None else ""
        self._on_report(report)

    def _on_report(self, report: DependencyReport) -> None:
        self.report = report
        self._is_checking = False
        if self._is_open:
            self._update()
            self._changed()

    def _copy_command(self) -> None:
        if self.report is not None:
            slicer.app.clipboard().setText(self.report.command)
            self._note = _("Copied. Run it in a terminal, then press Check again.")
            self._update()

    def _update(self) -> None:
        report = self.report
        if report is None or (report.ready and not self._is_installing):
            self._bar.clear()
            return
        text = "\n".join(line for line in (report.sentence, self._note) if line)
        self._bar.show(text, *(() if self._is_installing else self._answers(report)))

    def _answers(self, report: DependencyReport) -> list[Answer]:
        if report.can_install:
            tip = _("Download and install into Slicer's own Python; what Slicer has is not changed.")
            return [Answer(_("Install"), self.install, tip)]
        again = Answer(_("Check again"), self.check, _("Look again whether the packages are there."))
        if not (report.is_foreign and report.command):
            return [again]
        tip = _("Run in a terminal: {command}").format(command=report.command)
        return [Answer(_("Copy command"), self._copy_command, tip), again]
