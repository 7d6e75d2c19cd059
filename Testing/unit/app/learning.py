"""A panel with four cases around the presenter of fine-tuning; `from ... import *` gives its fixtures."""

from __future__ import annotations

from datetime import datetime
from types import SimpleNamespace

import pytest

from MAESegmentLib.app.presenters.learning.finetune import FineTunePresenter
from MAESegmentLib.images.labels import Label
from Testing.fake_logic import GIB, FakeLogic, case_record

ESTIMATE = SimpleNamespace(
    seconds=720.0,
    steps=800,
    memory_bytes=1.1 * GIB,
    free_bytes=12 * GIB,
    device_title="NVIDIA T4",
    warnings=("The disk is slow.",),
)


class Host:
    """The panel around, with four cases, one of them for validation."""

    def __init__(self):
        self.bundle = SimpleNamespace(
            name="hippocampus-mr", version="2.0.0", content_hash="h", labels=(Label(1, "anterior", (1, 2, 3)),)
        )
        self.device = "auto"
        self.records = [case_record(1), case_record(2), case_record(3), case_record(4, role="check")]
        self.labels = [Label(2, "posterior", (4, 5, 6)), Label(1, "anterior", (9, 9, 9))]
        self.errors, self.notes, self.used, self.compared = [], [], [], []
        self.lists_of_models = 0
        self.note, self.failed, self.use_model = self.notes.append, self.errors.append, self.used.append
        self.more: list[str] = []

    def models_changed(self):
        self.lists_of_models += 1

    def compare(self, *versions):
        self.compared.append(versions)

    def refresh(self):
        pass

    def more_scans(self, source, folder):
        return folder if source == "folder" else self.more


@pytest.fixture
def logic():
    return FakeLogic()


@pytest.fixture
def host():
    return Host()


@pytest.fixture
def presenter(logic, host):
    return FineTunePresenter(logic, host, lambda: None, lambda: datetime(2026, 11, 30, 14, 25, 10))


@pytest.fixture
def run(logic, presenter):
    """A fine-tuning that was started from the panel."""
    presenter.start()
    return logic.runs[-1]


def actions(question):
    return [option.key for option in question.options]
