"""The examples in docstrings give what they show."""

from __future__ import annotations

import doctest
import importlib
import re

import pytest

from Testing.house import MODULES, REPOSITORY

EXAMPLE = re.compile(r"^ *>>> ", re.MULTILINE)
WITH_EXAMPLES = [
    name for name, path in MODULES.items() if EXAMPLE.search((REPOSITORY / path).read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted
    assert not found.failed
