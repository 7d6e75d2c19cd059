"""A panel in which everything is chosen, around the presenter of Segment; `from ... import *` gives its fixtures."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from MAESegmentLib.app.presenters.elements import Message
from MAESegmentLib.app.presenters.remedies import OfferContext, Remedy
from MAESegmentLib.app.presenters.segment import SegmentPresenter
from MAESegmentLib.app.session import LogBuffer
from Testing.fake_logic import FakeLogic


class Host:
    """A panel in which everything is chosen."""

    def __init__(self):
        self.bundle = SimpleNamespace(name="hippocampus-mr", content_hash="h", metadata={"maesegment": {}})
        self.nodes = ["scan"]
        self.output, self.region = None, None
        self.options = {"device": "auto"}
        self.blocked = self.missing = ""
        self.problem = None
        self.starting = False
        self.message = Message()
        self.results = []
        self.opened_log = False
        self.remedies = {
            Remedy.USE_CPU: lambda: self.options.update(device="cpu"),
            Remedy.USE_AUTO_DEVICE: lambda: self.options.update(device="auto"),
            Remedy.ADD_ROI: lambda: setattr(self, "region", "box"),
            Remedy.HARDEN: self.harden,
            Remedy.SHOW_LOG: lambda: setattr(self, "opened_log", True),
            Remedy.CHOOSE_FOLDER: lambda: None,
            Remedy.COPY_DIAGNOSTICS: lambda: None,
        }
        self.cannot_harden = None

    @property
    def offer_context(self):
        return OfferContext(has_roi=self.region is not None, device=self.options["device"])

    def harden(self):
        if self.cannot_harden is not None:
            raise self.cannot_harden
        self.nodes, self.problem = ["hardened"], None

    def is_starting(self):
        return self.starting

    def show(self, message):
        self.message = message

    def show_result(self, job):
        self.results.append(job.result())


@pytest.fixture
def logic():
    return FakeLogic(SimpleNamespace(log=LogBuffer()), None)


@pytest.fixture
def host():
    return Host()


@pytest.fixture
def drawn():
    """One entry for each time that progress was drawn."""
    return []


@pytest.fixture
def presenter(logic, host, drawn):
    presenter = SegmentPresenter(logic, host, lambda: None, lambda: drawn.append(presenter))
    presenter.double_click_s = 0.0
    return presenter


@pytest.fixture
def start(logic, presenter):
    """Press Segment; returns the job."""

    def start():
        presenter.press()
        return logic.jobs[-1]

    return start


@pytest.fixture
def offers(host):
    return lambda: [offer.key for offer in host.message.options]
