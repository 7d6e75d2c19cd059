"""The extension as its users get it: what is in the package, and that it works from there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from Testing.extension_build import REPOSITORY, SCRIPTED_MODULES, configure, run

MODELS = sorted(path.name for path in (REPOSITORY / "Resources/Models").iterdir() if path.is_dir())

LIST_MODELS = """
import sys
sys.path.insert(0, sys.argv[1])
import MAESegmentLib
from MAESegmentLib.bundle import ModelStore
print(MAESegmentLib.__file__)
for bundle in ModelStore(user_folder=sys.argv[2]).list():
    print(ModelStore(user_folder=sys.argv[2]).find(bundle.name).path)
"""

#: Without the folder on PYTHONPATH and from another current folder, as Slicer starts it.
START_WORKER = """
import os, subprocess, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from MAESegmentLib.processes.interpreter import Interpreter, worker_launch
launch = worker_launch(Interpreter(Path(sys.executable), "of the test"), os.environ)
print(launch.arguments[2], flush=True)
command = [launch.program, *launch.arguments]
subprocess.run(command, env=launch.environment, check=True)
"""


def tree(folder: Path, *, without: tuple[str, ...] = ()) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files if path.suffix not in without}


def sources() -> dict[str, bytes]:
    module, library = tree(REPOSITORY / "MAESegment"), tree(REPOSITORY / "MAESegmentLib")
    del module["CMakeLists.txt"], library["CMakeLists.txt"]
    models = {
        f"Resources/Models/{model}/{name}": data
        for model in MODELS
        for name, data in tree(REPOSITORY / "Resources/Models" / model).items()
    } | {
        f"Resources/Models/{model}.openvino": (REPOSITORY / f"Resources/Models/{model}.openvino").read_bytes()
        for model in MODELS
    }
    return module | {f"MAESegmentLib/{name}": data for name, data in (library | models).items()}


def test_installed_files_are_those_of_the_source_tree_byte_for_byte(extension):
    assert tree(extension.installed / SCRIPTED_MODULES, without=(".pyc",)) == sources()


def test_only_the_module_lies_where_every_script_is_taken_for_a_module(extension):
    for place in extension.places:
        assert [path.name for path in place.glob("*.py")] == ["MAESegment.py"]


def test_byte_code_lies_beside_scripts_and_never_in_a_model(extension):
    for place in extension.places:
        compiled = {path.with_suffix(".py") for path in place.rglob("*.pyc")}
        assert place / "MAESegmentLib/bundle/store.py" in compiled
        assert all(path.is_file() for path in compiled)
        assert not list((place / "MAESegmentLib/Resources").rglob("*.py*"))


@pytest.mark.parametrize("place", ["build tree", "installed"])
def test_the_library_finds_and_verifies_its_models_where_slicer_has_it(extension, tmp_path, place):
    folder = extension.places[place == "installed"]
    command = [sys.executable, "-c", LIST_MODELS, str(folder), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    library, *models = result.stdout.splitlines()
    assert Path(library).parent == (folder / "MAESegmentLib").resolve()
    assert models == [str((folder / "MAESegmentLib/Resources/Models" / model).resolve()) for model in MODELS]


def test_the_worker_starts_from_the_installed_package(extension, tmp_path):
    folder = extension.places[1]
    command = [sys.executable, "-c", START_WORKER, str(folder)]
    # Its input stays open: a worker whose client has gone ends even while it starts.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as worker:
        package, *lines = [worker.stdout.readline() for _ in range(3)]
        worker.stdin.close()
        assert worker.wait(60) == 0
    assert Path(package.strip()) == (folder / "MAESegmentLib").resolve()
    assert [json.loads(line)["type"] for line in lines] == ["hello", "ready"]


def test_a_file_that_left_a_model_leaves_the_build_tree_too(extension):
    models = extension.build / SCRIPTED_MODULES / "MAESegmentLib/Resources/Models"
    (models / MODELS[0] / "docs/old.png").write_bytes(b"of an older version")
    extension.make()
    assert sorted(path.name for path in models.iterdir() if path.is_dir()) == MODELS
    assert not (models / MODELS[0] / "docs/old.png").exists()


def test_the_self_tests_are_known_to_ctest(extension):
    ctest = Path(extension.cmake).with_name("ctest")
    shown = json.loads(run(ctest, "--test-dir", extension.build, "--show-only=json-v1"))
    commands = {test["name"]: test.get("command", []) for test in shown["tests"]}
    assert {"py_MAESegment", "py_run_in_slicer", "py_nomainwindow_qSlicerMAESegmentModuleGenericTest"} <= set(commands)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("../Resources/MAESegment.png", "wrong place"),
        ("Resources/UI/gone.ui", "There is no"),
        ("Resources/Icons", "is a folder"),
    ],
)
def test_the_stand_in_refuses_entries_that_slicer_would_misplace(cmake, tmp_path, entry, reason):
    source = tmp_path / "source"
    (source / "Resources/Icons").mkdir(parents=True)
    (source / "Bad.py").write_text("")
    (source / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16.3...3.28.0)\nproject(Bad)\nfind_package(Slicer REQUIRED)\n"
        f"include(${{Slicer_USE_FILE}})\nslicerMacroBuildScriptedModule(NAME Bad SCRIPTS Bad RESOURCES {entry})\n"
    )
    result = configure(cmake, source, tmp_path / "build")
    assert result.returncode != 0
    assert reason in result.stderr
