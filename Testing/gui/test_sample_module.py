"""A small scripted module lives in the stand-in as it would in Slicer: panel, parameters, reload, errors."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import slicer
from PySide6 import QtGui, QtWidgets

from Testing.gui import standin
from Testing.gui.looking import assert_nothing_cut_off

SAMPLE = Path(__file__).resolve().parent / "sample_module"
NAME = "SampleModule"


@pytest.fixture
def sample(slicer_gui: Any, tmp_path: Path) -> Iterator[standin.LoadedModule]:
    """A copy of the module, that a test may change, loaded and shown."""
    folder = tmp_path / "modules"
    shutil.copytree(SAMPLE, folder)
    loaded = standin.load_module(folder, NAME)
    loaded.show()
    yield loaded
    if slicer_gui.moduleManager().module(NAME) is not None:
        standin.unload_module(NAME)
    sys.path.remove(str(folder))
    del sys.modules[NAME]


def new_volume(name: str) -> Any:
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)


def test_a_module_is_described_set_up_and_entered(sample):
    assert sample.module.parent.title == "Sample"
    assert sample.widget.events == ["enter"]
    assert slicer.util.getModuleLogic(NAME) is sample.widget.logic
    assert sample.parent.isVisible()


def test_the_panel_starts_with_the_defaults(sample):
    ui = sample.widget.ui
    assert ui.volumeSelector.currentNode() is None
    assert (ui.sideSelector.currentText, ui.nameEdit.text, ui.countBox.value) == ("RIGHT", "nobody", 3)
    assert (ui.weightBox.value, ui.loudCheckBox.checked) == (0.5, False)


def test_what_a_person_enters_is_a_parameter(sample):
    ui, parameters = sample.widget.ui, sample.widget.parameters
    volume = new_volume("scan")
    ui.volumeSelector.setCurrentNode(volume)
    ui.sideSelector.setCurrentIndex(0)
    ui.nameEdit.setText("Ada")
    ui.countBox.setValue(7)
    ui.weightBox.setValue(0.25)
    ui.loudCheckBox.click()
    found = (parameters.volume, parameters.side.name, parameters.name, parameters.count, parameters.weight)
    assert found == (volume, "LEFT", "Ada", 7, 0.25)
    assert parameters.loud is True


def test_what_a_script_sets_is_shown(sample):
    ui, parameters = sample.widget.ui, sample.widget.parameters
    volume = new_volume("scan")
    parameters.volume, parameters.name, parameters.count, parameters.weight = volume, "Ada", 7, 0.25
    parameters.side = type(parameters.side).LEFT
    assert ui.volumeSelector.currentNode() is volume
    assert (ui.nameEdit.text, ui.countBox.value, ui.weightBox.value) == ("Ada", 7, 0.25)
    assert ui.sideSelector.currentText == "LEFT"


def test_a_list_of_nodes_is_kept_in_the_scene(sample):
    nodes = [new_volume("a"), new_volume("b")]
    sample.widget.parameters.others = nodes
    assert list(sample.widget.logic.getParameterNode().others) == nodes


def test_parameters_survive_saving_and_loading(sample):
    sample.widget.parameters.name = "Ada"
    scene = slicer.mrmlScene
    scene.SetSaveToXMLString(1)
    assert scene.Commit()
    text = scene.GetSceneXMLString()
    scene.Clear(0)
    assert sample.widget.events == ["enter", "scene closed"]
    scene.SetLoadFromXMLString(1)
    scene.SetSceneXMLString(text)
    assert scene.Import()
    scene.SetLoadFromXMLString(0)
    scene.SetSaveToXMLString(0)
    assert sample.widget.logic.getParameterNode().name == "Ada"


def test_reload_runs_the_changed_source_and_cleans_up_the_old_panel(sample):
    old = sample.widget
    source = sample.path.read_text(encoding="utf-8")
    sample.path.write_text(source.replace('"Hello"', '"Good morning to you"'), encoding="utf-8")
    new = slicer.util.reloadScriptedModule(NAME).widget
    assert old.events == ["enter", "cleanup"]
    new.parameters.name = "Ada"
    new.ui.greetButton.click()
    assert new.ui.greetingLabel.text == "Good morning to you, Ada"


def test_nothing_of_an_unloaded_module_hears_of_the_scene_any_more(sample):
    standin.unload_module(NAME)
    new_volume("later")
    slicer.mrmlScene.Clear(0)
    assert sample.widget.events == ["enter", "cleanup"]


def test_an_error_in_a_slot_would_fail_the_test(sample, monkeypatch):
    seen: list[str] = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: seen.append(str(error[1])))
    sample.widget.ui.greetButton.click()
    assert seen == ["There is nobody to greet."]


def test_a_dialog_that_nobody_expects_is_noted(sample):  # noqa: ARG001
    slicer.util.errorDisplay("boom")
    assert standin.dialogs.unexpected == ["errorDisplay: boom"]
    standin.dialogs.unexpected.clear()


def test_text_is_readable_at_slicers_width(sample, screenshot):
    assert QtGui.QFontInfo(QtWidgets.QApplication.font()).family() == "DejaVu Sans"
    picture = QtGui.QImage(str(screenshot(sample.parent, "sample")))
    assert picture.width() == 470
    assert_nothing_cut_off(sample.parent)


def test_text_that_is_cut_off_is_found(sample):
    sample.widget.ui.nameEditLabel.setFixedWidth(5)
    slicer.app.processEvents()
    with pytest.raises(AssertionError, match="nameEditLabel"):
        assert_nothing_cut_off(sample.parent)


def test_a_choice_that_is_cut_off_is_found_and_a_name_wider_than_the_panel_is_not(sample):
    combo = sample.widget.ui.volumeSelector
    combo.setCurrentNode(new_volume("a scan " * 40))
    slicer.app.processEvents()
    assert_nothing_cut_off(sample.parent)
    combo.setCurrentNode(new_volume("a scan of the head"))
    combo.setFixedWidth(60)
    slicer.app.processEvents()
    with pytest.raises(AssertionError, match="combo box volumeSelector"):
        assert_nothing_cut_off(sample.parent)


def test_a_button_that_is_too_low_is_found(sample):
    sample.widget.ui.greetButton.setFixedHeight(8)
    slicer.app.processEvents()
    with pytest.raises(AssertionError, match="button greetButton"):
        assert_nothing_cut_off(sample.parent)


def test_the_modules_own_test_runs(sample):
    sample.module.runTest()
