"""Every behaviour that was tried in a running Slicer 5.12 is asserted of the stand-in, or it is said why it is not."""

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

pytestmark = pytest.mark.usefixtures("slicer_gui")

STATED: dict[str, str] = json.loads((Path(standin.__file__).parent / "slicer_5_12.json").read_text())["behaviour"]
ICON = Path(__file__).resolve().parents[2] / "MAESegment" / "Resources" / "Icons" / "MAESegment.png"
#: C++'s name of a method is not known here.
SIGNATURE = "Called .* with"
TRIED: dict[str, Callable[[], Any]] = {}

#: Of the application or of libraries that tests bring along, or of widgets that the module does not use.
NOT_OURS = {
    "after adding a second node: none-enabled / not": "test_standin.py, one step at a time",
    "after setCurrentNode(V2)": "test_standin.py",
    "after removing the current node": "test_standin.py",
    "after scene Clear: current": "test_standin.py",
    "QProcess start python -c": "test_standin.py",
    "QProcess write/read/close loop": "test_standin.py",
    "QProcess.processId()": "test_standin.py",
    "zero-argument slot on clicked(bool)": "test_standin.py",
    "exception in a slot reaches the caller of click()": "test_standin.py",
    "sys.excepthook called for slot errors": "the hook had not been set when this was tried; the next one counts",
    "sys.excepthook saw": "test_standin.py",
    "Python subclass of a Qt class may hold attributes": "test_standin.py",
    "nodeTypes via string list attr wrong type": "how it was tried is not known",
    "addNode()": "names come from the application's selector",
    "readAllStandardOutput type": "a class of PySide6 here",
    "QProcessEnvironment": "a class of PySide6 here",
    "slicer.packaging import": "only with SLICER_PYTHON_SOURCE; the tests of installing bring their own",
    "slicer.app.settings()": "in memory here",
    "slicer.app.userSettings()": "in memory here",
    "slicer.app.commandOptions().noMainWindow": "there is no main window here",
    "slicer.util.mainWindow()": "there is no main window here",
    "slicer.util.launchConsoleProcess signature": "not used",
    "launchConsoleProcess(['echo','x'])": "not used",
    "subject hierarchy node": "tests of MRML",
    "qMRMLSegmentsTableView.selectedSegmentIDs()": "not used",
    "segmentCount": "not used",
    "qMRMLSegmentSelectorWidget.currentSegmentID()": "not used",
    "ctkPathLineEdit.filters int": "CTK's default filters; the module sets its own",
}


def tried(what: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    def register(function: Callable[[], Any]) -> Callable[[], Any]:
        TRIED[what] = function
        return function

    return register


def button() -> Any:
    import qt

    return qt.QPushButton()


def said(action: Callable[[], Any]) -> str:
    """`Error: message`, as the facts have it."""
    try:
        action()
    except Exception as error:
        return re.sub(SIGNATURE, "Called it with", f"{type(error).__name__}: {error}")
    return "nothing was raised"


@tried("btn.text = 'x'; btn.text")
def _() -> Any:
    one = button()
    one.text = "x"
    return one.text


@tried("btn.setText('y'); btn.text")
def _() -> Any:
    one = button()
    one.setText("y")
    return one.text


def table() -> Any:
    import qt

    one = qt.QTableWidget()
    one.setRowCount(2)
    return one


def combo() -> Any:
    import qt

    one = qt.QComboBox()
    one.addItem("a", "userdata")
    one.addItem("b")
    return one


def selector(types: Any = ("vtkMRMLScalarVolumeNode",), *, none: bool = False) -> Any:
    one = slicer.qMRMLNodeComboBox()
    one.nodeTypes = types
    one.noneEnabled = none
    return one


def filled(name: str, *, none: bool = False) -> Any:
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    one = selector(none=none)
    one.setMRMLScene(slicer.mrmlScene)
    return one


def name_of(node: Any) -> str | None:
    return node.GetName() if node is not None else None


@tried("no node of the type: current")
def _() -> Any:
    one = selector()
    one.setMRMLScene(slicer.mrmlScene)
    return one.currentNode()


@tried("first node of the type appears: current")
def _() -> Any:
    one = selector()
    one.setMRMLScene(slicer.mrmlScene)
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "first")
    return one.currentNode()


@tried("setCurrentNodeID('')")
def _() -> Any:
    one = filled("V", none=True)
    one.setCurrentNodeID("")
    return (one.currentNode(), name_of(one.currentNode()))


@tried("setCurrentNode(None)")
def _() -> Any:
    one = filled("V")
    one.setCurrentNode(None)
    return one.currentNode()


@tried("QWidget.name")
def _() -> Any:
    import qt

    one = qt.QWidget()
    one.name = "abc"
    return one.name


@tried("QWidget.objectName")
def _() -> Any:
    import qt

    one = qt.QWidget()
    one.setObjectName("abc")
    return one.objectName


@tried("ctkPathLineEdit.currentPath")
def _() -> Any:
    import ctk

    one = ctk.ctkPathLineEdit()
    one.currentPath = "/x"
    return one.currentPath


