"""The scan, the further channels of a model, and the region."""

from __future__ import annotations

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

    def update(self, parameters: Any, bundle: Bundle | None, *, enabled: bool) -> None:
        names = channels_of(bundle)
        for number, (label, selector) in enumerate(zip(self._labels, self._selectors, strict=True)):
            label.visible = selector.visible = number < len(names)
            if len(names) > 1 and number < len(names):
                label.text = f"{names[number]}:".replace("&", "&&")  # no shortcut
            selector.enabled = enabled
        if len(names) <= 1:
            self._ui.inputLabel.text = _("Vol&ume:")
        self._ui.roiSelector.enabled = enabled
        hint = box_hint(bundle) if parameters.roi is None and parameters.inputVolume is not None else ""
        self._ui.roiHintLabel.text = hint
        self._ui.roiHintLabel.visible = bool(hint)
        self._ui.addRoiButton.visible = bool(hint)
        self._ui.addRoiButton.enabled = enabled

    def choose_default(self, parameters: Any) -> None:
        """The volume in the slice views, else the only one there is, if none is chosen."""
        if parameters.inputVolume is not None:
            return
        candidates = [node for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if is_scan(node)]
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


def is_scan(node: Any) -> bool:
    """A plain scalar volume that users see in selectors."""
    return node.GetClassName() == "vtkMRMLScalarVolumeNode" and not node.GetHideFromEditors()
