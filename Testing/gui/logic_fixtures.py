"""Fixtures of the tests of the module's logic: its code, a session of its own, a model, volumes of a known body."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

MODULE_FOLDER = Path(__file__).resolve().parents[2] / "MAESegment"


class FakeSettings:
    """Of one test; the user's own stay as they are."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def value(self, key: str, default: Any = None) -> Any:
        return self._values.get(key, default)

    def setValue(self, key: str, value: Any) -> None:
        self._values[key] = value


class RecordingListener:
    """What a transport reported."""

    def __init__(self) -> None:
        self.output = b""
        self.errors = b""
        self.exits: list[tuple[int | None, str]] = []

    def on_output(self, data: bytes) -> None:
        self.output += data

    def on_error_output(self, data: bytes) -> None:
        self.errors += data

    def on_exit(self, code: int | None, reason: str) -> None:
        self.exits.append((code, reason))


@pytest.fixture
def plugin(slicer_gui: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:  # noqa: ARG001
    """`plugin("session")` is the module MAESegmentPlugin.session, `plugin("texts.messages")` that of app.texts."""
    monkeypatch.syspath_prepend(str(MODULE_FOLDER))
    # First, because it drops helper code that is there before it: that is what Reload needs.
    importlib.import_module("MAESegment")
    own = {path.stem for path in (MODULE_FOLDER / "MAESegmentPlugin").glob("*.py")}
    return lambda name: importlib.import_module(f"{'MAESegmentPlugin' if name in own else 'MAESegmentLib.app'}.{name}")


@pytest.fixture
def settings() -> FakeSettings:
    return FakeSettings()


@pytest.fixture
def transports() -> list[Any]:
    """Every transport that the session made."""
    return []


@pytest.fixture
def session(
    plugin: Callable[[str], ModuleType],
    settings: FakeSettings,
    transports: list[Any],
    process_events_until: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Any]:
    """A session of this test's own, with this Python; its processes are gone afterwards."""
    monkeypatch.delenv("MAESEGMENT_PYTHON", raising=False)

    def transport() -> Any:
        transports.append(plugin("qt_transport").QProcessTransport())
        return transports[-1]

    session = plugin("session").Session(
        transport_factory=transport,
        settings=settings,
        environ=lambda: {**os.environ, "OMP_NUM_THREADS": "2"},
        start_timeout_s=300.0,
    )
    yield session
    session.shutdown()
    process_events_until(lambda: session.client.is_ended, 30.0)


@pytest.fixture
def launch_python() -> Callable[[str], Any]:
    """How this Python runs a few lines of code."""
    from MAESegmentLib.processes.launch import Launch

    return lambda code: Launch(sys.executable, ("-c", code), dict(os.environ))


@pytest.fixture
def listener() -> RecordingListener:
    return RecordingListener()


@pytest.fixture
def worker_pid() -> Callable[[], int]:
    """Process id of the one worker that this process has."""
    from MAESegmentLib.processes.process_tree import descendants

    def find() -> int:
        workers = [pid for pid in descendants(os.getpid()) if b"MAESegmentLib.worker" in _command(pid)]
        assert len(workers) == 1, workers
        return workers[0]

    return find


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder of models, with the one of the self test."""
    from Testing.slicer.body_model import NAME, make_model

    folder = tmp_path_factory.mktemp("models")
    make_model(folder / NAME / "1.0.0")
    return folder


@pytest.fixture
def make_logic(slicer_gui: Any, plugin: Callable[[str], ModuleType], session: Any) -> Callable[[Path], Any]:  # noqa: ARG001
    """The module's logic on a folder of models."""
    from MAESegmentLib.bundle import ModelStore

    def make(folder: Path) -> Any:
        store = ModelStore(folder, shipped_folder=folder / "nothing-ships")
        library = importlib.import_module("MAESegmentLib.bundle.library").ModelLibrary(store)
        return importlib.import_module("MAESegment").MAESegmentLogic(session=session, library=library)

    return make


@pytest.fixture
def logic(make_logic: Callable[[Path], Any], models_folder: Path) -> Any:
    return make_logic(models_folder)


@pytest.fixture
def empty_logic(make_logic: Callable[[Path], Any], tmp_path: Path) -> Any:
    return make_logic(tmp_path / "no-models")


@pytest.fixture
def model(models_folder: Path, logic: Any) -> Any:  # noqa: ARG001
    from MAESegmentLib.bundle import open_bundle
    from Testing.slicer.body_model import NAME

    return open_bundle(models_folder / NAME / "1.0.0", verify=False)


@pytest.fixture
def scene(plugin: Callable[[str], ModuleType]) -> ModuleType:  # noqa: ARG001
    """Volumes of the body, and comparison with it."""
    return importlib.import_module("Testing.slicer.volumes")


@pytest.fixture
def kill_worker(worker_pid: Callable[[], int]) -> Callable[[], None]:
    """As when the system runs out of memory."""
    import signal

    return lambda: os.kill(worker_pid(), signal.SIGKILL)
