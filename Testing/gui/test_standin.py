"""The stand-in behaves as a running Slicer 5.12 said it behaves (`standin/slicer_5_12.json`)."""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import slicer

from Testing.gui import standin
from Testing.skips import REPOSITORY

pytestmark = pytest.mark.usefixtures("slicer_gui")

STATED: dict[str, str] = json.loads((Path(standin.__file__).parent / "slicer_5_12.json").read_text())["behaviour"]
ICON = REPOSITORY / "MAESegment" / "Resources" / "Icons" / "MAESegment.png"
#: C++'s name of a method is not known here.
SIGNATURE = "Called .* with"


class Lazy:
    """`qt` and `ctk` are there once the stand-in is installed."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.modules[self._name], name)


qt, ctk = Lazy("qt"), Lazy("ctk")


def volume(name: str) -> Any:
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)


def button() -> Any:
    return qt.QPushButton()


def table() -> Any:
    made = qt.QTableWidget()
    made.setRowCount(2)
    made.setColumnCount(1)
    made.setItem(0, 0, qt.QTableWidgetItem("x"))
    return made


def combo() -> Any:
    made = qt.QComboBox()
    made.addItem("a", "userdata")
    made.addItem("b")
    return made


def selector(types: Any = ("vtkMRMLScalarVolumeNode",), *, none: bool = False, scene: bool = True) -> Any:
    made = slicer.qMRMLNodeComboBox()
    made.nodeTypes = types
    made.noneEnabled = none
    if scene:
        made.setMRMLScene(slicer.mrmlScene)
    return made


def filled(name: str, *, none: bool = False) -> Any:
    volume(name)
    return selector(none=none)


def name_of(node: Any) -> str | None:
    return node.GetName() if node is not None else None


def after(made: Any, name: str, value: Any) -> Any:
    """What a property reads once it was set."""
    setattr(made, name, value)
    return getattr(made, name)


def then(made: Any, act: Callable[[Any], Any], read: Callable[[Any], Any]) -> Any:
    act(made)
    return read(made)


def said(action: Callable[[], Any]) -> str:
    """`Error: message`, as the facts have it."""
    try:
        action()
    except Exception as error:
        return re.sub(SIGNATURE, "Called it with", f"{type(error).__name__}: {error}")
    return "nothing was raised"


def written(data: str | bytes) -> int:
    """A child that reads until its input ends, and gets `data`."""
    process = qt.QProcess()
    process.start(sys.executable, ["-c", "import sys; sys.stdin.read()"])
    assert process.waitForStarted(20000)
    try:
        return process.write(data)
    finally:
        process.closeWriteChannel()
        assert process.waitForFinished(20000)


def process_signals() -> list[str]:
    process = qt.QProcess()
    return [name for name in ast.literal_eval(STATED["QProcess signals"]) if hasattr(process, name)]


#: Whatever was tried in a running Slicer, tried here.
TRIED: dict[str, Callable[[], Any]] = {
    "btn.text = 'x'; btn.text": lambda: after(button(), "text", "x"),
    "btn.setText('y'); btn.text": lambda: then(button(), lambda b: b.setText("y"), lambda b: b.text),
    "btn.text()": lambda: said(lambda: button().text()),
    "btn.isEnabled()": lambda: button().isEnabled(),
    "btn.enabled": lambda: button().enabled,
    "btn.unknownThing": lambda: said(lambda: button().unknownThing),
    "btn.unknownThing = 1": lambda: said(lambda: setattr(button(), "unknownThing", 1)),
    "connect('clicked(bool)', f)": lambda: button().connect("clicked(bool)", print),
    "connect('nosuch()', f)": lambda: button().connect("nosuch()", print),
    "clicked.connect(f)": lambda: button().clicked.connect(print),
    "keyword argument btn.setText(text='z')": lambda: said(lambda: button().setText(text="z")),
    "qt.Qt.AlignCenter": lambda: qt.Qt.AlignCenter,
    "qt.QMessageBox.Ok": lambda: qt.QMessageBox.Ok,
    "qt.QSizePolicy.Expanding": lambda: qt.QSizePolicy.Expanding,
    "QComboBox.currentText": lambda: combo().currentText,
    "QComboBox.currentData": lambda: combo().currentData,
    "QComboBox.currentIndex": lambda: combo().currentIndex,
    "QComboBox.count": lambda: combo().count,
    "QComboBox.itemData(0)": lambda: combo().itemData(0),
    "QTimer.isActive()": lambda: qt.QTimer().isActive(),
    "QTimer.active": lambda: qt.QTimer().active,
    "QTimer.singleShot(0, f)": lambda: qt.QTimer.singleShot(0, lambda: None),
    "QWidget.name": lambda: after(qt.QWidget(), "name", "abc"),
    "QWidget.objectName": lambda: then(qt.QWidget(), lambda w: w.setObjectName("abc"), lambda w: w.objectName),
    "className()": lambda: qt.QWidget().className(),
    "nodeTypes after list": lambda: selector(["vtkMRMLScalarVolumeNode"]).nodeTypes,
    "tuple arg for nodeTypes": lambda: selector(("vtkMRMLSegmentationNode",)).nodeTypes,
    "no node of the type: current": lambda: selector().currentNode(),
    "first node of the type appears: current": lambda: then(
        selector(), lambda _selector: volume("first"), lambda selector: selector.currentNode()
    ),
    "currentNode() after setMRMLScene with one volume": lambda: name_of(filled("V").currentNode()),
    "noneEnabled=False, scene set with one node: current": lambda: name_of(filled("V1").currentNode()),
    "noneEnabled=True, scene set with one node: current": lambda: name_of(filled("V1", none=True).currentNode()),
    "currentNode attribute is callable": lambda: callable(filled("V").currentNode),
    "currentNodeID": lambda: filled("V").currentNodeID,
    "setCurrentNodeID('')": lambda: then(
        filled("V", none=True), lambda s: s.setCurrentNodeID(""), lambda s: (s.currentNode(), name_of(s.currentNode()))
    ),
    "setCurrentNode(None)": lambda: then(filled("V"), lambda s: s.setCurrentNode(None), lambda s: s.currentNode()),
    "ctkPathLineEdit.currentPath": lambda: after(ctk.ctkPathLineEdit(), "currentPath", "/x"),
    "ctkCollapsibleButton.collapsed": lambda: after(ctk.ctkCollapsibleButton(), "collapsed", True),
    "QTableWidgetItem.text()": lambda: table().item(0, 0).text(),
    "QTableWidget.rowCount": lambda: table().rowCount,
    "QTableWidget.rowCount()": lambda: said(lambda: table().rowCount()),
    # Whether the pixmap is null: it takes the bytes of a PNG.
    "pixmap from bytes": lambda: then(
        qt.QPixmap(), lambda pixmap: pixmap.loadFromData(ICON.read_bytes()), lambda pixmap: pixmap.isNull()
    ),
    "QProcess.state()": lambda: qt.QProcess().state(),
    "QProcess signals": process_signals,
    "QProcess.write(str)": lambda: written("x"),
    "writeData / write(bytes)": lambda: written(b"x"),
    "qt.QByteArray(b'x').data()": lambda: qt.QByteArray(b"x").data(),
    "slicer.util.VTKObservationMixin": lambda: hasattr(slicer.util, "VTKObservationMixin"),
    "slicer.app.temporaryPath": lambda: type(slicer.app.temporaryPath),
    "slicer.app.testingEnabled()": lambda: slicer.app.testingEnabled(),
    "parameterNodeWrapper": lambda: inspect.isfunction(slicer.parameterNodeWrapper.parameterNodeWrapper),
}
#: Of the application or of libraries that tests bring along, or of widgets that the module does not use.
NOT_TRIED = {
    "one step at a time, below": [
        *("after adding a second node: none-enabled / not", "after setCurrentNode(V2)", "sys.excepthook saw"),
        *("after removing the current node", "after scene Clear: current", "QProcess start python -c"),
        *("QProcess write/read/close loop", "QProcess.processId()", "zero-argument slot on clicked(bool)"),
        *("exception in a slot reaches the caller of click()", "Python subclass of a Qt class may hold attributes"),
    ],
    "the hook had not been set when this was tried": ["sys.excepthook called for slot errors"],
    "how it was tried is not known": ["nodeTypes via string list attr wrong type"],
    "names come from the application's selector": ["addNode()"],
    "a class of PySide6 here": ["readAllStandardOutput type", "QProcessEnvironment"],
    "only with SLICER_PYTHON_SOURCE; the tests of installing bring their own": ["slicer.packaging import"],
    "in memory here": ["slicer.app.settings()", "slicer.app.userSettings()"],
    "there is no main window here": ["slicer.app.commandOptions().noMainWindow", "slicer.util.mainWindow()"],
    "tests of MRML": ["subject hierarchy node"],
    "CTK's default filters; the module sets its own": ["ctkPathLineEdit.filters int"],
    "not used": [
        *("slicer.util.launchConsoleProcess signature", "launchConsoleProcess(['echo','x'])", "segmentCount"),
        *("qMRMLSegmentsTableView.selectedSegmentIDs()", "qMRMLSegmentSelectorWidget.currentSegmentID()"),
    ],
}


def test_nothing_that_was_tried_is_forgotten():
    not_tried = [what for several in NOT_TRIED.values() for what in several]
    assert sorted(STATED) == sorted([*TRIED, *not_tried])


@pytest.mark.parametrize("what", TRIED)
def test_the_stand_in_does_what_slicer_did(what):
    found = TRIED[what]()
    wanted = re.sub(SIGNATURE, "Called it with", STATED[what])
    # Error messages were noted as they are, everything else as repr.
    assert wanted in (found, repr(found))


def test_keyword_arguments_are_refused_by_constructors_and_connections_too():
    with pytest.raises(ValueError, match="keyword arguments"):
        qt.QPushButton(text="z")
    one = button()
    for connect in (one.connect, one.disconnect, one.clicked.connect):
        with pytest.raises(TypeError, match="keyword"):
            connect(signal="clicked()", slot=print)


def test_an_object_is_of_its_class_and_of_those_above():
    class Mine(qt.QWidget):
        pass

    one, mine = button(), Mine()
    assert all(isinstance(one, kind) for kind in (qt.QPushButton, qt.QAbstractButton, qt.QWidget))
    assert not isinstance(one, (qt.QLabel, Mine))
    assert not isinstance("button", qt.QWidget)
    assert isinstance(ctk.ctkCollapsibleButton(), qt.QWidget)
    assert isinstance(mine, qt.QWidget)
    assert after(mine, "extra", 1) == 1, "a subclass may hold attributes"


def test_both_ways_to_connect_slots_with_fewer_arguments_and_disconnecting():
    one, calls = button(), []
    slot = lambda: calls.append("gone")  # noqa: E731
    assert one.connect("clicked(bool)", lambda: calls.append("none"))
    assert one.connect("clicked(bool)", lambda checked: calls.append(checked))
    one.clicked.connect(lambda: calls.append("signal"))
    assert one.connect("clicked()", slot)
    assert one.disconnect("clicked()", slot)
    one.click()
    assert calls == ["none", False, "signal"]


def test_an_error_in_a_slot_goes_to_the_excepthook(monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: seen.append(error[0].__name__))
    one = button()
    one.connect("clicked()", lambda: int("x"))
    one.click()
    assert seen == ["ValueError"]


def test_a_dialog_that_nobody_expects_is_noted():
    slicer.util.errorDisplay("boom")
    assert standin.dialogs.unexpected == ["errorDisplay: boom"]
    standin.dialogs.unexpected.clear()


def test_enums_are_ints_also_where_they_are_set():
    assert isinstance(qt.QHeaderView.Stretch, int)
    assert isinstance(ctk.ctkPathLineEdit.Files, int)
    assert then(qt.QLabel(), lambda label: label.setAlignment(qt.Qt.AlignCenter), lambda label: label.alignment) == 132


def test_a_process(process_events_until):
    process = qt.QProcess()
    out, ends = [], []
    assert process.connect("readyReadStandardOutput()", lambda: out.append(process.readAllStandardOutput().data()))
    assert process.connect("finished(int,QProcess::ExitStatus)", lambda code, status: ends.append((code, status)))
    process.start(sys.executable, ["-c", "print(input())"])
    assert process.waitForStarted(10000)
    assert process.write(b"hello\n") == 6
    process.closeWriteChannel()
    process_events_until(lambda: ends, 20)
    assert (b"".join(out), ends) == (b"hello\n", [(0, 0)])
    assert process.processId() == process.state() == 0


def test_a_selector_goes_to_the_next_node_when_its_own_is_removed_and_to_none_when_the_scene_is_cleared():
    first, second = volume("V1"), volume("V2")
    one, seen = selector(scene=False), []
    one.setMRMLScene(slicer.mrmlScene)
    assert one.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: seen.append(name_of(node)))
    one.setCurrentNode(second)
    slicer.mrmlScene.RemoveNode(second)
    assert one.currentNode() is first
    slicer.mrmlScene.Clear(0)
    assert one.currentNode() is None
    assert seen == ["V2", "V1", None]


def test_ticked_nodes():
    one = slicer.qMRMLCheckableNodeComboBox()
    one.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    one.setMRMLScene(slicer.mrmlScene)
    nodes, changes = [volume("a"), volume("b")], []
    assert one.connect("checkedNodesChanged()", lambda: changes.append(1))
    one.setCheckState(nodes[1], 2)
    assert (list(one.checkedNodes()), changes) == ([nodes[1]], [1])


def test_pyside_keeps_its_references(slicer_gui):
    """Before Python 3.12, a version that drops one per call aborts the interpreter after minutes of `processEvents`."""
    one = button()
    before = [sys.getrefcount(constant) for constant in (None, True)]
    for _ in range(100):
        slicer_gui.processEvents()
        one.toggled.emit(True)
    after_calls = [sys.getrefcount(constant) for constant in (None, True)]
    assert all(late > early - 50 for early, late in zip(before, after_calls, strict=True))


def test_widgets_that_do_not_exist_cannot_be_made():
    for owner, name in ((qt, "QPushButtton"), (ctk, "ctkCollapsible"), (slicer, "qMRMLNodeCombo")):
        with pytest.raises(AttributeError):
            getattr(owner, name)


@pytest.mark.parametrize("name", [*standin.MRML_WIDGETS, *standin.CTK_WIDGETS])
def test_nothing_is_made_up(name):
    """Whatever the stand-in's own widgets offer, Slicer's have."""
    facts = getattr(slicer if name in standin.MRML_WIDGETS else ctk, name).facts
    kind = {**standin.MRML_WIDGETS, **standin.CTK_WIDGETS}[name]
    of_qt, ours = set(), set()
    for base in kind.__mro__:
        if base.__module__.startswith(("PySide6", "Shiboken")):
            of_qt |= {*vars(base)}
        elif base.__module__.startswith("Testing"):
            ours |= {attribute for attribute in vars(base) if not attribute.startswith("_")}
    known = {*facts["names"], *(entry[0] for entry in facts["properties"]), "staticMetaObject", "HEADER"}
    assert ours - of_qt <= known | {signal.partition("(")[0] for signal in facts["signals"]}


def test_parameters_live_in_the_scene():
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
