"""What the system refuses is said as such, and never as a defect of MAESegment."""

from __future__ import annotations

import ast
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from MAESegmentLib.errors import DeviceMemoryError, OutputError, refusal_by_system

ROOT = Path(__file__).parents[2]


def caught(work) -> BaseException:
    with pytest.raises(Exception) as raised:
        work()
    return raised.value


def test_memory_that_cannot_be_had_is_named_with_its_size() -> None:
    refusal = refusal_by_system(caught(lambda: np.empty(2**60, np.uint8)))
    assert isinstance(refusal, DeviceMemoryError)
    assert "ran out of memory: Unable to allocate 1.00 EiB" in refusal.message
    assert refusal.hint
    assert refusal_by_system(MemoryError()).message == "The computer ran out of memory."  # type: ignore[union-attr]


def test_torchs_own_way_to_say_so_is_known() -> None:
    import torch

    assert isinstance(refusal_by_system(caught(lambda: torch.empty(2**55))), DeviceMemoryError)


def test_a_character_that_an_encoding_lacks_is_named() -> None:
    refusal = refusal_by_system(caught(lambda: "Schilddrüse".encode("ascii")))
    assert isinstance(refusal, OutputError)
    assert refusal.message == r"'\xfc' in 'Schilddr\xfcse' cannot be written as ascii."
    refusal.message.encode("ascii")


@pytest.mark.parametrize(
    ("number", "hint"), [(errno.ENOSPC, "Free some space"), (errno.EACCES, "permission"), (errno.EIO, "Check the path")]
)
def test_a_file_that_was_refused_is_named_with_a_remedy(number: int, hint: str) -> None:
    refusal = refusal_by_system(OSError(number, os.strerror(number), "/data/scan.nii"))
    assert isinstance(refusal, OutputError)
    assert refusal.message == f"/data/scan.nii: {os.strerror(number)}."
    assert hint in refusal.hint


def test_a_defect_is_none_of_these() -> None:
    for error in (ZeroDivisionError(), RuntimeError("shapes differ"), KeyError("x"), OSError("no number")):
        assert refusal_by_system(error) is None


#: Files of the library that only a command runs, and what is not a message.
_OF_COMMANDS = {
    "MAESegmentLib/torchrun.py": "processes that torchrun started",
    "MAESegmentLib/evaluation/cases.py": "label maps that `maesegment evaluate` is given",
    "MAESegmentLib/inference/monai_workflow.py": "`python -m monai.bundle`",
    "MAESegmentLib/processes/environment.py": "the command for a Python of the user's own, and what doctor advises",
    "MAESegmentLib/training/data/archive.py": "scans to pretrain on",
    "MAESegmentLib/training/data/streaming.py": "scans to pretrain on",
    "MAESegmentLib/training/loop/distributed.py": "several processes that train together",
    "MAESegmentLib/web/door/stored_address.py": "an option of `maesegment app`",
    "MAESegment/MAESegmentPlugin/dependencies.py": "the command for a Python of the user's own",
}
_COMMAND = re.compile(r"`(maesegment|make|pip|python|torchrun)\b|\bpip install|(?<!\S)--[a-z-]+(?![\w:-])|in a script")


def _texts(tree: ast.AST) -> Iterator[str]:
    """String constants of more than one word, without docstrings."""
    bodies = (node.body for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef))
    spoken_of = {id(one.value) for body in bodies for one in body[:1] if isinstance(one, ast.Expr)}
    for node in ast.walk(tree):
        value = node.value if isinstance(node, ast.Constant) and id(node) not in spoken_of else ""
        if isinstance(value, str) and " " in value.strip():
            yield value


def test_what_a_panel_may_show_names_no_command() -> None:
    """A clinician has buttons; commands add their own advice."""
    found = {}
    for path in [*(ROOT / "MAESegmentLib").rglob("*.py"), *(ROOT / "MAESegment").rglob("*.py")]:
        name = path.relative_to(ROOT).as_posix()
        if name.startswith("MAESegmentLib/cli/"):
            continue
        texts = [text for text in _texts(ast.parse(path.read_text("utf-8"))) if _COMMAND.search(text)]
        if texts:
            found[name] = texts
    assert {name: texts for name, texts in found.items() if name not in _OF_COMMANDS} == {}
    assert found.keys() >= _OF_COMMANDS.keys(), "an exception that is not needed any more"
