"""Slicer packages what the CMake files list, and says nothing about what they forget."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
#: What users' machines leave behind in any folder.
DROPPINGS = {".DS_Store", "Thumbs.db"}


def listed(cmake_file: str, variable: str) -> list[str]:
    found = re.search(rf"set\({variable}\s(.*?)\)", (REPOSITORY / cmake_file).read_text(), re.DOTALL)
    assert found, f"{cmake_file} has no set({variable} ...)"
    return found.group(1).split()


def files(folder: str) -> set[str]:
    root = REPOSITORY / folder
    found = (path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(root).as_posix() for path in found if path.name not in DROPPINGS}


@pytest.mark.parametrize("module", ["MAESegment", "MAESegmentLib"])
def test_lists_of_a_module_name_exactly_the_files_of_its_folder(module):
    scripts = listed(f"{module}/CMakeLists.txt", "MODULE_PYTHON_SCRIPTS")
    resources = listed(f"{module}/CMakeLists.txt", "MODULE_PYTHON_RESOURCES")
    there = files(module) - {"CMakeLists.txt"}
    assert all(script.endswith(".py") for script in scripts)
    assert there - {*scripts, *resources} == set(), f"not in {module}/CMakeLists.txt, so Slicer would lack them"
    assert {*scripts, *resources} - there == set(), f"in {module}/CMakeLists.txt, but not there"
    for entries in (scripts, resources):
        assert len(entries) == len(set(entries)), "named twice"


def test_every_shipped_model_is_named():
    folders = {path.name for path in (REPOSITORY / "Resources/Models").iterdir() if path.is_dir()}
    assert set(listed("MAESegmentLib/CMakeLists.txt", "MODELS")) == folders


def test_the_module_folder_holds_no_other_script_that_slicer_would_take_for_a_module():
    assert [path.name for path in (REPOSITORY / "MAESegment").glob("*.py")] == ["MAESegment.py"]
