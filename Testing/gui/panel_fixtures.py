"""Fixtures of the panel's tests: the real .ui and panel over a logic that the test leads, and a scan to choose."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from MAESegmentLib.worker.client.client import WorkerState
from Testing.fake_logic import FakeLogic, FakeMemory, version_of
from Testing.gui import standin
from Testing.skips import REPOSITORY

UI_FILE = REPOSITORY / "MAESegment" / "Resources" / "UI" / "MAESegment.ui"


class FakeClient:
    """The worker as the panel sees it."""

    def __init__(self) -> None:
        self.state = WorkerState.IDLE
        self.devices_known: tuple[Mapping[str, Any], ...] = ()
        self.asked: list[Callable[[Any], None]] = []
        self._listeners: list[Callable[[Any], None]] = []

    def add_listener(self, callback: Callable[[Any], None]) -> None:
        self._listeners.append(callback)

    def devices(self) -> Any:
        return SimpleNamespace(add_listener=self.asked.append)

    def answer_devices(self, devices: list[Mapping[str, Any]]) -> None:
        job = SimpleNamespace(is_finished=True, error=None, result=lambda: devices)
        for callback in self.asked:
            callback(job)
        self.asked.clear()

    def become_ready(self, devices: tuple[Mapping[str, Any], ...]) -> None:
        self.devices_known = devices
        for callback in self._listeners:
            callback(self)


class FakeDependencies:
    """`report` answers a check at once, `training` one of what learning needs; None leaves it open."""

    def __init__(self, report: Any) -> None:
        self.report = self.training = report
        self.checks = 0
        self.purposes: list[str] = []

    def check(self, callback: Callable[[Any], None], purpose: str = "segment") -> None:
        self.purposes.append(purpose)
        self.checks += purpose == "segment"
        report = self.report if purpose == "segment" else self.training
        if report is not None:
            callback(report)

    def stop(self) -> None:
        pass


@dataclass
class FakeSession(FakeMemory):
    """Turns of the event loop are real."""

    log: Any
    loop: Any
    client: FakeClient = field(default_factory=FakeClient)
    chosen_python: str = ""
    chosen_folder: str = ""
    chosen_case_root: str = ""
    default_folder: Path = Path("/tmp/Slicer/MAESegment")
    kept: dict[str, str] = field(default_factory=dict)

    def set_python(self, path: str) -> None:
        self.chosen_python = path

    def set_working_folder(self, path: str) -> None:
        self.chosen_folder = path


@pytest.fixture
def dependencies(plugin: Callable[[str], ModuleType]) -> Any:
    """What the check of the packages says: all is well, unless a test puts another report."""
    return FakeDependencies(plugin("dependencies").DependencyReport("/usr/bin/python3", version="3.12.1"))


@pytest.fixture
def fake_logic(plugin: Callable[[str], ModuleType], dependencies: Any) -> Any:
    log = plugin("session").LogBuffer()
    return FakeLogic(FakeSession(log, plugin("qt_event_loop").qt_loop()), dependencies)


@pytest.fixture
def host(
    plugin: Callable[[str], ModuleType], fake_logic: Any, slicer_gui: Any, monkeypatch: pytest.MonkeyPatch
) -> standin.LoadedModule:
    """The module's own widget over the fake logic, shown but not yet entered."""
    source = importlib.import_module("MAESegment")
    nodes = source.ScriptedLoadableModuleLogic()
    nodes.moduleName, nodes.isSingletonParameterNode = "MAESegment", True
    wrap = plugin("parameters").MAESegmentParameterNode
    fake_logic.getParameterNode = lambda: wrap(nodes.getParameterNode())
    monkeypatch.setattr(source, "MAESegmentLogic", lambda: fake_logic)
    host = standin.add_panel("MAESegment", REPOSITORY / "MAESegment" / "MAESegment.py", None, source.MAESegmentWidget)
    host.show()
    slicer_gui.processEvents()
    return host


@pytest.fixture
def panel(host: standin.LoadedModule) -> Any:
    """The panel, entered, in an empty scene."""
    host.widget.enter()
    return host.widget.panel


@pytest.fixture
def ui(host: standin.LoadedModule) -> Any:
    """The widgets by name."""
    return host.widget.panel.ui


