"""One contract for scripts: on files and in Slicer the same calls, arguments, defaults and rule for waiting."""

from __future__ import annotations

import ast
import inspect
import itertools

import pytest

from MAESegmentLib.console import Console
from MAESegmentLib.jobs import Job
from Testing.calls import CALLS, Call, camel_case
from Testing.documentation import PAGES, REPOSITORY, blocks, with_calls

#: What the logic has besides: for its panels, for the scene, for whoever sends a report.
ONLY_SLICER = {
    *("defaultModel", "problems", "removableReason", "setCaseFolder", "caseFolder", "proposeCase", "identifyScan"),
    *("outputFor", "scanOf", "scanNames", "preferModel", "canFit", "findDrawn", "addBackground", "removeBackground"),
    *("openCase", "changedCases", "fineTuneRuns", "processBatch", "processSequence", "diagnostics", "getParameterNode"),
}
#: What a console has besides.
ONLY_FILES = {"close", "read", "interpreter"}


@pytest.fixture
def in_slicer(slicer_gui, plugin):  # noqa: ARG001
    import MAESegment

    return MAESegment.MAESegmentLogic


def parameters(owner: type, name: str) -> dict[str, inspect.Parameter]:
    found = inspect.signature(getattr(owner, name)).parameters
    return {key: one for key, one in found.items() if key != "self"}


def calls_of(owner: type) -> set[str]:
    return {name for name, value in vars(owner).items() if inspect.isfunction(value) and not name.startswith("_")}


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_arguments_and_defaults_are_the_same(in_slicer, call: Call):
    files = {key: one for key, one in parameters(Console, call.name).items() if key not in call.only_files}
    slicer = {key: one for key, one in parameters(in_slicer, call.in_slicer).items() if key not in call.only_slicer}
    renamed = dict(call.nodes)
    assert {renamed.get(key, camel_case(key)) for key in files} == set(slicer)
    for key, one in files.items():
        other = slicer[renamed.get(key, camel_case(key))]
        assert one.kind == other.kind, key
        # How a case is meant to be replaced is told by the scene in Slicer; on files by an id alone.
        assert key == "update" or one.default == other.default, key
    positional = [renamed.get(key, camel_case(key)) for key, one in files.items() if one.kind != one.KEYWORD_ONLY]
    assert positional == [key for key, one in slicer.items() if one.kind != one.KEYWORD_ONLY]
    assert call.has_wait == ({"wait", "callback"} <= set(files))
    assert not call.has_wait or files["wait"].default is True
    assert set(call.only_files) <= set(parameters(Console, call.name))
    assert set(call.only_slicer) <= set(parameters(in_slicer, call.in_slicer))


def test_no_call_is_missing_from_the_table(in_slicer):
    from MAESegmentLib.app.logic import Logic

    assert calls_of(Console) == {call.name for call in CALLS} | ONLY_FILES
    assert calls_of(Logic) | calls_of(in_slicer) == {call.in_slicer for call in CALLS} | ONLY_SLICER


def test_jobs_have_the_same_names():
    from MAESegmentLib.console.handles import ConsoleJob

    names = {name for name in dir(ConsoleJob) if not name.startswith("_")}
    job = Job[None]
    assert names <= {*dir(job), *inspect.signature(Job.__init__).parameters, "progress", "state", "error", "details"}


def test_every_call_of_the_examples_for_slicer_is_one_that_it_has(in_slicer):
    """Bound to their signatures; the examples themselves need a running Slicer."""
    trees = [ast.parse(block.text) for page in PAGES for block in blocks(page, "python")]
    calls = [
        node
        for node in itertools.chain.from_iterable(map(ast.walk, trees))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _name(node.func.value) == "logic"
    ]
    assert len(calls) >= 5
    for call in calls:
        signature = inspect.signature(getattr(in_slicer, call.func.attr))
        signature.bind(None, *call.args, **{keyword.arg: keyword.value for keyword in call.keywords})


def test_the_page_draws_the_table():
    page = (REPOSITORY / "docs" / "console.md").read_text(encoding="utf-8")
    assert all(f"`{call.in_slicer}`" in page for call in CALLS)
    assert with_calls(page) == page, "run python -m Testing.documentation"


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""
