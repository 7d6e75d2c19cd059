"""What the buttons beside an error do."""

from __future__ import annotations

from typing import Any

from MAESegmentLib import mrml
from MAESegmentLib.app.texts.messages import Remedy
from MAESegmentLib.errors import MAESegmentError


class Remedies:
    """Changes what stood in the way, and starts again."""

    def __init__(self, panel: Any) -> None:
        self._panel = panel

    def apply(self, remedy: Remedy) -> None:
        """Do it; nothing happens while a scene is being closed."""
        panel = self._panel
        if panel.parameters is None:
            return
        {
            Remedy.RETRY: panel.start_again,
            Remedy.USE_CPU: lambda: self._on_device("cpu"),
            Remedy.USE_AUTO_DEVICE: lambda: self._on_device("auto"),
            Remedy.ADD_ROI: panel.add_roi,
            Remedy.HARDEN: self._harden,
            Remedy.NEW_OUTPUT: self._new_output,
            Remedy.REPLACE_OUTPUT: lambda: panel.start(overwrite=True),
            Remedy.INSTALL: panel.dependencies.install,
            Remedy.SHOW_LOG: panel.advanced.show_log,
            Remedy.COPY_DIAGNOSTICS: panel.advanced.copy_diagnostics,
            Remedy.CHOOSE_FOLDER: panel.advanced.open_folder_setting,
        }[remedy]()

    def _on_device(self, device: str) -> None:
        self._panel.set_parameter("device", device)
        self._panel.start_again()

    def _harden(self) -> None:
        panel = self._panel
        try:
            copy = mrml.hardened_copy(panel.parameters.inputVolume)
        except MAESegmentError as error:
            panel.show_error(error)
            return
        panel.set_parameter("inputVolume", copy)
        panel.update()
        if not panel.reason:
            panel.start()

    def _new_output(self) -> None:
        self._panel.set_parameter("outputSegmentation", None)
        self._panel.start()
