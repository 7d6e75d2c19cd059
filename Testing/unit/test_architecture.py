"""docs/architecture.md names files, functions and rooms that exist."""

from __future__ import annotations

import ast
import re

from Testing import house
from Testing.house import LIBRARY, REPOSITORY

TEXT = re.sub(r"^```.*?^```", "", house.PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
SPANS = sorted(set(re.findall(r"`([^`\n]+)`", TEXT)))
#: Neither ours nor a path.
OTHERS = {"maesegment", ".seg.nrrd", "Testing"}


def test_what_the_page_names_exists() -> None:
    assert len(SPANS) > 100
    assert [span for span in SPANS if not exists(span)] == []


def exists(span: str) -> bool:
    """Whether a path, a path with a name in it, a room, a class of the page or a command is what it says."""
    path, _, name = span.partition(":")
    if "/" not in path:
        members = {one.partition(":")[2] for one in SPANS}
        return span.split()[0] in OTHERS | set(house.ROOMS) | members
    where = next((top / path for top in (REPOSITORY / LIBRARY, REPOSITORY) if (top / path).exists()), None)
    return where is not None and (not name or name in names(where.read_text(encoding="utf-8")))


def names(code: str) -> set[str]:
    """What a file defines at its top, and `Class.member` of its classes."""
    tree = ast.parse(code)
    inner = {f"{top.name}.{name}" for top in tree.body if isinstance(top, ast.ClassDef) for name in defined(top.body)}
    return set(defined(tree.body)) | inner


def defined(body: list[ast.stmt]) -> list[str]:
    found = []
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found += [target.id for target in targets if isinstance(target, ast.Name)]
    return found