@pytest.fixture
def settle(slicer_gui: Any, process_events_until: Callable[..., None], fake_logic: Any) -> Callable[[], None]:  # noqa: ARG001
    """Let everything that is due happen."""

    def wait() -> None:
        done: list[bool] = []
        fake_logic.session.loop.call_later(
            0.0, lambda: fake_logic.session.loop.call_later(0.01, lambda: done.append(True))
        )
        process_events_until(lambda: bool(done), 10.0)

    return wait


@pytest.fixture
def add_volume(slicer_gui: Any) -> Callable[..., Any]:  # noqa: ARG001
    """`add_volume(name, shape=..., spacing=...)`: a scan in the scene."""
    import slicer

    def add(name: str = "Scan", shape: tuple[int, ...] = (12, 14, 16), spacing: tuple[float, ...] = (2, 2, 3)) -> Any:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        slicer.util.updateVolumeFromArray(node, np.arange(np.prod(shape), dtype=np.int16).reshape(shape))
        node.SetSpacing(spacing)
        return node

    return add


@pytest.fixture
def add_result(plugin: Callable[[str], ModuleType]) -> Callable[..., tuple[Any, Any]]:
    """`add_result(volume, bundle, warnings=())`: a segmentation node and its summary."""
    from MAESegmentLib import mrml

    def add(volume: Any, bundle: Any, *, warnings: tuple[str, ...] = ()) -> tuple[Any, Any]:
        block = np.zeros((4, 6, 8), np.uint8)
        block[:, :, :4], block[:, :, 4:] = bundle.labels[0].value, bundle.labels[1].value
        node = mrml.add_segmentation(volume, bundle.labels, block, (2, 2, 2), name=f"{volume.GetName()} {bundle.name}")
        summary = plugin("processing").SegmentationSummary(
            model=f"{bundle.name}@{bundle.version}",
            labels=bundle.labels,
            volumes_ml={label.value: 3.07 * (number < 2) for number, label in enumerate(bundle.labels)},
            seconds=1.83,
            network_seconds=1.2,
            device="cuda",
            device_title="NVIDIA GeForce RTX 3060",
            warnings=warnings,
        )
        return node, summary

    return add


@pytest.fixture
def two_channel_model() -> Any:
    """As far as the panel looks at a model with two inputs."""
    from MAESegmentLib.images.labels import Label

    metadata = {
        "description": "Tumour in two MR sequences.",
        "intended_use": "Research only.",
        "maesegment": {"kind": "segmentation", "channels": ["T1", "FLAIR"], "metrics": {}, "licence": "MIT"},
    }
    return SimpleNamespace(
        name="tumour-mr",
        version="1.0.0",
        metadata=metadata,
        labels=(Label(1, "tumour"),),
        content_hash="two",
        locator=None,
        channels=("T1", "FLAIR"),
        card="# tumour-mr",
        path=Path("nowhere"),
    )


@pytest.fixture
def volume(panel: Any, add_volume: Callable[..., Any], settle: Callable[[], None]) -> Any:
    """A scan that is chosen, with the model for the hippocampus."""
    node = add_volume("MNI152 head")
    panel.parameters.modelName = "hippocampus-mr@2.0.0"
    settle()
    return node


@pytest.fixture
def improve(volume: Any, ui: Any) -> Any:
    """The section Improve, open; the scan."""
    ui.improveCollapsibleButton.collapsed = False
    return volume


@pytest.fixture
def segmentation(panel: Any, improve: Any, add_result: Callable[..., Any], settle: Callable[[], None]) -> Any:
    """A corrected result of the scan is chosen."""
    node, _summary = add_result(improve, panel.bundle)
    panel.parameters.outputSegmentation = node
    settle()
    return node


@pytest.fixture
def store(fake_logic: Any) -> Any:
    """The folder of cases."""
    return fake_logic.store


@pytest.fixture
def new_version(fake_logic: Any) -> Any:
    """hippocampus-mr 2.1.0, a child of the shipped one, among the models."""
    base = next(bundle for bundle in fake_logic.bundles if bundle.name == "hippocampus-mr")
    new = version_of(base, "2.1.0")
    fake_logic.bundles = [*fake_logic.bundles, new]
    return new


def choose(combo: Any, text: str) -> None:
    """As a user does who reads the list."""
    index = combo.findText(text)
    assert index >= 0, [combo.itemText(number) for number in range(combo.count)]
    combo.setCurrentIndex(index)


def texts_of(table: Any, column: int) -> list[str]:
    """What stands in a column."""
    return [table.item(row, column).text() for row in range(table.rowCount)]
