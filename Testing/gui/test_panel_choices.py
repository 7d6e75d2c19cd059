"""What the panel chooses by itself, asks for, and refuses."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk


@pytest.fixture
def ui(panel):
    return panel.ui


@pytest.fixture
def choose(panel, settle):
    """Choose a volume (and the model called so)."""

    def choose(volume, model="hippocampus-mr@1.2.1"):
        panel.parameters.inputVolume = volume
        panel.parameters.modelName = model
        settle()

    return choose


def test_only_volume_is_chosen_when_the_panel_is_opened(host, add_volume):
    volume = add_volume()
    host.panel.enter()
    assert host.panel.parameters.inputVolume is volume
    assert host.panel.ui.inputSelector.currentNode() is volume


def test_first_volume_that_is_loaded_while_the_panel_is_open_is_chosen(panel, add_volume, settle):
    assert panel.parameters.inputVolume is None
    volume = add_volume()
    settle()
    assert panel.parameters.inputVolume is volume


def test_loading_while_another_module_is_open_chooses_nothing(panel, add_volume, settle):
    panel.exit()
    add_volume()
    settle()
    assert panel.parameters.inputVolume is None


def test_later_volume_replaces_nobodys_choice(panel, add_volume, settle):
    first = add_volume("First")
    settle()
    add_volume("Second")
    settle()
    assert panel.parameters.inputVolume is first


def test_of_several_volumes_the_shown_one_is_chosen(host, add_volume):
    add_volume("First")
    shown = add_volume("Second")
    slicer.app.applicationLogic().GetSelectionNode().SetActiveVolumeID(shown.GetID())
    host.panel.enter()
    assert host.panel.parameters.inputVolume is shown


def test_of_several_volumes_none_is_guessed(host, add_volume):
    slicer.app.applicationLogic().GetSelectionNode().SetActiveVolumeID(None)
    add_volume("First")
    add_volume("Second")
    host.panel.enter()
    assert host.panel.parameters.inputVolume is None
    assert host.panel.ui.segmentButton.toolTip == "Select a volume."


def test_label_map_is_not_offered(panel, ui, settle):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Labels")
    settle()
    assert panel.parameters.inputVolume is None
    ui.inputSelector.setCurrentNode(node)
    assert ui.inputSelector.currentNode() is None


def test_default_model_says_what_it_is_for_and_how_good_it_is(panel, ui):
    assert panel.parameters.modelName == "headneck-ct@1.1.1"
    assert ui.modelComboBox.currentText == "headneck-ct 1.1.1"
    assert "head-and-neck planning CT" in ui.modelInfoLabel.text
    assert "Mean Dice 0.77 (n = 40 held-out cases)" in ui.modelInfoLabel.text


def test_tooltip_of_a_model_is_its_card_in_short_lines(ui):
    import qt

    tip = ui.modelComboBox.itemData(0, qt.Qt.ToolTipRole)
    for part in ("headneck-ct 1.1.1", "Segments: Brainstem", "Research only", "OpenKBP", "MIT"):
        assert part in tip
    assert max(map(len, tip.splitlines())) <= 72


def test_details_show_the_whole_card_without_pictures_that_widen_it(ui):
    assert not ui.cardBrowser.visible
    ui.detailsButton.click()
    assert ui.cardBrowser.visible
    card = ui.cardBrowser.toPlainText()
    assert "Limits" in card
    assert "<img" not in ui.cardBrowser.toHtml()
    ui.detailsButton.click()
    assert not ui.cardBrowser.visible


def test_choosing_a_model_shows_it_and_keeps_it_in_the_parameter_node(panel, ui):
    ui.modelComboBox.setCurrentIndex(ui.modelComboBox.findData("hippocampus-mr@1.2.1"))
    assert panel.parameters.modelName == "hippocampus-mr@1.2.1"
    assert "hippocampus" in ui.modelInfoLabel.text
    assert panel.bundle.name == "hippocampus-mr"


def test_an_imported_model_is_not_used_until_it_is_chosen(fake_logic, panel, ui, two_channel_model):
    from Testing.gui import standin

    fake_logic.imported = two_channel_model
    standin.dialogs.answers.append("tumour.zip")
    ui.importButton.click()
    assert panel.parameters.modelName == "headneck-ct@1.1.1"
    assert "tumour-mr 1.0.0" in panel.messages.text
    ui.modelComboBox.setCurrentIndex(ui.modelComboBox.findData("tumour-mr@1.0.0"))
    assert panel.parameters.modelName == "tumour-mr@1.0.0"
    assert "not measured" in ui.modelInfoLabel.text


def test_the_first_model_is_chosen_when_it_is_imported(fake_logic, panel, ui, two_channel_model):
    from Testing.gui import standin

    fake_logic.bundles = []
    panel.enter()
    panel.parameters.modelName = ""
    panel.update()
    fake_logic.imported = two_channel_model
    standin.dialogs.answers.append("tumour.zip")
    ui.importButton.click()
    assert panel.parameters.modelName == "tumour-mr@1.0.0"
    assert ui.modelComboBox.currentText == "tumour-mr 1.0.0"


@pytest.mark.parametrize(
    "hostile",
    ["<img src='file://host/share/x.png'>", "![x](file://host/x.png)", "!![x](y.png)", "![x][y]\n\n[y]: //host/x.png"],
)
def test_a_card_makes_qt_load_nothing(two_channel_model, monkeypatch, hostile):
    from MAESegmentPlugin import model_section

    monkeypatch.setattr(two_channel_model, "card", f"# A card\n\n{hostile}\n\nn < 5", raising=False)
    card = model_section._card(two_channel_model)
    assert "![" not in card
    assert "<i" not in card
    assert "n < 5" in card


def test_file_that_is_no_model_is_explained(fake_logic, panel, ui):
    from MAESegmentLib.errors import BundleError
    from Testing.gui import standin

    fake_logic.refusals["importModel"] = BundleError("cat.zip holds no model.", "Choose a MONAI bundle.")
    standin.dialogs.answers.append("cat.zip")
    ui.importButton.click()
    assert panel.messages.text == "cat.zip holds no model. Choose a MONAI bundle."
    assert panel.parameters.modelName == "headneck-ct@1.1.1"


def test_import_cannot_be_pressed_twice(fake_logic, panel, ui, two_channel_model):
    from Testing.gui import standin

    seen = []

    def slow_import(_path):
        panel.update()
        seen.append((ui.importButton.enabled, ui.importButton.toolTip))
        return two_channel_model

    fake_logic.importModel = slow_import
    standin.dialogs.answers.append("tumour.zip")
    ui.importButton.click()
    assert seen == [(False, "A model is being checked.")]
    assert ui.importButton.enabled


def test_import_that_is_given_up_changes_nothing(panel, ui):
    from Testing.gui import standin

    standin.dialogs.answers.append("")
    ui.importButton.click()
    assert not ui.messageFrame.visible
    assert panel.parameters.modelName == "headneck-ct@1.1.1"


def test_each_channel_has_a_selector_called_as_the_model_calls_it(
    fake_logic, panel, ui, add_volume, settle, two_channel_model
):
    fake_logic.bundles = [two_channel_model]
    panel.enter()
    panel.parameters.modelName = "tumour-mr@1.0.0"
    add_volume()
    settle()
    assert [ui.inputLabel.text, ui.channel2Label.text] == ["T1:", "FLAIR:"]
    assert ui.channel2Selector.visible
    assert not ui.channel3Selector.visible
    assert ui.segmentButton.toolTip == "Select the volume for FLAIR."
    panel.parameters.channel2 = add_volume("Second")
    settle()
    assert ui.segmentButton.enabled
    ui.segmentButton.click()
    assert [node.GetName() for node in fake_logic.jobs[0].arguments["volume"]] == ["Scan", "Second"]


def test_channels_of_different_grids_are_refused_at_once(fake_logic, panel, ui, add_volume, settle, two_channel_model):
    fake_logic.bundles = [two_channel_model]
    panel.enter()
    panel.parameters.modelName = "tumour-mr@1.0.0"
    panel.parameters.inputVolume = add_volume()
    panel.parameters.channel2 = add_volume("Other", (5, 6, 7))
    settle()
    assert "does not lie on the grid" in panel.messages.text
    assert not ui.segmentButton.enabled
    assert "does not lie on the grid" in " ".join(ui.segmentButton.toolTip.split())


def test_volume_that_cannot_be_segmented_is_explained_when_it_is_chosen(panel, ui, add_volume, choose):
    choose(add_volume("Slice", (1, 14, 16)))
    assert "Slice" in panel.messages.text
    assert not ui.segmentButton.enabled
    choose(add_volume("Scan"))
    assert not ui.messageFrame.visible
    assert ui.segmentButton.enabled


def test_volume_under_a_warping_transform_is_segmented_as_a_hardened_copy(
    fake_logic, panel, ui, add_volume, choose, settle
):
    volume = add_volume()
    warp = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "Warp")
    spline = vtk.vtkThinPlateSplineTransform()
    points = vtk.vtkPoints()
    for point in np.ndindex(2, 2, 2):
        points.InsertNextPoint(*(30.0 * value for value in point))
    spline.SetSourceLandmarks(points)
    spline.SetTargetLandmarks(points)
    spline.SetBasisToR()
    warp.SetAndObserveTransformToParent(spline)
    volume.SetAndObserveTransformNodeID(warp.GetID())
    choose(volume)
    assert "not linear" in panel.messages.text
    assert ui.action1Button.text == "Segment a hardened copy"
    ui.action1Button.click()
    settle()
    copy = panel.parameters.inputVolume
    assert copy is not volume
    assert copy.GetTransformNodeID() is None
    assert fake_logic.jobs[0].arguments["volume"] is copy


def test_model_made_for_a_box_asks_for_one(ui, add_volume, choose):
    choose(add_volume())
    assert ui.addRoiButton.visible
    assert "box around the structure" in ui.roiHintLabel.text
    assert ui.segmentButton.enabled


def test_model_made_for_whole_scans_asks_for_no_box(ui, add_volume, choose):
    choose(add_volume(), "headneck-ct@1.1.1")
    assert not ui.addRoiButton.visible
    assert not ui.roiHintLabel.visible


def test_added_box_lies_in_the_middle_and_has_the_size_of_the_models_window(panel, ui, add_volume, choose, settle):
    volume = add_volume(shape=(100, 120, 140), spacing=(1, 1, 1))
    turn = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Move")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 50.0)
    turn.SetMatrixTransformToParent(matrix)
    volume.SetAndObserveTransformNodeID(turn.GetID())
    choose(volume)
    ui.addRoiButton.click()
    settle()
    roi = panel.parameters.roi
    bounds = [0.0] * 6
    volume.GetRASBounds(bounds)
    assert roi.GetCenter() == pytest.approx(np.add(bounds[0::2], bounds[1::2]) / 2)
    assert roi.GetSize() == pytest.approx([40.0, 56.0, 40.0])
    assert roi.GetDisplayNode().GetHandlesInteractive()
    assert not ui.addRoiButton.visible
    assert "Drag the box" in panel.messages.text


def test_box_is_never_larger_than_the_scan(panel, ui, add_volume, choose):
    volume = add_volume(shape=(12, 14, 16), spacing=(2, 2, 3))
    choose(volume)
    ui.addRoiButton.click()
    assert panel.parameters.roi.GetSize() == pytest.approx([32.0, 28.0, 36.0])


def test_settings_are_handed_to_the_logic(fake_logic, panel, ui, add_volume, choose):
    choose(add_volume())
    parameters = panel.parameters
    parameters.device, parameters.precision, parameters.overlap = "cpu", "fp32", 0.75
    parameters.mirroring, parameters.allowCpu = "off", False
    ui.segmentButton.click()
    given = fake_logic.jobs[0].arguments
    assert (given["device"], given["precision"], given["overlap"]) == ("cpu", "fp32", 0.75)
    assert (given["mirroring"], given["allowCpu"]) == (False, False)


def test_result_of_one_scan_is_not_where_the_next_ones_goes(panel, add_volume, choose, add_result):
    first, second = add_volume("First"), add_volume("Second")
    choose(first)
    segmentation, _summary = add_result(first, panel.bundle)
    panel.parameters.outputSegmentation = segmentation
    choose(second)
    assert panel.parameters.outputSegmentation is None
    panel.parameters.outputSegmentation = add_result(second, panel.bundle)[0]
    choose(second, "headneck-ct@1.1.1")
    assert panel.parameters.outputSegmentation is not None


def test_choices_survive_saving_and_loading_the_scene(panel, add_volume, choose, settle):
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
    assert panel.parameters.inputVolume is None
    assert panel.parameters.device == "auto"
    scene.SetLoadFromXMLString(1)
    scene.SetSceneXMLString(saved)
    scene.Import()
    scene.SetLoadFromXMLString(0)
    scene.SetSaveToXMLString(0)
    settle()
    assert panel.parameters.inputVolume.GetName() == "Saved scan"
    assert panel.parameters.roi.GetName() == "Saved scan region"
    assert panel.parameters.modelName == "hippocampus-mr@1.2.1"
    assert panel.ui.deviceComboBox.currentData == "cuda:1"
    assert panel.ui.overlapComboBox.currentText == "75 % (slow)"
    assert panel.ui.inputSelector.currentNode().GetName() == "Saved scan"


def test_new_scene_starts_afresh(panel, ui, add_volume, choose, settle):
    choose(add_volume())
    panel.parameters.precision = "fp16"
    slicer.mrmlScene.Clear(0)
    settle()
    assert panel.parameters.inputVolume is None
    assert panel.parameters.precision == "auto"
    assert panel.parameters.modelName == "headneck-ct@1.1.1"
    assert ui.precisionComboBox.currentText == "Automatic"
    assert ui.segmentButton.toolTip == "Select a volume."


def test_volume_that_is_removed_is_asked_for_again(panel, ui, add_volume, choose, settle):
    volume = add_volume()
    choose(volume)
    slicer.mrmlScene.RemoveNode(volume)
    settle()
    assert panel.parameters.inputVolume is None
    assert not ui.segmentButton.enabled
