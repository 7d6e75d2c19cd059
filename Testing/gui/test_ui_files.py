"""Every widget, property, signal and slot that the .ui file names exists in a running Slicer 5.12, and the panel can be
used without a mouse.

Qt only prints a warning about a property it does not know, and about a connection it cannot make.
"""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree as ET
from collections import Counter

from Testing.gui.panel_fixtures import UI_FILE
from Testing.gui.standin import FACTS, to_qt
from Testing.skips import REPOSITORY

TREE = ET.parse(UI_FILE)
WIDGETS = [*TREE.iter("widget")]
#: Name -> class, of widgets and layouts.
CLASSES = {str(node.get("name")): str(node.get("class")) for kind in ("widget", "layout") for node in TREE.iter(kind)}
CLASS_FACTS = {name.partition(".")[2]: facts for name, facts in FACTS.items()}
#: What is not a property of the class: read by Slicer's parameter nodes, and by Qt's loader itself.
_OTHER_READERS = {"SlicerParameterName", "buddy"}
#: Designer's names for the four sides of a layout's margins.
_LAYOUT = {"leftMargin", "topMargin", "rightMargin", "bottomMargin", "horizontalSpacing", "verticalSpacing"}
#: How a table's .ui entry describes its headers.
_TABLE_ATTRIBUTES = {f"{side}Header{what}" for side in ("horizontal", "vertical") for what in
                     ("Visible", "CascadingSectionResizes", "DefaultSectionSize", "MinimumSectionSize",
                      "HighlightSections", "ShowSortIndicator", "StretchLastSection")}  # fmt: skip


def properties_of(class_name: str) -> set[str]:
    names = {entry[0] for entry in CLASS_FACTS[class_name]["properties"]} | {"objectName"}
    if "Layout" in class_name:
        return names | _LAYOUT
    return names | {entry[0] for entry in CLASS_FACTS["QWidget"]["properties"]}


def known(class_name: str, what: str) -> set[str]:
    return {*CLASS_FACTS[class_name][what], *CLASS_FACTS["QWidget"][what]}


def text_of(widget: ET.Element) -> str:
    return widget.findtext("./property[@name='text']/string") or ""


def test_every_class_and_property_was_read_from_slicer_and_names_are_unique():
    assert set(CLASSES.values()) <= set(CLASS_FACTS)
    nodes = [node for kind in ("widget", "layout") for node in TREE.iter(kind)]
    assert len(nodes) == len(CLASSES)
    wrong = [
        f"{node.get('name')}: {node.get('class')} has no property {name}"
        for node in nodes
        for name in (str(one.get("name")) for one in node.findall("property"))
        if name not in properties_of(str(node.get("class"))) | _OTHER_READERS
    ]
    assert not wrong
    assert {one.get("name") for node in nodes for one in node.findall("attribute")} <= _TABLE_ATTRIBUTES
    assert "styleSheet" not in UI_FILE.read_text()


def test_every_connection_can_be_made_and_every_node_selector_gets_the_scene():
    connected = set()
    for connection in TREE.iter("connection"):
        sender, receiver = (CLASSES[str(connection.findtext(end))] for end in ("sender", "receiver"))
        signal, slot = str(connection.findtext("signal")), str(connection.findtext("slot"))
        assert signal in known(sender, "signals")
        assert slot.partition("(")[0] in known(receiver, "names")
        if slot == "setMRMLScene(vtkMRMLScene*)":
            connected.add(connection.findtext("receiver"))
    # Without it a selector stays empty, and says nothing.
    assert {name for name, kind in CLASSES.items() if "NodeComboBox" in kind} <= connected


def uses_of_widgets() -> list[tuple[str, str, str]]:
    """(where, widget, name): every `ui.widget.name` in the source, in branches that no test enters, too."""
    found = []
    for path in sorted((REPOSITORY / "MAESegment").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute):
                owner = ast.unparse(node.value.value)
                if owner.split(".")[-1] in ("ui", "_ui"):
                    found.append((f"{path.name}:{node.lineno}", node.value.attr, node.attr))
    return found


def test_the_module_uses_only_what_its_widgets_have():
    uses = uses_of_widgets()
    wrong = []
    for where, widget, name in uses:
        kind = CLASSES.get(widget)
        if kind is None:
            wrong.append(f"{where}: there is no {widget}")
            continue
        signals = {signal.partition("(")[0] for signal in CLASS_FACTS[kind]["signals"]}
        if name not in known(kind, "names") | signals | properties_of(kind):
            wrong.append(f"{where}: {kind} {widget} has no {name}")
    assert len(uses) > 50, "the panel no longer says ui.widget.name: this test looks at nothing"
    assert not wrong


# Without a mouse ------------------------------------------------------------------------------------------------------


def test_no_two_texts_share_a_mnemonic():
    found = Counter(letter.lower() for widget in WIDGETS for letter in re.findall("&(.)", text_of(widget)))
    assert [letter for letter, count in found.items() if count > 1] == []
    assert not set(found) & set("feahv"), "these open menus of Slicer's window, or are Cancel's"


def test_every_label_of_a_field_leads_to_it():
    buddies = {widget.get("name"): widget.findtext("./property[@name='buddy']/cstring") for widget in WIDGETS}
    labels = [one.get("name") for one in WIDGETS if one.get("class") == "QLabel" and text_of(one).endswith(":")]
    assert [name for name in labels if buddies[name] is None] == []
    assert {buddy for buddy in buddies.values() if buddy} <= set(CLASSES)


def test_tab_order_names_every_widget_that_takes_the_keyboard():
    interactive = {"QPushButton", "QToolButton", "QComboBox", "QCheckBox", "qMRMLNodeComboBox", "ctkPathLineEdit"}
    order = [stop.text for stop in TREE.iter("tabstop")]
    assert {name for name, kind in CLASSES.items() if kind in interactive} <= set(order)
    assert len(order) == len(set(order))


def test_enter_presses_the_button_that_has_the_focus(fake_logic, ui, volume):  # noqa: ARG001
    from PySide6 import QtCore, QtTest

    buttons = [widget for widget in WIDGETS if widget.get("class") == "QPushButton"]
    assert all(widget.find("./property[@name='autoDefault']/bool") is not None for widget in buttons)
    QtTest.QTest.keyClick(to_qt(ui.segmentButton), QtCore.Qt.Key.Key_Return)
    assert len(fake_logic.jobs) == 1


def test_disabled_buttons_say_what_is_missing(panel, ui):  # noqa: ARG001
    for button in (ui.segmentButton, ui.batchButton, ui.framesButton):
        assert not button.enabled
        assert button.toolTip
