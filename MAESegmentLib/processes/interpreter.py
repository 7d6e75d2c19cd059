"""Which Python runs the network, and how a module of ours is started in it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import WorkerError
from .launch import Launch
from .processor import spin_briefly

#: Names a Python for the network, e.g. of an environment with a CUDA build of torch.
VARIABLE = "MAESEGMENT_PYTHON"
_WORKER = "MAESegmentLib.worker"
_LAUNCHER = "PythonSlicer"
_ADVICE = "Give the path of a Python 3.10 or later that has torch, or leave the setting empty."

#: Takes only this package from its folder: what lies beside it (another Python's site-packages) must not get in, nor
#: what lies in the current folder. Arguments: the package's folder, the module to run, its arguments.
#: One line without double quotes: launchers and Windows command lines mangle others.
_BOOTSTRAP = "; ".join(
    (
        "import sys, runpy, importlib.util as util",
        "folder, module = sys.argv.pop(1), sys.argv.pop(1)",
        "sys.path[:] = [entry for entry in sys.path if entry]",
        "name, start = 'MAESegmentLib', folder + '/__init__.py'",
        "spec = util.spec_from_file_location(name, start, submodule_search_locations=[folder])",
        "package = sys.modules[name] = util.module_from_spec(spec)",
        "spec.loader.exec_module(package)",
        "runpy.run_module(module, run_name='__main__', alter_sys=True)",
    )
)


@dataclass(frozen=True)
class Interpreter:
    """`origin` says why it was chosen."""

    path: Path
    origin: str


def choose_interpreter(
    chosen: str = "", *, environ: Mapping[str, str] | None = None, application: Path | None = None
) -> Interpreter:
    """What was `chosen` in the settings, else `MAESEGMENT_PYTHON`, else PythonSlicer beside the application, else this.

    `application` is Slicer's executable or its folder. A name on the PATH or the folder of an environment will do.
    """
    environ = os.environ if environ is None else environ
    for given, origin in ((chosen, "chosen in the settings"), (environ.get(VARIABLE, ""), f"from {VARIABLE}")):
        if given.strip():
            return Interpreter(_resolve(given.strip(), origin, environ), origin)
    if application is not None:
        folder = application if application.is_dir() else application.parent
        for launcher in (folder / _LAUNCHER, folder / f"{_LAUNCHER}.exe"):
            if _is_program(launcher):
                return Interpreter(launcher, "Slicer's own")
    # In an application that embeds Python this is empty, or the application itself.
    own = Path(sys.executable or "")
    if "python" in own.name.lower() and _is_program(own):
        return Interpreter(own, "the Python that runs this")
    raise WorkerError(
        "No Python was found to run the network.",
        f"Give one that has torch in the settings, or in {VARIABLE}.",
    )


def worker_launch(interpreter: Interpreter, environ: Mapping[str, str]) -> Launch:
    """How the worker is started in `interpreter`."""
    return module_launch(interpreter, environ, _WORKER)


def module_launch(
    interpreter: Interpreter, environ: Mapping[str, str], module: str, arguments: Sequence[str] = ()
) -> Launch:
    """How `module` of this package is run as a program, also through launchers and where it is not installed."""
    environment = dict(environ)
    if not _is_ours(interpreter.path):
        # They describe another Python's library: a foreign one would load that and fail in odd ways.
        for name in ("PYTHONHOME", "PYTHONPATH"):
            environment.pop(name, None)
    environment.update(PYTHONUNBUFFERED="1", PYTHONIOENCODING="utf-8")
    spin_briefly(environment)
    package = str(Path(__file__).resolve().parents[1])
    return Launch(str(interpreter.path), ("-c", _BOOTSTRAP, package, module, *arguments), environment)


def _resolve(given: str, origin: str, environ: Mapping[str, str]) -> Path:
    path = Path(given).expanduser()
    if path.is_dir():
        candidates = [path / "bin" / "python", path / "Scripts" / "python.exe", path / "python.exe"]
        found = next(filter(_is_program, candidates), None)
        if found is None:
            raise WorkerError(f"{given} ({origin}) is a folder without a Python in it.", _ADVICE)
        return found.absolute()
    if _is_program(path):
        return path.absolute()
    if path.name == given and (on_path := shutil.which(given, path=environ.get("PATH"))):
        return Path(on_path)
    problem = "is not a program that can be run" if path.exists() else "does not exist"
    raise WorkerError(f"{given} ({origin}) {problem}.", _ADVICE)


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _is_ours(path: Path) -> bool:
    return path.stem == _LAUNCHER or (bool(sys.executable) and path == Path(sys.executable))
