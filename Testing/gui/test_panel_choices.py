"""What the panel chooses automatically, asks for, and keeps with the scene."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk

from MAESegmentLib.errors import BundleError
from Testing.fake_logic import HEADNECK
from Testing.gui import standin


@pytest.fixture
def choose(panel, settle):
    """Choose a volume (and the model called so)."""

    def choose(volume, model="hippocampus-mr@2.0.0"):
        panel.parameters.inputVolume = volume
        panel.parameters.modelName = model
        settle()

    return choose


@pytest.fixture
def two_channels(fake_logic, panel, two_channel_model):
    """A model with two inputs is chosen."""
    fake_logic.bundles = [two_channel_model]
    panel.enter()
    panel.parameters.modelName = "tumour-mr@1.0.0"


def test_first_volume_is_chosen_and_no_later_one_replaces_it(panel, ui, add_volume, settle):
    assert panel.parameters.inputVolume is None
    first = add_volume("First")
    settle()
    add_volume("Second")
    settle()
    assert panel.parameters.inputVolume is ui.inputSelector.currentNode() is first


def test_what_is_loaded_while_another_module_is_open_is_chosen_later(panel, add_volume, settle):
    panel.exit()
    volume = add_volume()
    settle()
    assert panel.parameters.inputVolume is None
    panel.enter()
    assert panel.parameters.inputVolume is volume


@pytest.mark.parametrize("shown", [0, 1, None])
def test_of_several_volumes_the_shown_one_is_chosen_and_none_is_guessed(host, ui, add_volume, shown):
    volumes = [add_volume("First"), add_volume("Second")]
    expected = None if shown is None else volumes[shown]
    selection = slicer.app.applicationLogic().GetSelectionNode()
    selection.SetActiveVolumeID(expected.GetID() if expected else None)
    host.widget.enter()
    assert host.widget.panel.parameters.inputVolume is expected
    assert expected or ui.segmentButton.toolTip == "Select a volume."


def test_label_map_is_not_offered(panel, ui, settle):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Labels")
    settle()
    ui.inputSelector.setCurrentNode(node)
    assert panel.parameters.inputVolume is ui.inputSelector.currentNode() is None


# The model ------------------------------------------------------------------------------------------------------------


def test_model_is_chosen_from_the_list_and_described(panel, ui):
    import qt

    assert panel.parameters.modelName == HEADNECK
    assert ui.modelComboBox.currentText == HEADNECK.replace("@", " ")
    assert "Mean Dice 0." in ui.modelInfoLabel.text
    tip = ui.modelComboBox.itemData(ui.modelComboBox.currentIndex, qt.Qt.ToolTipRole)
    assert all(
        part in tip for part in (HEADNECK.replace("@", " "), "Segments: Brainstem", "Research only", "OpenKBP", "MIT")
    )
    assert max(map(len, tip.splitlines())) <= 72
    ui.modelComboBox.setCurrentIndex(ui.modelComboBox.findData("hippocampus-mr@2.0.0"))
    assert panel.parameters.modelName == "hippocampus-mr@2.0.0"
    assert panel.bundle.name == "hippocampus-mr"
    assert "hippocampus" in ui.modelInfoLabel.text


def test_model_follows_the_scan_until_the_user_has_chosen_one_that_fits(fake_logic, panel, ui, add_volume, settle):
    head, neck = add_volume("Head"), add_volume("Neck")
    fake_logic.misfits = {(head, "headneck-ct"), (neck, "hippocampus-mr")}
    for volume, name in ((head, "hippocampus-mr@2.0.0"), (neck, HEADNECK)):
        panel.parameters.inputVolume = volume
        settle()
        assert panel.parameters.modelName == ui.modelComboBox.currentData == name
    assert not [call for call in fake_logic.calls if call[0] == "preferModel"]
    knee = add_volume("Knee")
    panel.parameters.inputVolume = knee
    ui.modelComboBox.setCurrentIndex(ui.modelComboBox.findData("hippocampus-mr@2.0.0"))
    assert fake_logic.calls[-1] == ("preferModel", (knee, "hippocampus-mr"))
    panel.parameters.inputVolume = head
    settle()
    assert panel.parameters.modelName == "hippocampus-mr@2.0.0"


def test_details_show_the_whole_card_without_pictures_that_widen_it(panel, ui):  # noqa: ARG001
    assert not ui.cardBrowser.visible
    ui.detailsButton.click()
    assert ui.cardBrowser.visible
    assert "Limits" in ui.cardBrowser.toPlainText()
    assert "<img" not in ui.cardBrowser.toHtml()
    ui.detailsButton.click()
    assert not ui.cardBrowser.visible


@pytest.mark.parametrize(
    "hostile",
    ["<img src='file://host/share/x.png'>", "![x](file://host/x.png)", "!![x](y.png)", "![x][y]\n\n[y]: //host/x.png"],
)
def test_a_card_makes_qt_load_nothing(plugin, two_channel_model, hostile):
    two_channel_model.card = f"# A card\n\n{hostile}\n\nn < 5"
    card = plugin("model_section")._card(two_channel_model)
    assert "![" not in card
    assert "<i" not in card
    assert "n < 5" in card


def import_model(ui, path="tumour.zip"):
    standin.dialogs.answers.append(path)
    ui.importButton.click()


@pytest.mark.parametrize("is_first", [False, True])
def test_an_imported_model_is_chosen_only_if_there_was_none(fake_logic, panel, ui, two_channel_model, is_first):
    seen = []

    def slow_import(_path):
        panel.update()
        seen.append((ui.importButton.enabled, ui.importButton.toolTip))
        fake_logic.bundles = [*fake_logic.bundles, two_channel_model]
        return two_channel_model

    fake_logic.importModel = slow_import
    if is_first:
        fake_logic.bundles = []
        panel.parameters.modelName = ""
        panel.enter()
    import_model(ui)
    assert seen == [(False, "A model is being checked.")], "it cannot be pressed twice"
    assert ui.importButton.enabled
    assert panel.parameters.modelName == ("tumour-mr@1.0.0" if is_first else HEADNECK)
    assert "tumour-mr 1.0.0" in panel.messages.text
    ui.modelComboBox.setCurrentIndex(ui.modelComboBox.findData("tumour-mr@1.0.0"))
    assert "not measured" in ui.modelInfoLabel.text


def test_a_file_that_is_not_a_model_is_explained_and_the_dialog_can_be_cancelled(fake_logic, panel, ui):
    import_model(ui, "")
    assert not ui.messageFrame.visible
    fake_logic.refusals["importModel"] = BundleError("cat.zip holds no model.", "Choose a MONAI bundle.")
    import_model(ui, "cat.zip")
    assert panel.messages.text == "cat.zip holds no model. Choose a MONAI bundle."
    assert panel.parameters.modelName == HEADNECK


# The scan and the box -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("two_channels")
def test_each_channel_has_a_selector_called_as_the_model_calls_it(fake_logic, panel, ui, add_volume, settle):
    add_volume()
    settle()
    assert [ui.inputLabel.text, ui.channel2Label.text] == ["T1:", "FLAIR:"]
    assert (ui.channel2Selector.visible, ui.channel3Selector.visible) == (True, False)
    assert ui.segmentButton.toolTip == "Select the volume for FLAIR."
    panel.parameters.channel2 = add_volume("Other", (5, 6, 7))
    settle()
    assert "does not lie on the grid" in panel.messages.text
    panel.parameters.channel2 = add_volume("Second")
    settle()
    ui.segmentButton.click()
    assert [node.GetName() for node in fake_logic.jobs[0].arguments["volume"]] == ["Scan", "Second"]


def test_volume_that_cannot_be_segmented_is_explained_when_it_is_chosen(panel, ui, add_volume, choose):
    choose(add_volume("Slice", (1, 14, 16)))
    assert "Slice" in panel.messages.text
    assert not ui.segmentButton.enabled
    choose(add_volume("Scan"))
    assert not ui.messageFrame.visible
    assert ui.segmentButton.enabled


def test_volume_under_a_warping_transform_is_segmented_as_a_hardened_copy(fake_logic, panel, ui, choose, scene):
    volume = scene.warped("Warped")
    choose(volume)
    assert ui.action1Button.text == "Segment a hardened copy"
    ui.action1Button.click()
    copy = panel.parameters.inputVolume
    assert copy is not volume
    assert copy.GetTransformNodeID() is None
    assert fake_logic.jobs[0].arguments["volume"] is copy


@pytest.mark.parametrize(("model", "asks"), [("hippocampus-mr@2.0.0", True), (HEADNECK, False)])
def test_model_made_for_a_box_asks_for_one(ui, add_volume, choose, model, asks):
    choose(add_volume(), model)
    assert ui.segmentButton.enabled
    assert ui.addRoiButton.visible == ui.roiHintLabel.visible == asks


@pytest.mark.parametrize(
    ("grid", "size"),
    [
        ({"shape": (100, 120, 140), "spacing": (1, 1, 1)}, [40.0, 56.0, 40.0]),
        ({"shape": (12, 14, 16), "spacing": (2, 2, 3)}, [32.0, 28.0, 36.0]),
    ],
    ids=["as the model's window", "as the scan"],
)
def test_added_box_lies_in_the_middle_and_has_the_size_of_the_smaller(panel, ui, add_volume, choose, grid, size):
    volume = add_volume(**grid)
    moved = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Move")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 50.0)
    moved.SetMatrixTransformToParent(matrix)
    volume.SetAndObserveTransformNodeID(moved.GetID())
    choose(volume)
    ui.addRoiButton.click()
    roi, bounds = panel.parameters.roi, [0.0] * 6
    volume.GetRASBounds(bounds)
    assert roi.GetCenter() == pytest.approx(np.add(bounds[0::2], bounds[1::2]) / 2)
    assert roi.GetSize() == pytest.approx(size)
    assert roi.GetDisplayNode().GetHandlesInteractive()
    assert not ui.addRoiButton.visible
    # Its name would lie over what is found in it.
    assert not roi.GetDisplayNode().GetPropertiesLabelVisibility()
    assert "Drag the box" in panel.messages.text


# What is kept ---------------------------------------------------------------------------------------------------------


def test_result_of_one_scan_is_not_where_the_next_ones_goes(panel, add_volume, choose, add_result):
    first, second = add_volume("First"), add_volume("Second")
    choose(first)
    panel.parameters.outputSegmentation = add_result(first, panel.bundle)[0]
    choose(second)
    assert panel.parameters.outputSegmentation is None
    panel.parameters.outputSegmentation = add_result(second, panel.bundle)[0]
    choose(second, HEADNECK)
    assert panel.parameters.outputSegmentation is not None


def test_a_box_is_of_its_scan_and_chosen_again_with_it(panel, ui, add_volume, choose, settle):
    head, other = add_volume("Head"), add_volume("Other")
    choose(head)
    ui.addRoiButton.click()
    box = panel.parameters.roi
    for volume, chosen in ((other, None), (head, box)):
        panel.parameters.inputVolume = volume
        settle()
        assert panel.parameters.roi is chosen
    # Two scans of one patient may share a box: whoever chooses it there means it.
    panel.parameters.inputVolume = other
    panel.parameters.roi = box
    for volume in (other, head, other):
        panel.parameters.inputVolume = volume
        settle()
        assert panel.parameters.roi is box


def test_choices_go_with_the_scene_and_come_back_with_it(panel, ui, add_volume, choose, settle):
    choose(add_volume("Saved scan"))
    panel.add_roi()
    panel.parameters.device, panel.parameters.overlap = "cuda:1", 0.75
    settle()
    scene = slicer.mrmlScene
    scene.SetSaveToXMLString(1)
    scene.Commit()
    saved = scene.GetSceneXMLString()
    scene.Clear(0)
    settle()
    assert (panel.parameters.inputVolume, panel.parameters.device) == (None, "auto")
    assert (panel.parameters.modelName, ui.deviceComboBox.currentData) == (HEADNECK, "auto")
    assert ui.segmentButton.toolTip == "Select a volume."
    scene.SetLoadFromXMLString(1)
    scene.SetSceneXMLString(saved)
    scene.Import()
    scene.SetLoadFromXMLString(0)
    scene.SetSaveToXMLString(0)
    settle()
    assert ui.inputSelector.currentNode().GetName() == "Saved scan"
    assert panel.parameters.roi.GetName() == "Saved scan region"
    assert panel.parameters.modelName == "hippocampus-mr@2.0.0"
    assert (ui.deviceComboBox.currentData, ui.overlapComboBox.currentText) == ("cuda:1", "75 % (slow)")


def test_volume_that_is_removed_is_asked_for_again(panel, ui, volume, settle):
    slicer.mrmlScene.RemoveNode(volume)
    settle()
    assert panel.parameters.inputVolume is None
    assert not ui.segmentButton.enabled
