"""Fixtures of the tests of the module's logic: its code, a session of its own, models, scans of a known body, cases."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from MAESegmentLib.bundle import ModelStore, open_bundle, save_bundle
from MAESegmentLib.bundle.library import ModelLibrary
from MAESegmentLib.processes.process_tree import descendants
from MAESegmentLib.storage.lock import FileLock
from MAESegmentLib.storage.user_folders import default_runs_folder
from Testing.skips import REPOSITORY
from Testing.slicer.body_model import LABELS, NAME, body_on, make_model

MODULE_FOLDER = REPOSITORY / "MAESegment"


@pytest.fixture
def plugin(slicer_gui: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:  # noqa: ARG001
    """`plugin("session")` is the module MAESegmentPlugin.session, `plugin("texts.messages")` that of app.texts."""
    monkeypatch.syspath_prepend(str(MODULE_FOLDER))
    # First, because it drops helper code that is there before it: that is what Reload needs.
    importlib.import_module("MAESegment")
    own = {path.stem for path in (MODULE_FOLDER / "MAESegmentPlugin").glob("*.py")}
    return lambda name: importlib.import_module(f"{'MAESegmentPlugin' if name in own else 'MAESegmentLib.app'}.{name}")


@pytest.fixture
def settings(slicer_gui: Any) -> Any:
    """In memory; the user's own stay as they are."""
    return slicer_gui.settings()


@pytest.fixture
def transports() -> list[Any]:
    """Every transport that the session made."""
    return []


@pytest.fixture
def session(
    plugin: Callable[[str], ModuleType],
    settings: Any,
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
def worker_pid() -> Callable[[], int]:
    """Process id of the one worker that this process has since the test began: one of another file may still end."""

    def running() -> set[int]:
        return {pid for pid in descendants(os.getpid()) if b"MAESegmentLib.worker" in _command(pid)}

    before = running()

    def find() -> int:
        (worker,) = running() - before
        return worker

    return find


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


# Models ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder of models, with the one of the self test, which processes side by side train once for all."""
    folder, base = tmp_path_factory.mktemp("models"), tmp_path_factory.getbasetemp()
    trained = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / NAME
    with FileLock(trained.with_suffix(".lock"), timeout_s=300.0):
        if not trained.exists():
            make_model(trained)
    shutil.copytree(trained, folder / NAME / "1.0.0")
    return folder


@pytest.fixture
def make_logic(plugin: Callable[[str], ModuleType], session: Any) -> Callable[[Path], Any]:  # noqa: ARG001
    """The module's logic on a folder of models."""

    def make(folder: Path) -> Any:
        library = ModelLibrary(ModelStore(folder, shipped_folder=folder / "nothing-ships"))
        return importlib.import_module("MAESegment").MAESegmentLogic(session=session, library=library)

    return make


@pytest.fixture
def logic(make_logic: Callable[[Path], Any], models_folder: Path) -> Any:
    return make_logic(models_folder)


@pytest.fixture
def model(models_folder: Path, logic: Any) -> Any:  # noqa: ARG001
    return open_bundle(models_folder / NAME / "1.0.0", verify=False)


@pytest.fixture
def versions(models_folder: Path, tmp_path: Path) -> Path:
    """A folder of models of this test's own: 1.0.0 of the self test's, and its child 1.1.0, which finds less."""
    folder = tmp_path / "own models"
    shutil.copytree(models_folder / NAME / "1.0.0", folder / NAME / "1.0.0")
    base = open_bundle(folder / NAME / "1.0.0")
    state = base.load_network().state_dict()
    biases = [key for key in state if key.startswith("heads.") and key.endswith(".bias")]
    assert biases
    for key in biases:
        state[key][1] -= 4.0
    spec = replace(base.spec, version="1.1.0", parent=base.reference)
    save_bundle(folder / NAME / "1.1.0", spec, state, card="# Child\n", licence_text="None\n")
    return folder


@pytest.fixture
def runs_folder(slicer_gui: Any) -> Path:  # noqa: ARG001
    """Where fine-tunings of this test are."""
    return default_runs_folder()


# Scans and cases ------------------------------------------------------------------------------------------------------


@pytest.fixture
def scene(plugin: Callable[[str], ModuleType]) -> ModuleType:  # noqa: ARG001
    """Volumes of the body, and comparison with it."""
    return importlib.import_module("Testing.slicer.volumes")


@pytest.fixture
def case_root(settings: Any, tmp_path: Path) -> Path:
    """Where the logic keeps cases; with a space and a letter that is not ASCII, as in a documents folder."""
    root = tmp_path / "Fälle von mir"
    settings.setValue("MAESegment/CaseFolder", str(root))
    return root


@pytest.fixture
def draw(slicer_gui: Any) -> Callable[..., Any]:  # noqa: ARG001
    """`draw(volume, front=array, back=None, ...)`: a segmentation by hand; None is an empty segment."""
    import slicer

    def make(volume: Any, **segments: np.ndarray | None) -> Any:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Drawn")
        node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        for name, array in segments.items():
            segment_id = node.GetSegmentation().AddEmptySegment("", name)
            if array is not None:
                slicer.util.updateSegmentBinaryLabelmapFromArray(array.astype(np.uint8), node, segment_id, volume)
        return node

    return make


@pytest.fixture
def truth(volume: Any) -> dict[str, np.ndarray]:
    """What is where in `volume`, which the test's own file gives: (K, J, I) masks by label."""
    from MAESegmentLib import mrml

    shape = volume.GetImageData().GetDimensions()[::-1]
    labels = body_on(shape, mrml.image_of([volume]).ijk_to_world)[1]
    return {label.name: labels == label.value for label in LABELS}


@pytest.fixture
def corrected(draw: Callable[..., Any], volume: Any, truth: dict[str, np.ndarray]) -> Any:
    """A segmentation of both structures; nobody looked for the third."""
    return draw(volume, front=truth["front"], back=truth["back"])


def segment_names(segmentation: Any) -> list[str]:
    content = segmentation.GetSegmentation()
    return [content.GetNthSegment(number).GetName() for number in range(content.GetNumberOfSegments())]


def edit(segmentation: Any) -> None:
    """Paint one voxel, as a user would with a brush."""
    from vtk.util.numpy_support import vtk_to_numpy

    segment = segmentation.GetSegmentation().GetNthSegment(0)
    labelmap = segment.GetRepresentation("Binary labelmap")
    voxels = vtk_to_numpy(labelmap.GetPointData().GetScalars())
    voxels[(voxels == 0).argmax()] = segment.GetLabelValue()
    labelmap.GetPointData().GetScalars().Modified()
    labelmap.Modified()
