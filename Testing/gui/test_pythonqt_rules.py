"""Rules that PySide6 does not enforce and PythonQt does, checked in the source of the module."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

MODULE = Path(__file__).resolve().parents[2] / "MAESegment"
FILES = sorted(MODULE.rglob("*.py"))
FACTS = json.loads((Path(__file__).parent / "standin" / "slicer_5_12.json").read_text())["classes"]
#: Methods of Qt objects; Python functions of ours that happen to have such a name take no keywords either.
QT_METHODS = {
    name
    for facts in FACTS.values()
    for name in facts["names"]
    if name.startswith(("set", "add", "insert", "remove")) or name in ("connect", "start", "write", "clear")
} - {"start", "update", "show", "add", "remove", "clear", "setValue", "connect"}

#: Properties that users read.
_SHOWN = ("text", "toolTip", "title")


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def root_name(node: ast.expr) -> str:
    while isinstance(node, (ast.Attribute, ast.Call, ast.Subscript)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def is_qt_call(call: ast.Call) -> bool:
    function = call.func
    if not isinstance(function, ast.Attribute):
        return False
    return root_name(function) in ("qt", "ctk") or function.attr in QT_METHODS


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_keyword_arguments_in_qt_calls(path):
    found = [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and node.keywords and is_qt_call(node)
    ]
    assert not found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_qt_comes_from_slicer(path):
    modules = [
        name
        for node in ast.walk(tree_of(path))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    ]
    assert not [name for name in modules if name.startswith(("PySide", "PyQt", "shiboken"))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_connections_by_name_are_checked(path):
    """A wrong signal name gives False and nothing else."""
    unchecked = [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Attribute)
        and node.value.func.attr == "connect"
    ]
    assert not unchecked


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_is_styled_and_no_dialog_blocks(path):
    calls = {
        node.func.attr
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert not calls & {
        "setStyleSheet",
        "exec_",
        "exec",
        "errorDisplay",
        "warningDisplay",
        "infoDisplay",
        "delayDisplay",
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_texts_of_widgets_are_translatable(path):
    """What is assigned to a widget's text is never a plain sentence."""
    plain = [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Assign)
        and any(
            isinstance(target, ast.Attribute) and target.attr in ("text", "toolTip", "title") for target in node.targets
        )
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        and " " in node.value.value.strip()
    ]
    assert not plain


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_translated_texts_are_filled_in_afterwards(path):
    """`_("...").format()`, not `_("...".format())`: translators see the sentence with its gaps."""
    wrong = [
        f"line {node.lineno}"
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "_"
        and not all(isinstance(argument, ast.Constant) for argument in node.args)
    ]
    assert not wrong


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_timers_and_processes_are_kept(path):
    """PythonQt ends a process or timer that no attribute refers to; the stand-in would let it live."""
    tree = tree_of(path)
    made = {
        id(node.value): [ast.unparse(target) for target in node.targets]
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
    }
    kept = {
        ast.unparse(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Name)
        and any(isinstance(target, ast.Attribute) for target in node.targets)
    }
    lost = [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("qt.QTimer", "qt.QProcess")
        and not any("." in target or target in kept for target in made.get(id(node), []))
    ]
    assert not lost
