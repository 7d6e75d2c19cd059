"""Every widget, property, signal and slot that a .ui file names exists in a running Slicer 5.12.

Qt only prints a warning about a property it does not know, and about a connection it cannot make.
"""

from __future__ import annotations

import ast
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
UI_FILES = sorted([*(HERE.parents[1] / "MAESegment").rglob("*.ui"), *(HERE / "sample_module").rglob("*.ui")])
FACTS: dict[str, dict[str, Any]] = {
    name.partition(".")[2]: facts
    for name, facts in json.loads((HERE / "standin" / "slicer_5_12.json").read_text())["classes"].items()
}
#: What is no property of the class: read by Slicer's parameter nodes, and by Qt's loader itself.
_OTHER_READERS = {"SlicerParameterName", "buddy"}
#: Designer's names for the four sides of a layout's margins.
_LAYOUT = {"leftMargin", "topMargin", "rightMargin", "bottomMargin", "horizontalSpacing", "verticalSpacing"}
#: How a table's .ui entry describes its headers.
_TABLE_ATTRIBUTES = {f"{side}Header{what}" for side in ("horizontal", "vertical") for what in
                     ("Visible", "CascadingSectionResizes", "DefaultSectionSize", "MinimumSectionSize",
                      "HighlightSections", "ShowSortIndicator", "StretchLastSection")}  # fmt: skip


def widgets_of(tree: ET.ElementTree[ET.Element]) -> list[ET.Element]:
    return [node for kind in ("widget", "layout") for node in tree.iter(kind)]


def properties_of(class_name: str) -> set[str]:
    names = {entry[0] for entry in FACTS[class_name]["properties"]} | {"objectName"}
    if "Layout" in class_name:
        return names | _LAYOUT
    return names | {entry[0] for entry in FACTS["QWidget"]["properties"]}


@pytest.fixture(params=UI_FILES, ids=lambda path: path.name)
def tree(request: pytest.FixtureRequest) -> ET.ElementTree[ET.Element]:
    return ET.parse(request.param)


def test_every_class_was_read_from_slicer(tree):
    assert {node.get("class") for node in widgets_of(tree)} <= set(FACTS)


def test_every_property_exists(tree):
    wrong = [
        f"{node.get('name')}: {node.get('class')} has no property {name}"
        for node in widgets_of(tree)
        for name in (str(one.get("name")) for one in node.findall("property"))
        if name not in properties_of(str(node.get("class"))) | _OTHER_READERS
    ]
    assert not wrong


def test_every_attribute_is_one_that_qt_reads(tree):
    attributes = {one.get("name") for node in widgets_of(tree) for one in node.findall("attribute")}
    assert attributes <= _TABLE_ATTRIBUTES


def test_names_are_unique(tree):
    names = [node.get("name") for node in widgets_of(tree)]
    assert len(names) == len(set(names))


def test_every_connection_can_be_made(tree):
    classes = {node.get("name"): str(node.get("class")) for node in widgets_of(tree)}
    for connection in tree.iter("connection"):
        sender, receiver = (classes[connection.findtext(end)] for end in ("sender", "receiver"))
        signal, slot = str(connection.findtext("signal")), str(connection.findtext("slot"))
        assert signal in {*FACTS[sender]["signals"], *FACTS["QWidget"]["signals"]}
        assert slot.partition("(")[0] in {*FACTS[receiver]["names"], *FACTS["QWidget"]["names"]}


def test_every_node_selector_gets_the_scene(tree):
    """Without it a selector stays empty, and says nothing."""
    selectors = {str(node.get("name")) for node in tree.iter("widget") if "NodeComboBox" in str(node.get("class"))}
    connected = {
        str(connection.findtext("receiver"))
        for connection in tree.iter("connection")
        if str(connection.findtext("slot")) == "setMRMLScene(vtkMRMLScene*)"
    }
    assert selectors <= connected


def test_every_buddy_exists(tree):
    names = {node.get("name") for node in tree.iter("widget")}
    buddies = {
        one.findtext("cstring")
        for node in tree.iter("widget")
        for one in node.findall("property")
        if one.get("name") == "buddy"
    }
    assert buddies <= names


def uses_of_widgets() -> list[tuple[str, str, str]]:
    """(where, widget, name): every `ui.widget.name` in the source, in branches that no test enters, too."""
    found = []
    for path in sorted((HERE.parents[1] / "MAESegment").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute):
                owner = node.value.value
                if (isinstance(owner, ast.Name) and owner.id == "ui") or (
                    isinstance(owner, ast.Attribute) and owner.attr in ("ui", "_ui")
                ):
                    found.append((f"{path.name}:{node.lineno}", node.value.attr, node.attr))
    return found


def test_the_module_uses_only_what_its_widgets_have():
    tree = ET.parse(HERE.parents[1] / "MAESegment" / "Resources" / "UI" / "MAESegment.ui")
    classes = {node.get("name"): str(node.get("class")) for node in widgets_of(tree)}
    uses = uses_of_widgets()
    wrong = []
    for where, widget, name in uses:
        if widget not in classes:
            wrong.append(f"{where}: there is no {widget}")
            continue
        kind = classes[widget]
        signals = {signal.partition("(")[0] for signal in FACTS[kind]["signals"]}
        if name not in {*FACTS[kind]["names"], *FACTS["QWidget"]["names"], *signals} | properties_of(kind):
            wrong.append(f"{where}: {kind} {widget} has no {name}")
    assert len(uses) > 50, "the panel no longer says ui.widget.name: this test looks at nothing"
    assert not wrong
