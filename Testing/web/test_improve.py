"""What the page sends back to the section Improve, with the page's real state and no browser."""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from trame.app import get_server

from MAESegmentLib.web.panels import improve
from Testing import slicer_core
from Testing.fake_logic import FakeLogic, case_record


@pytest.fixture
def scene():
    slicer_core.fresh_scene()
    yield
    slicer_core.fresh_scene()


@pytest.mark.usefixtures("scene")
def test_leave_one_out_stays_chosen_while_there_is_nothing_to_choose():
    state = get_server("improve").state
    state.ready()
    logic = FakeLogic()
    workspace = SimpleNamespace(scan=None, scans=[], segmentation=None, difference=None, add_listener=lambda _act: None)
    app = MagicMock(state=state, logic=logic, session=logic.session, workspace=workspace)
    panel = improve.ImprovePanel(app, MagicMock(bundle=logic.bundles[0], region=None, device="cpu"), MagicMock())
    panel.update()
    assert panel.finetune.state().choices.validates is None
    panel.cases.records = [case_record(1), case_record(2)]
    panel._show_run()
    assert (panel.finetune.state().choices.validates, state.improve_validates) == (True, True)
    state.improve_validates = False
    state.flush()
    assert panel.finetune.state().choices.validates is False
