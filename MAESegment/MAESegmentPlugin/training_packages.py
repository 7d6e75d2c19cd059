"""What learning needs beside segmenting, and the offer to install it; asked for in the section Improve only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from MAESegmentLib.app.presenters.elements import Option, Question
from MAESegmentLib.processes.environment import TRAIN

from .ask_bar import AskBar
from .dependencies import DependencyReport
from .packages import CHECK_TIP, Packages


class TrainingPackages(Packages):
    """Looked up once the section is open and segmenting works."""

    def __init__(self, ui: Any, logic: Any, changed: Callable[[], None]) -> None:
        super().__init__(logic, changed, TRAIN)
        self._bar = AskBar(ui, "trainPackages", lambda key: getattr(self, key)())
        self._is_open = False

    @property
    def storing_reason(self) -> str:
        """Why no case can be stored; only fine-tuning needs PyTorch."""
        problems = self.report.problems if self.report is not None and not self.is_installing else ()
        return "" if problems and all(one.is_torch for one in problems) else self.reason

    def look(self) -> None:
        """Ask if it was not asked yet."""
        if self.report is None and not self.is_checking:
            self.check()

    def check(self) -> None:
        self._is_open = True
        super().check()

    def forget(self) -> None:
        """Another Python was chosen: what is known is not of that one."""
        self.report, self.note, self.is_checking = None, "", False
        self.show()

    def cleanup(self) -> None:
        """The widgets go; a check under way is cancelled by the bar on top."""
        self._is_open = False
        self._changed = lambda: None

    def show(self) -> None:
        report = self.report
        if not self._is_open:
            return
        if report is None or (report.ready and not self.is_installing):
            self._bar.show(None)
        else:
            self._bar.show(Question(self.text, () if self.is_installing else self._options(report)))

    def _options(self, report: DependencyReport) -> tuple[Option, ...]:
        if self.can_install:
            return (Option("install", self.install_text, self.install_tip),)
        again = Option("check", _("Check again"), CHECK_TIP)
        if not self.has_command:
            return (again,)
        tip = _("Run in a terminal: {command}").format(command=report.command)
        return Option("copy_command", _("Copy command"), tip), again
