"""Which Python is taken, what is said about one that will not do, and how a module is started in it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from MAESegmentLib.errors import WorkerError
from MAESegmentLib.processes.interpreter import Interpreter, choose_interpreter, module_launch, worker_launch

PACKAGE = Path(__file__).parents[3] / "MAESegmentLib"


def make_program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def slicer(tmp_path) -> Path:
    """The folder of an application with its launcher."""
    return make_program(tmp_path / "Slicer" / "bin" / "PythonSlicer").parent


def test_order_of_preference(tmp_path, slicer):
    chosen, from_variable = make_program(tmp_path / "a" / "python"), make_program(tmp_path / "b" / "python")
    environ = {"MAESEGMENT_PYTHON": str(from_variable)}
    assert choose_interpreter(str(chosen), environ=environ, application=slicer).path == chosen
    assert choose_interpreter("", environ=environ, application=slicer).path == from_variable
    assert choose_interpreter("", environ={}, application=slicer).path == slicer / "PythonSlicer"
    assert choose_interpreter("", environ={}, application=slicer / "SlicerApp-real").path == slicer / "PythonSlicer"
    assert choose_interpreter("", environ={}, application=tmp_path).path == Path(sys.executable)
    assert choose_interpreter("", environ={}).path == Path(sys.executable)


def test_folder_of_an_environment_will_do(tmp_path):
    program = make_program(tmp_path / "env" / "bin" / "python")
    assert choose_interpreter(str(tmp_path / "env"), environ={}).path == program


def test_name_on_the_path_will_do(tmp_path):
    program = make_program(tmp_path / "python3.99")
    assert choose_interpreter("python3.99", environ={"PATH": str(tmp_path)}).path == program


def test_link_of_an_environment_is_not_followed(tmp_path):
    """Its target would be a Python without the environment's packages."""
    link = tmp_path / "env" / "bin" / "python"
    link.parent.mkdir(parents=True)
    link.symlink_to(sys.executable)
    assert choose_interpreter(str(link), environ={}).path == link


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda _path: None, "does not exist"),
        (lambda path: path.write_text("x"), "not a program that can be run"),
        (lambda path: path.mkdir(), "without a Python in it"),
    ],
)
@pytest.mark.parametrize("through", ["setting", "variable"])
def test_what_is_wrong_with_a_chosen_python_is_said_in_one_line(tmp_path, slicer, make, reason, through):
    path = tmp_path / "chosen"
    make(path)
    chosen, environ = (str(path), {}) if through == "setting" else ("", {"MAESEGMENT_PYTHON": str(path)})
    with pytest.raises(WorkerError, match=reason) as caught:
        choose_interpreter(chosen, environ=environ, application=slicer)
    assert "\n" not in caught.value.message
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_foreign_python_does_not_get_this_ones_library():
    environ = {"PYTHONHOME": "/here", "PYTHONPATH": "/there", "OTHER": "1"}
    foreign = worker_launch(Interpreter(Path("/opt/env/bin/python"), ""), environ).environment
    assert "PYTHONHOME" not in foreign
    assert "PYTHONPATH" not in foreign
    assert foreign["OTHER"] == "1"
    assert foreign["PYTHONUNBUFFERED"] == "1"
    own = worker_launch(Interpreter(Path("/slicer/bin/PythonSlicer"), ""), environ).environment
    assert own["PYTHONPATH"] == "/there"


def run(launch, **options):
    return subprocess.run(
        [launch.program, *launch.arguments],
        env=dict(launch.environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


@pytest.fixture
def copied_package(tmp_path) -> Path:
    """A package of that name with one module, in a folder with an odd name."""
    folder = tmp_path / "it's a \u00fcml\u00e4ut" / "MAESegmentLib"
    (folder / "jobs").mkdir(parents=True)
    (folder / "errors.py").write_text("")
    (folder / "__init__.py").write_text("")
    (folder / "jobs" / "__init__.py").write_text("")
    (folder / "jobs" / "shows.py").write_text(
        "import json, sys\n"
        "from .. import errors\n"
        "import numbers\n"
        "print(json.dumps([__name__, errors.__file__, sys.argv[1:], sys.path, numbers.__file__]))\n"
    )
    return folder


def test_module_runs_without_being_installed_and_without_its_neighbours(copied_package, tmp_path):
    """A folder that holds the package may hold a whole foreign site-packages; the current folder may hold anything."""
    (copied_package.parent / "numbers.py").write_text("raise RuntimeError('a neighbour of the package')\n")
    here = tmp_path / "here"
    here.mkdir()
    (here / "numbers.py").write_text("raise RuntimeError('in the current folder')\n")
    launch = module_launch(Interpreter(Path(sys.executable), ""), {}, "MAESegmentLib.jobs.shows", ["a b", "c"])
    arguments = [str(copied_package) if text == str(PACKAGE) else text for text in launch.arguments]
    result = run(replace(launch, arguments=tuple(arguments)), cwd=here)
    assert result.returncode == 0, result.stderr
    name, errors_file, arguments, path, _numbers = json.loads(result.stdout)
    assert name == "__main__"
    assert Path(errors_file).parent == copied_package
    assert arguments == ["a b", "c"]
    assert str(copied_package.parent) not in path
