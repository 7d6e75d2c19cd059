"""Which case next: scans in the order in which the model has most to learn from them."""

from __future__ import annotations

import pytest

from MAESegmentLib.app.presenters.next_case import NextCasePresenter
from MAESegmentLib.errors import Cancelled, GeometryError, WorkerError
from Testing.fake_logic import Ranked


@pytest.fixture
def suggesting(logic, host):
    """Two scans are open."""
    host.offered = ["first", "second"]
    suggesting = NextCasePresenter(logic, host, lambda: None)
    suggesting.double_click_s = 0.0
    suggesting.update("")
    return suggesting


def job_of(logic, *rows):
    job = logic.last("nextCases")
    job.rows[:] = rows
    return job


SECOND = Ranked("Second", "second", score=0.42, entropy=0.42, position=(3.0, -4.0, 12.0))
FIRST = Ranked("First", "first", score=0.11, entropy=0.11)
BROKEN = Ranked("Broken", "broken", error=GeometryError("Broken has 1 slice: it is not a volume."))


def test_without_a_scan_there_is_nothing_to_rank(logic, host, suggesting):
    host.offered = []
    suggesting.update()
    assert "without a corrected case" in suggesting.state.blocked
    suggesting.press()
    host.bundle = None
    suggesting.update()
    assert suggesting.state.blocked == "Choose a model."
    suggesting.update("No Python was found.")
    assert suggesting.state.tip == "No Python was found."
    assert logic.jobs_of == {}


def test_scans_come_in_the_order_of_what_is_to_be_learned(logic, host, suggesting):
    suggesting.press()
    assert logic.called("nextCases") == [[["first", "second"], host.bundle, None]]
    job_of(logic, SECOND, Ranked("First", "first")).go_on("First", 0.4)
    state = suggesting.state
    assert (state.is_running, state.fraction, state.stage) == (True, 0.4, "Segmenting First")
    assert [row.why for row in state.rows] == ["uncertainty 0.42", "waiting"]
    job_of(logic, SECOND, FIRST, BROKEN).succeed([])
    state = suggesting.state
    assert [row.place for row in state.rows] == ["1", "2", "\u2013"]
    assert [row.name for row in state.rows] == ["Second", "First", "Broken"]
    assert state.rows[2].why == "Broken has 1 slice: it is not a volume."
    assert not state.is_running


def test_the_least_certain_slice_is_shown(logic, host, suggesting):
    suggesting.press()
    job_of(logic, SECOND, FIRST, BROKEN).succeed([])
    assert (suggesting.state.chosen, suggesting.state.can_show) == (0, True)
    suggesting.show(0)
    suggesting.show(2)
    suggesting.show(7)
    assert host.shown == [("second", (3.0, -4.0, 12.0))]
    suggesting.choose(2)
    assert not suggesting.state.can_show


@pytest.mark.parametrize(("picks", "chosen"), [(False, 0), (True, 1)])
def test_the_top_scan_is_chosen_unless_the_user_chose_another(logic, suggesting, picks, chosen):
    suggesting.press()
    job_of(logic, FIRST, Ranked("Second", "second")).go_on("Second", 0.5)
    if picks:
        suggesting.choose(0)
    job_of(logic, SECOND, FIRST).succeed([])
    assert suggesting.state.chosen == chosen


def test_a_scan_that_has_gone_is_told(logic, host, suggesting):
    suggesting.press()
    job_of(logic, SECOND).succeed([])

    def show_scan(_source, _position):
        raise GeometryError("Second is no longer in the scene.")

    host.show_scan = show_scan
    suggesting.show(0)
    assert host.errors == ["Second is no longer in the scene."]


def test_a_folder_of_scans(logic, suggesting):
    suggesting.set_source("folder")
    assert suggesting.state.blocked == "Choose a folder of scans."
    suggesting.set_folder("/data/scans")
    suggesting.press()
    assert logic.called("nextCases")[0][0] == "/data/scans"


def test_double_click_ranks_and_does_not_cancel(logic, suggesting):
    suggesting.double_click_s = 60.0
    suggesting.press()
    suggesting.press()
    assert not logic.last("nextCases").cancel_requested


@pytest.mark.parametrize("error", [Cancelled(), WorkerError("The worker ended.")])
def test_what_was_measured_before_the_end_stays(logic, host, suggesting, error):
    suggesting.press()
    assert suggesting.state.is_running
    suggesting.press()
    job = job_of(logic, SECOND, Ranked("First", "first"))
    assert job.cancel_requested
    job.fail(error)
    assert [row.name for row in suggesting.state.rows] == ["Second", "First"]
    assert not suggesting.state.is_running
    assert host.errors == [] if isinstance(error, Cancelled) else ["The worker ended."]


def test_a_refusal_is_shown(logic, host, suggesting):
    logic.refusals["nextCases"] = WorkerError("No Python was found.")
    suggesting.press()
    assert host.errors == ["No Python was found."]
    assert not suggesting.state.is_running


def test_closing_the_scene_forgets_the_scans(logic, suggesting):
    suggesting.press()
    job_of(logic, SECOND).go_on("First", 0.5)
    suggesting.clear()
    assert logic.last("nextCases").cancel_requested
    assert suggesting.state.rows == ()
