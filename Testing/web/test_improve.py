"""What the page sends back to the section Improve, with the page's real state and no browser."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from unittest.mock import MagicMock
from zoneinfo import ZoneInfo

import pytest
from trame.app import get_server

from MAESegmentLib.web.panels import improve
from Testing import slicer_core
from Testing.fake_logic import RUNNING, FakeLogic, case_record


@pytest.fixture
def scene():
    slicer_core.fresh_scene()
    yield
    slicer_core.fresh_scene()


@pytest.fixture
def logic():
    return FakeLogic()


@pytest.fixture
def panel(scene, logic):  # noqa: ARG001
    state = get_server("improve").state
    state.ready()
    workspace = SimpleNamespace(scan=None, scans=[], segmentation=None, difference=None, add_listener=lambda _act: None)
    app = MagicMock(state=state, logic=logic, session=logic.session, workspace=workspace)
    panel = improve.ImprovePanel(app, MagicMock(bundle=logic.bundles[0], region=None, device="cpu"), MagicMock())
    panel.update()
    return panel


def test_leave_one_out_stays_chosen_while_there_is_nothing_to_choose(panel):
    state = panel.app.state
    assert panel.finetune.state().choices.validates is None
    panel.cases.records = [case_record(1), case_record(2)]
    panel._show_run()
    assert (panel.finetune.state().choices.validates, state.improve_validates) == (True, True)
    state.improve_validates = False
    state.flush()
    assert panel.finetune.state().choices.validates is False


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "America/Caracas", "", "../etc/passwd", "No/where", None, 7])
def test_a_training_ends_by_the_clock_of_the_browser(panel, logic, zone):
    panel.cases.records = [case_record(1), case_record(2)]
    panel.finetune.start()
    logic.runs[-1].tell(replace(RUNNING, eta_s=60.0))
    panel.app.state.time_zone = zone
    panel.app.state.flush()
    where = ZoneInfo(zone) if str(zone).startswith(("Pacific", "America")) else None
    minutes = {f"{datetime.now(where) + timedelta(seconds=seconds):%H:%M}" for seconds in (55, 60)}
    assert any(f"Ends at about {minute}" in panel.app.state.improve_run["text"] for minute in minutes)
