"""A logic that a test leads and a panel around a presenter, both without a toolkit and a scene."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from MAESegmentLib.jobs import QueueLoop
from Testing.fake_logic import FakeLogic, version_of


class Loop(QueueLoop):
    def run(self) -> None:
        """Until nothing is due any more."""
        assert self.wait_until(lambda: not (self._timers or self._posted or self._steps), 30)


@dataclass
class Host:
    """What is chosen, and what a presenter asked of the panel."""

    bundle: Any = None
    volume: Any = "scan"
    segmentation: Any = "segmentation"
    roi: Any = None
    device: str = "cpu"
    errors: list[str] = field(default_factory=list)
    shown: list[Any] = field(default_factory=list)
    refreshed: int = 0
    is_storing: bool = False
    removed: list[str] = field(default_factory=list)
    offered: Any = ()
    on_use: Callable[[str], None] = lambda _name: None

    @property
    def scan(self) -> Any:
        return self.volume

    def failed(self, error: Exception) -> None:
        self.errors.append(getattr(error, "message", str(error)))

    def refresh(self) -> None:
        self.refreshed += 1

    def show_case(self, scan: Any, segmentation: Any) -> None:
        self.shown.append((scan, segmentation))

    def show_comparison(self, segmentation: Any) -> None:
        self.shown.append(segmentation)

    def show_scan(self, source: Any, position: Any) -> None:
        self.shown.append((source, position))

    def scans(self, source: str, folder: str) -> Any:
        return folder if source == "folder" else self.offered

    def set_storing(self, is_storing: bool) -> None:
        self.is_storing = is_storing

    def case_removed(self, case: str) -> None:
        self.removed.append(case)

    def use_model(self, name: str) -> None:
        self.on_use(name)

    def models_changed(self) -> None:
        self.refreshed += 1


@pytest.fixture
def logic() -> FakeLogic:
    return FakeLogic(SimpleNamespace(loop=Loop()))


@pytest.fixture
def host(logic: FakeLogic) -> Host:
    """The shipped hippocampus model is chosen, and what `use_model` names."""
    host = Host()

    def use(name: str) -> None:
        host.bundle = next(one for one in logic.models() if f"{one.name}@{one.version}" == name)

    host.on_use = use
    host.on_use(next(f"{one.name}@{one.version}" for one in logic.models() if one.name == "hippocampus-mr"))
    return host


@pytest.fixture
def new_version(logic: FakeLogic, host: Host) -> Any:
    """hippocampus-mr 2.1.0, a child of the shipped one, is chosen."""
    new = version_of(host.bundle, "2.1.0")
    logic.bundles = [*logic.bundles, new]
    host.use_model("hippocampus-mr@2.1.0")
    return new
