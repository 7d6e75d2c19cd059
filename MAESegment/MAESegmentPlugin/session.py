"""What all logics of one Slicer share: the warm worker, its interpreter, the working folder, the log."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import qt
import slicer

from MAESegmentLib.app.session import LogBuffer, RunWatch
from MAESegmentLib.errors import WorkerError
from MAESegmentLib.processes.interpreter import Interpreter, choose_interpreter, worker_launch
from MAESegmentLib.processes.launch import Launch
from MAESegmentLib.storage.user_folders import default_cases_folder
from MAESegmentLib.worker.client.client import WorkerClient
from MAESegmentLib.worker.client.transport import Transport
from MAESegmentLib.worker.job_folder import remove_stale

from .qt_event_loop import qt_loop
from .qt_transport import QProcessTransport

PYTHON_SETTING = "MAESegment/Python"
FOLDER_SETTING = "MAESegment/WorkingFolder"
CASES_SETTING = "MAESegment/CaseFolder"


class Settings(Protocol):
    """The part of QSettings used here."""

    def value(self, key: str, default: Any = None) -> Any: ...
    def setValue(self, key: str, value: Any) -> None: ...


class Session:
    """One per Slicer (`shared_session`); the worker starts with the first request and stays until `shutdown`."""

    def __init__(
        self,
        *,
        transport_factory: Callable[[], Transport] = QProcessTransport,
        settings: Settings | None = None,
        environ: Callable[[], Mapping[str, str]] | None = None,
        **client_options: Any,
    ) -> None:
        self.log = LogBuffer()
        self._settings: Settings = settings if settings is not None else qt.QSettings()
        self._environ = environ or worker_environment
        self.transport_factory = transport_factory
        self.loop = qt_loop()
        self.client = WorkerClient(self.loop, transport_factory, self._launch, log=self.log.add, **client_options)
        #: Polls fine-tunings, which are processes of their own and outlive this session.
        self.watch = RunWatch(self.loop)

    @property
    def chosen_python(self) -> str:
        """The interpreter given in the module's settings, or ""."""
        return str(self._settings.value(PYTHON_SETTING, "") or "")

    def interpreter(self) -> Interpreter:
        """The Python that runs the network; `WorkerError` says in one line what is wrong with a chosen one."""
        environ = {**self._environ(), "PATH": os.environ.get("PATH", "")}
        try:
            return choose_interpreter(self.chosen_python, environ=environ, application=application_folder())
        except WorkerError:
            if self.chosen_python or environ.get("MAESEGMENT_PYTHON"):
                raise
        for path in _own_interpreters():
            return Interpreter(path, "the Python that Slicer was built with (there is no PythonSlicer)")
        raise WorkerError(
            "No Python was found to run the network: there is no PythonSlicer beside the application.",
            "Choose a Python that has PyTorch under Advanced, Python.",
        )

    def set_python(self, path: str) -> None:
        """Use the interpreter at `path` ("" for Slicer's own) from now on; a running worker is ended."""
        if path == self.chosen_python:
            return
        self._settings.setValue(PYTHON_SETTING, path)
        self.shutdown()

    @property
    def working_folder(self) -> Path:
        """Where volumes are handed over: fast local disk with room for twice the largest scan."""
        chosen = self.chosen_folder
        return Path(chosen).expanduser() if chosen else self.default_folder

    @property
    def default_folder(self) -> Path:
        """The working folder, unless one is chosen."""
        return Path(slicer.app.temporaryPath) / "MAESegment"

    @property
    def chosen_folder(self) -> str:
        """The working folder given in the module's settings, or ""."""
        return str(self._settings.value(FOLDER_SETTING, "") or "")

    def set_working_folder(self, path: str) -> None:
        """ "" for a folder below Slicer's temporary folder."""
        self._settings.setValue(FOLDER_SETTING, path)

    @property
    def case_root(self) -> Path:
        """Where corrected cases are kept, a folder below it for each model."""
        chosen = self.chosen_case_root
        return Path(chosen).expanduser() if chosen else default_cases_folder()

    @property
    def chosen_case_root(self) -> str:
        """The folder for cases given in the module's settings, or ""."""
        return str(self._settings.value(CASES_SETTING, "") or "")

    def set_case_root(self, path: str) -> None:
        """ "" for the default; cases that are there already stay where they are."""
        self._settings.setValue(CASES_SETTING, path)

    def chosen(self, name: str) -> str:
        """What this user chose last, on whichever day; "" if nothing."""
        return str(self._settings.value(f"MAESegment/{name}", "") or "")

    def choose(self, name: str, value: str) -> None:
        """Keep a choice."""
        self._settings.setValue(f"MAESegment/{name}", value)

    def restart(self) -> None:
        """End the worker, its jobs with it, and start a new one."""
        self.shutdown()
        self.client.start()

    def shutdown(self) -> None:
        """End the worker and cancel its jobs; the next request starts a new one."""
        self.client.shutdown()

    def close(self) -> None:
        """End everything that lives with the session; a fine-tuning continues."""
        self.watch.stop()
        self.shutdown()

    def environment(self) -> dict[str, str]:
        """Environment of processes that the session starts."""
        return dict(self._environ())

    def _launch(self) -> Launch:
        for folder in remove_stale(self.working_folder):
            self.log.add("info", f"Removed {folder.name}, left behind by a Slicer that did not end properly.")
        interpreter = self.interpreter()
        self.log.add("info", f"Starting {interpreter.path} ({interpreter.origin})")
        return worker_launch(interpreter, self.environment())


def worker_environment() -> dict[str, str]:
    """The environment Slicer was started in, with what scripts have set for MAESegment since."""
    own = {name: value for name, value in os.environ.items() if name.startswith(("MAESEGMENT_", "CUDA_VISIBLE_"))}
    return {**slicer.util.startupEnvironment(), **own}


def application_folder() -> Path:
    """Where PythonSlicer is expected; not the application's own folder on every system."""
    return Path(slicer.app.slicerHome) / "bin"


def _own_interpreters() -> Iterator[Path]:
    """Interpreters of the Python that Slicer embeds, best first: a Slicer built from source may have no launcher."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    names = ("python.exe",) if os.name == "nt" else (version, "python3")
    folders = [Path(prefix) / sub for prefix in (sys.prefix, sys.base_prefix) for sub in ("bin", "")]
    candidates = [folder / name for folder in folders for name in names]
    candidates += [Path(found) for name in (version, "python3", "python") if (found := shutil.which(name))]
    for candidate in candidates:
        if candidate.is_file() and os.access(candidate, os.X_OK):
            yield candidate


_shared: list[Session] = []


def shared_session() -> Session:
    """The session of this Slicer; made on first use, ended with the application."""
    if not _shared:
        session = Session()
        _shared.append(session)
        if not slicer.app.connect("aboutToQuit()", close_shared_session):
            session.log.add("warning", "The worker is not told when Slicer ends; it ends when its input closes.")
    return _shared[0]


def close_shared_session() -> None:
    """End the shared worker, if there is one; for the end of Slicer, and before this code is loaded again."""
    while _shared:
        session = _shared.pop()
        slicer.app.disconnect("aboutToQuit()", close_shared_session)
        session.close()
