"""Rules that PySide6 does not enforce and PythonQt does, checked in the source of the module."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

import pytest

from Testing.gui.standin import FACTS
from Testing.skips import REPOSITORY

FILES = sorted((REPOSITORY / "MAESegment").rglob("*.py"))
#: Methods of Qt objects; Python functions of ours that happen to have such a name take no keywords either.
QT_METHODS = {
    name
    for facts in FACTS.values()
    for name in facts["names"]
    if name.startswith(("set", "add", "insert", "remove")) or name == "write"
} - {"add", "remove", "setValue"}
#: Dialogs that wait, and styles.
FORBIDDEN = {
    *("setStyleSheet", "exec_", "exec", "errorDisplay", "warningDisplay", "infoDisplay", "delayDisplay"),
}

Rule = Callable[[ast.Module], Iterator[ast.AST]]
RULES: dict[str, Rule] = {}


def rule(function: Rule) -> Rule:
    """A rule returns the nodes that break it."""
    RULES[function.__name__] = function
    return function


def calls(tree: ast.Module) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def method(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


@rule
def no_keyword_arguments_in_qt_calls(tree):
    for call in calls(tree):
        is_of_qt = method(call) and ast.unparse(call.func).split(".")[0].split("(")[0] in ("qt", "ctk")
        if call.keywords and (is_of_qt or method(call) in QT_METHODS):
            yield call


@rule
def qt_comes_from_slicer(tree):
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names]
            if any(name.startswith(("PySide", "PyQt", "shiboken")) for name in names):
                yield node


@rule
def connections_by_name_are_checked(tree):
    """A wrong signal name gives False and nothing else."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and method(node.value) == "connect":
            yield node


@rule
def nothing_is_styled_and_no_dialog_blocks(tree):
    return (call for call in calls(tree) if method(call) in FORBIDDEN)


@rule
def texts_of_widgets_are_translatable(tree):
    """What is assigned to a widget's text is never a plain sentence."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            is_shown = any(getattr(target, "attr", "") in ("text", "toolTip", "title") for target in node.targets)
            if is_shown and isinstance(node.value.value, str) and " " in node.value.value.strip():
                yield node


@rule
def translated_texts_are_filled_in_afterwards(tree):
    """`_("...").format()`, not `_("...".format())`: translators see the sentence with its gaps."""
    for call in calls(tree):
        if ast.unparse(call.func) == "_" and not all(isinstance(argument, ast.Constant) for argument in call.args):
            yield call


@rule
def timers_and_processes_are_kept(tree):
    """PythonQt ends a process or timer that no attribute refers to; the stand-in would let it live."""
    assigned = [node for node in ast.walk(tree) if isinstance(node, ast.Assign)]
    targets = {id(node.value): [ast.unparse(target) for target in node.targets] for node in assigned}
    kept = {
        ast.unparse(node.value)
        for node in assigned
        if isinstance(node.value, ast.Name) and any(isinstance(target, ast.Attribute) for target in node.targets)
    }
    for call in calls(tree):
        is_made = ast.unparse(call.func) in ("qt.QTimer", "qt.QProcess")
        if is_made and not any("." in target or target in kept for target in targets.get(id(call), [])):
            yield call


@pytest.mark.parametrize("name", RULES)
def test_the_module_keeps_the_rules(name):
    broken = [
        f"{path.name}:{node.lineno}: {ast.unparse(node)}"
        for path in FILES
        for node in RULES[name](ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not broken


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("no_keyword_arguments_in_qt_calls", "box.setText(text='x')\nqt.QTimer.singleShot(msec=0)"),
        ("qt_comes_from_slicer", "from PySide6 import QtCore"),
        ("connections_by_name_are_checked", "button.connect('clicked()', f)"),
        ("nothing_is_styled_and_no_dialog_blocks", "box.exec_()"),
        ("texts_of_widgets_are_translatable", "label.text = 'not translated'"),
        ("translated_texts_are_filled_in_afterwards", "_('a {x}'.format(x=1))"),
        ("timers_and_processes_are_kept", "timer = qt.QTimer()"),
    ],
)
def test_a_broken_rule_is_found(name, wrong):
    assert len([*RULES[name](ast.parse(wrong))]) == len(wrong.splitlines())
