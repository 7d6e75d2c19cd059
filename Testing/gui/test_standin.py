"""The stand-in behaves as a running Slicer 5.12 said it behaves (`standin/slicer_5_12.json`)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import slicer

from Testing.gui import standin

pytestmark = pytest.mark.usefixtures("slicer_gui")

STATED = json.loads((Path(standin.__file__).parent / "slicer_5_12.json").read_text())["behaviour"]


@pytest.fixture
def qt(slicer_gui: Any) -> Any:  # noqa: ARG001
    import qt

    return qt


@pytest.fixture
def ctk(slicer_gui: Any) -> Any:  # noqa: ARG001
    import ctk

    return ctk


def volume(name: str) -> Any:
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)


def test_properties_are_values_and_setters_work_too(qt):
    button = qt.QPushButton()
    button.text = "x"
    assert button.text == "x"
    button.setText("y")
    assert button.text == "y"
    assert button.enabled is True
    assert button.isEnabled() is True
    with pytest.raises(TypeError, match="not callable"):
        button.text()


def test_unknown_names_are_errors_when_read_and_when_set(qt):
    button = qt.QPushButton()
    with pytest.raises(AttributeError, match=STATED["btn.unknownThing"].partition(": ")[2]):
        _ = button.unknownThing
    with pytest.raises(AttributeError, match="creating new attributes on C"):
        button.unknownThing = 1


def test_keyword_arguments_are_refused(qt):
    button = qt.QPushButton()
    with pytest.raises(ValueError, match="keyword arguments"):
        button.setText(text="z")
    with pytest.raises(ValueError, match="keyword arguments"):
        qt.QPushButton(text="z")


def test_keyword_arguments_are_refused_by_connections_too(qt):
    button = qt.QPushButton()
    for connect in (button.connect, button.disconnect):
        with pytest.raises(TypeError, match="keyword"):
            connect(signal="clicked()", slot=print)
    with pytest.raises(TypeError, match="keyword"):
        button.clicked.connect(slot=print)


def test_an_object_is_of_its_class_and_of_those_above(qt, ctk):
    button = qt.QPushButton()
    assert isinstance(button, qt.QPushButton)
    assert isinstance(button, qt.QAbstractButton)
    assert isinstance(button, qt.QWidget)
    assert not isinstance(button, qt.QLabel)
    assert not isinstance("button", qt.QWidget)
    assert isinstance(ctk.ctkCollapsibleButton(), qt.QWidget)

    class Mine(qt.QWidget):
        pass

    assert isinstance(Mine(), qt.QWidget)
    assert not isinstance(qt.QWidget(), Mine)


def test_both_ways_to_connect_and_slots_with_fewer_arguments(qt):
    button, calls = qt.QPushButton(), []
    assert button.connect("clicked(bool)", lambda: calls.append("none"))
    assert button.connect("clicked(bool)", lambda checked: calls.append(checked))
    assert button.connect("nosuch()", print) is False
    button.clicked.connect(lambda: calls.append("signal"))
    button.click()
    assert calls == ["none", False, "signal"]


def test_a_slot_can_be_disconnected(qt):
    button, calls = qt.QPushButton(), []
    slot = lambda: calls.append(1)  # noqa: E731
    button.connect("clicked()", slot)
    assert button.disconnect("clicked()", slot)
    button.click()
    assert calls == []


def test_an_error_in_a_slot_goes_to_the_excepthook(qt, monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: seen.append(error[0].__name__))
    button = qt.QPushButton()
    button.connect("clicked()", lambda: int("x"))
    button.click()
    assert seen == ["ValueError"]


def test_enums_are_ints(qt):
    assert qt.Qt.AlignCenter == 132
    assert isinstance(qt.QHeaderView.Stretch, int)
    assert qt.QSizePolicy.Expanding == 7
    label = qt.QLabel()
    label.setAlignment(qt.Qt.AlignCenter)
    assert label.alignment == 132


def test_a_combo_box(qt):
    combo = qt.QComboBox()
    combo.addItem("a", "userdata")
    combo.addItem("b")
    assert (combo.currentText, combo.currentData, combo.currentIndex, combo.count) == ("a", "userdata", 0, 2)
    assert combo.itemData(0) == "userdata"


def test_a_table(qt):
    table = qt.QTableWidget()
    table.setRowCount(2)
    table.setColumnCount(1)
    assert table.rowCount == 2
    with pytest.raises(TypeError, match="not callable"):
        table.rowCount()
    table.setItem(0, 0, qt.QTableWidgetItem("x"))
    assert table.item(0, 0).text() == "x"


def test_names_and_classes(qt):
    widget = qt.QWidget()
    widget.name = "abc"
    assert (widget.name, widget.objectName, widget.className()) == ("abc", "abc", "QWidget")


def test_a_subclass_may_hold_attributes(qt):
    class Mine(qt.QWidget):
        pass

    mine = Mine()
    mine.extra = 1
    assert mine.extra == 1


def test_a_process(qt, process_events_until):
    process = qt.QProcess()
    out, ends = [], []
    assert process.connect("readyReadStandardOutput()", lambda: out.append(process.readAllStandardOutput().data()))
    assert process.connect("finished(int,QProcess::ExitStatus)", lambda code, status: ends.append((code, status)))
    process.start(sys.executable, ["-c", "print(input())"])
    assert process.waitForStarted(10000)
    assert process.write(b"hello\n") == 6
    process.closeWriteChannel()
    process_events_until(lambda: ends, 20)
    assert b"".join(out) == b"hello\n"
    assert ends == [(0, 0)]
    assert process.processId() == 0
    assert process.state() == 0


def selector(*, none: bool) -> Any:
    combo = slicer.qMRMLNodeComboBox()
    combo.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    combo.noneEnabled = none
    return combo


def test_node_types_read_as_a_tuple():
    assert selector(none=True).nodeTypes == ("vtkMRMLScalarVolumeNode",)


def test_a_selector_takes_the_first_node_when_it_gets_the_scene_unless_none_is_allowed():
    volume("V1")
    with_none, without = selector(none=True), selector(none=False)
    with_none.setMRMLScene(slicer.mrmlScene)
    without.setMRMLScene(slicer.mrmlScene)
    assert with_none.currentNode() is None
    assert without.currentNode().GetName() == "V1"


def test_a_later_node_is_never_selected_by_itself():
    for combo in (selector(none=True), selector(none=False)):
        combo.setMRMLScene(slicer.mrmlScene)
        node = volume("later")
        assert combo.currentNode() is None
        slicer.mrmlScene.RemoveNode(node)


def test_a_selector_goes_to_the_next_node_when_its_own_is_removed_and_to_none_when_the_scene_is_cleared():
    first, second = volume("V1"), volume("V2")
    combo, seen = selector(none=False), []
    combo.setMRMLScene(slicer.mrmlScene)
    assert combo.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: seen.append(node and node.GetName()))
    combo.setCurrentNode(second)
    slicer.mrmlScene.RemoveNode(second)
    assert combo.currentNode() is first
    slicer.mrmlScene.Clear(0)
    assert combo.currentNode() is None
    assert seen == ["V2", "V1", None]


def test_ticked_nodes():
    combo = slicer.qMRMLCheckableNodeComboBox()
    combo.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    combo.setMRMLScene(slicer.mrmlScene)
    nodes, changes = [volume("a"), volume("b")], []
    assert combo.connect("checkedNodesChanged()", lambda: changes.append(1))
    combo.setCheckState(nodes[1], 2)
    assert list(combo.checkedNodes()) == [nodes[1]]
    assert changes == [1]


def test_ctk_widgets(ctk):
    section = ctk.ctkCollapsibleButton()
    section.collapsed = True
    assert section.collapsed is True
    line = ctk.ctkPathLineEdit()
    line.currentPath = "/x"
    assert line.currentPath == "/x"
    assert isinstance(ctk.ctkPathLineEdit.Files, int)


def test_pyside_keeps_its_references(slicer_gui, qt):
    """Before Python 3.12, a version that drops one per call aborts the interpreter after minutes of `processEvents`."""
    button = qt.QPushButton()
    before = [sys.getrefcount(constant) for constant in (None, True)]
    for _ in range(100):
        slicer_gui.processEvents()
        button.toggled.emit(True)
    after = [sys.getrefcount(constant) for constant in (None, True)]
    assert all(late > early - 50 for early, late in zip(before, after, strict=True))


def test_widgets_that_do_not_exist_cannot_be_made(qt, ctk):
    for owner, name in ((qt, "QPushButtton"), (ctk, "ctkCollapsible"), (slicer, "qMRMLNodeCombo")):
        with pytest.raises(AttributeError):
            getattr(owner, name)


@pytest.mark.parametrize("name", [*standin.MRML_WIDGETS, *standin.CTK_WIDGETS])
def test_nothing_is_made_up(name, ctk):
    """Whatever the stand-in's own widgets offer, Slicer's have."""
    owner = slicer if name in standin.MRML_WIDGETS else ctk
    facts = getattr(owner, name).facts
    kind = {**standin.MRML_WIDGETS, **standin.CTK_WIDGETS}[name]
    qt_names = {
        attribute
        for base in kind.__mro__
        if base.__module__.startswith(("PySide6", "Shiboken"))
        for attribute in vars(base)
    }
    offered = {attribute for base in kind.__mro__ if base.__module__.startswith("Testing") for attribute in vars(base)}
    offered = {attribute for attribute in offered - qt_names if not attribute.startswith("_") and attribute != "HEADER"}
    known = {*facts["names"], *(entry[0] for entry in facts["properties"]), "staticMetaObject"}
    known |= {signal.partition("(")[0] for signal in facts["signals"]}
    assert offered <= known


def test_parameters_live_in_the_scene(slicer_gui):  # noqa: ARG001
    from slicer.parameterNodeWrapper import parameterNodeWrapper

    @parameterNodeWrapper
    class Sample:
        volume: slicer.vtkMRMLScalarVolumeNode
        text: str = "default"
        number: float = 0.5
        flag: bool = True

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    sample, again = Sample(node), Sample(node)
    assert (sample.volume, sample.text, sample.number, sample.flag) == (None, "default", 0.5, True)
    sample.volume, sample.text, sample.number, sample.flag = volume("v"), "", 0.25, False
    assert (again.volume.GetName(), again.text, again.number, again.flag) == ("v", "", 0.25, False)
