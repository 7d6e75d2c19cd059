"""The scan, the further channels of a model, and the region; the scans of the scene and of folders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from MAESegmentLib import mrml
from MAESegmentLib.bundle import Bundle
from MAESegmentLib.errors import MAESegmentError
from MAESegmentLib.mrml.volumes import add_box, box_hint

#: More channels than the panel has selectors for are for scripts.
MOST_CHANNELS = 4


class InputSection:
    """Reads and fills the parameter node; the selectors are connected to it by name."""

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        self._labels = (ui.inputLabel, ui.channel2Label, ui.channel3Label, ui.channel4Label)
        self._selectors = (ui.inputSelector, ui.channel2Selector, ui.channel3Selector, ui.channel4Selector)

    def nodes(self, parameters: Any, bundle: Bundle | None) -> list[Any]:
        """The chosen volume of each channel that the model has."""
        chosen = [parameters.inputVolume, parameters.channel2, parameters.channel3, parameters.channel4]
        return chosen[: len(channels_of(bundle))]

    def problem(self, parameters: Any, bundle: Bundle | None) -> MAESegmentError | None:
        """Why the chosen volumes cannot be segmented."""
        nodes = self.nodes(parameters, bundle)
        if any(node is None for node in nodes):
            return None
        try:
            mrml.image_of(nodes)
        except MAESegmentError as error:
            return error
        return None

    def missing(self, parameters: Any, bundle: Bundle | None) -> str:
        """What is still to be chosen; "" if nothing is."""
        for node, name in zip(self.nodes(parameters, bundle), channels_of(bundle), strict=False):
            if node is None:
                several = len(channels_of(bundle)) > 1
                return _("Select the volume for {channel}.").format(channel=name) if several else _("Select a volume.")
        return ""

    def update(self, parameters: Any, bundle: Bundle | None, *, enabled: bool, models: Iterable[Bundle]) -> None:
        names = channels_of(bundle)
        for number, (label, selector) in enumerate(zip(self._labels, self._selectors, strict=True)):
            label.visible = selector.visible = number < len(names)
            if len(names) > 1 and number < len(names):
                label.text = f"{names[number]}:".replace("&", "&&")  # no shortcut
            selector.enabled = enabled
        if len(names) <= 1:
            self._ui.inputLabel.text = _("Vol&ume:")
        self._ui.roiSelector.enabled = enabled
        hint = box_hint(bundle, models) if parameters.roi is None and parameters.inputVolume is not None else ""
        self._ui.roiHintLabel.text = hint
        self._ui.roiHintWidget.visible = bool(hint)
        self._ui.addRoiButton.enabled = enabled

    def choose_default(self, parameters: Any) -> None:
        """The volume in the slice views, else the only one there is, if none is chosen."""
        if parameters.inputVolume is not None:
            return
        candidates = volumes()
        selection = slicer.app.applicationLogic().GetSelectionNode()
        shown = selection.GetActiveVolumeID() if selection is not None else None
        active = slicer.mrmlScene.GetNodeByID(shown) if shown else None
        if active in candidates:
            parameters.inputVolume = active
        elif len(candidates) == 1:
            parameters.inputVolume = candidates[0]

    def add_roi(self, parameters: Any, bundle: Bundle | None) -> Any:
        """A box of the model's window size at the middle of the volume, ready to be dragged."""
        parameters.roi = add_box(parameters.inputVolume, bundle)
        return parameters.roi


def channels_of(bundle: Bundle | None) -> list[str]:
    """Names of the model's input channels."""
    return [str(name) for name in bundle.metadata["maesegment"]["channels"]] if bundle is not None else [_("Volume")]


def volumes() -> list[Any]:
    """The plain scalar volumes of the scene that users see in selectors."""
    nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    plain = "vtkMRMLScalarVolumeNode"
    return [node for node in nodes if node.GetClassName() == plain and not node.GetHideFromEditors()]


def node_of(source: Any) -> Any:
    """The volume of a ranked scan, a node (the first of several channels) or a file, which is loaded."""
    if not isinstance(source, Path):
        node = source[0] if isinstance(source, Sequence) else source
        if node.GetScene() is None:
            raise MAESegmentError(_("{name} is no longer in the scene.").format(name=node.GetName()))
        return node
    known = next((node for node in volumes() if _file_of(node) == source), None)
    if known is not None:
        return known
    if not source.is_file():
        raise MAESegmentError(
            _("{name} is a folder of DICOM files.").format(name=source.name),
            _("Load it with the module DICOM, then look for the slice again among the scans of the scene."),
        )
    return slicer.util.loadVolume(str(source))


def _file_of(node: Any) -> Path | None:
    storage = node.GetStorageNode()
    return Path(storage.GetFileName()) if storage is not None and storage.GetFileName() else None
