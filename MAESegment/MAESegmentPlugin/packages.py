"""Looks up what the Python for the network lacks, and installs it when asked to; two bars are views of this."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import slicer
from slicer.i18n import tr as _

from MAESegmentLib.processes.environment import SEGMENT

from .dependencies import DependencyReport
from .installing import Installer

_LONGEST_NOTE = 160
INSTALL_TIP = _("Download and install into Slicer's own Python; what Slicer has is not changed.")
SEGMENT_ONLY = _("Segment only (OpenVINO, 180 MB)")
SEGMENT_ONLY_TIP = _("On the processor, with models that are converted: those that ship are. PyTorch can follow later.")
SEGMENT_AND_TRAIN = _("Segment and fine-tune (PyTorch, 754 MB)")
CHECK_TIP = _("Check again whether the packages are there.")


class Packages:
    """Of one purpose, "segment" or "train". `report` is None until the first check is over.

    `changed` is called after every change of `reason`; a view redraws itself in `show`.
    """

    def __init__(
        self, logic: Any, changed: Callable[[], None], purpose: str = SEGMENT, installer: Installer | None = None
    ) -> None:
        self.report: DependencyReport | None = None
        self.installer = installer
        self.is_checking = self.is_installing = False
        self.note = ""
        self._logic = logic
        self._changed = changed
        self._purpose = purpose

    def show(self) -> None:
        """Draw the state; for the view."""

    @property
    def reason(self) -> str:
        """Why nothing can be done for this purpose; "" if it can, or if it is not known yet."""
        if self.is_installing:
            return _("Packages are being installed.")
        return "" if self.report is None or self.report.ready else self.report.sentence

    @property
    def can_install(self) -> bool:
        return self.report is not None and self.report.can_install

    @property
    def has_choice(self) -> bool:
        """Whether another package than PyTorch is enough to segment."""
        return self.report is not None and self.can_install and self.report.instead is not None

    @property
    def needs_extension(self) -> bool:
        """Whether PyTorch is lacking, and the extension that brings it, too."""
        problems = self.report.problems if self.report is not None and self.can_install else ()
        return any(one.is_torch for one in problems) and importlib.util.find_spec("PyTorchUtils") is None

    @property
    def install_text(self) -> str:
        """For the button."""
        if self.has_choice:
            return SEGMENT_AND_TRAIN
        if self.needs_extension:
            return _("Open Extensions Manager")
        return _("Install") if self.can_install else _("Check again")

    @property
    def install_tip(self) -> str:
        if self.needs_extension:
            return _("Install the extension PyTorch there, then restart Slicer.")
        return INSTALL_TIP if self.can_install else CHECK_TIP

    @property
    def has_command(self) -> bool:
        """Whether the user can copy a command for a Python of their own."""
        return self.report is not None and self.report.is_foreign and bool(self.report.command)

    @property
    def text(self) -> str:
        """What is lacking, what to do about it, and how the installation is going."""
        report = self.report
        hint = report.failure.hint if report is not None and report.failure is not None else ""
        if self.needs_extension:
            hint = _("PyTorch comes with an extension: install it in the Extensions Manager, then restart Slicer.")
        return "\n".join(line for line in ("" if report is None else report.sentence, hint, self.note) if line)

    def check(self) -> None:
        """Ask again, without a wait."""
        if not self.is_installing:
            self.is_checking = True
            self.show()
            self._logic.dependencies.check(self._on_report, self._purpose)

    def install(self) -> None:
        """Only when the user asks; where there is nothing that could be installed, it checks again."""
        if self.report is None or not self.can_install:
            self.note = ""
            self.check()
            return
        if self.needs_extension:
            self.show()
            slicer.app.openExtensionsManagerDialog()
            return
        self._install(self.report)

    def install_to_segment_only(self) -> None:
        if self.report is not None and self.has_choice:
            self._install(self.report.to_segment_only)

    def _install(self, report: DependencyReport) -> None:
        if self.installer is None:
            self.installer = Installer(self._logic.session, self._logic.dependencies)
        self.is_installing, self.note = True, ""
        self.show()
        self._changed()
        self.installer.install(report, self._on_line, self._on_installed)

    def copy_command(self) -> None:
        if self.report is not None:
            slicer.app.clipboard().setText(self.report.command)
            self.note = _("Copied. Run it in a terminal, then press Check again.")
            self.show()

    def _on_report(self, report: DependencyReport) -> None:
        self.report = report
        self.is_checking = False
        self.show()
        self._changed()

    def _on_line(self, line: str) -> None:
        self.note = line.strip()[:_LONGEST_NOTE]
        self.show()

    def _on_installed(self, report: DependencyReport, error: Exception | None) -> None:
        self.is_installing = False
        self.note = str(error).replace("\n", " ") if error is not None else ""
        self._on_report(report)