@tried("ctkCollapsibleButton.collapsed")
def _() -> Any:
    import ctk

    one = ctk.ctkCollapsibleButton()
    one.collapsed = True
    return one.collapsed


@tried("QTableWidgetItem.text()")
def _() -> Any:
    import qt

    one = table()
    one.setColumnCount(1)
    one.setItem(0, 0, qt.QTableWidgetItem("x"))
    return one.item(0, 0).text()


@tried("pixmap from bytes")
def _() -> Any:
    """Whether the pixmap is null: it takes the bytes of a PNG."""
    import qt

    pixmap = qt.QPixmap()
    assert pixmap.loadFromData(ICON.read_bytes())
    return pixmap.isNull()


def _qt() -> Any:
    import qt

    return qt


def _single_shot() -> Any:
    _qt().QTimer.singleShot(0, lambda: None)


def _process(data: str | bytes) -> int:
    """A child that reads until its input ends, and gets `data`."""
    process = _qt().QProcess()
    process.start(sys.executable, ["-c", "import sys; sys.stdin.read()"])
    assert process.waitForStarted(20000)
    try:
        return process.write(data)
    finally:
        process.closeWriteChannel()
        assert process.waitForFinished(20000)


def _process_signals() -> list[str]:
    process = _qt().QProcess()
    names = ast.literal_eval(STATED["QProcess signals"])
    return [name for name in names if hasattr(process, name)]


TRIED.update(
    {
        "btn.text()": lambda: said(lambda: button().text()),
        "btn.isEnabled()": lambda: button().isEnabled(),
        "btn.enabled": lambda: button().enabled,
        "btn.unknownThing": lambda: said(lambda: button().unknownThing),
        "btn.unknownThing = 1": lambda: said(lambda: setattr(button(), "unknownThing", 1)),
        "connect('clicked(bool)', f)": lambda: button().connect("clicked(bool)", print),
        "connect('nosuch()', f)": lambda: button().connect("nosuch()", print),
        "clicked.connect(f)": lambda: button().clicked.connect(print),
        "keyword argument btn.setText(text='z')": lambda: said(lambda: button().setText(text="z")),
        "qt.Qt.AlignCenter": lambda: _qt().Qt.AlignCenter,
        "qt.QMessageBox.Ok": lambda: _qt().QMessageBox.Ok,
        "qt.QSizePolicy.Expanding": lambda: _qt().QSizePolicy.Expanding,
        "QComboBox.currentText": lambda: combo().currentText,
        "QComboBox.currentData": lambda: combo().currentData,
        "QComboBox.currentIndex": lambda: combo().currentIndex,
        "QComboBox.count": lambda: combo().count,
        "QComboBox.itemData(0)": lambda: combo().itemData(0),
        "QTimer.isActive()": lambda: _qt().QTimer().isActive(),
        "QTimer.active": lambda: _qt().QTimer().active,
        "QTimer.singleShot(0, f)": _single_shot,
        "className()": lambda: _qt().QWidget().className(),
        "nodeTypes after list": lambda: selector(["vtkMRMLScalarVolumeNode"]).nodeTypes,
        "tuple arg for nodeTypes": lambda: selector(("vtkMRMLSegmentationNode",)).nodeTypes,
        "currentNode() after setMRMLScene with one volume": lambda: name_of(filled("V").currentNode()),
        "noneEnabled=False, scene set with one node: current": lambda: name_of(filled("V1").currentNode()),
        "noneEnabled=True, scene set with one node: current": lambda: name_of(filled("V1", none=True).currentNode()),
        "currentNode attribute is callable": lambda: callable(filled("V").currentNode),
        "currentNodeID": lambda: filled("V").currentNodeID,
        "QTableWidget.rowCount": lambda: table().rowCount,
        "QTableWidget.rowCount()": lambda: said(lambda: table().rowCount()),
        "QProcess.state()": lambda: _qt().QProcess().state(),
        "QProcess signals": _process_signals,
        "QProcess.write(str)": lambda: _process("x"),
        "writeData / write(bytes)": lambda: _process(b"x"),
        "qt.QByteArray(b'x').data()": lambda: _qt().QByteArray(b"x").data(),
        "slicer.util.VTKObservationMixin": lambda: hasattr(slicer.util, "VTKObservationMixin"),
        "slicer.app.temporaryPath": lambda: type(slicer.app.temporaryPath),
        "slicer.app.testingEnabled()": lambda: slicer.app.testingEnabled(),
        "parameterNodeWrapper": lambda: inspect.isfunction(slicer.parameterNodeWrapper.parameterNodeWrapper),
    }
)


def test_nothing_that_was_tried_is_forgotten():
    assert set(STATED) == set(TRIED) | set(NOT_OURS)
    assert not set(TRIED) & set(NOT_OURS)


@pytest.mark.parametrize("what", TRIED)
def test_the_stand_in_does_what_slicer_did(what):
    found = TRIED[what]()
    wanted = re.sub(SIGNATURE, "Called it with", STATED[what])
    # Error messages were noted as they are, everything else as repr.
    assert wanted in (found, repr(found))
