"""Segmenting many as both panels show it: what is missing, a row for each, and what is said in the end."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from MAESegmentLib.app.presenters.batch import BatchPresenter
from MAESegmentLib.jobs import JobState
from Testing.unit.app.segmenting import *  # noqa: F403


@pytest.fixture
def batches(logic, presenter):
    return BatchPresenter(logic, presenter, lambda: None)


def volumes(*names):
    return [SimpleNamespace(GetName=lambda name=name: name) for name in names]


@pytest.fixture
def batch(logic, batches):
    """Three volumes that are being segmented."""
    batches.start_volumes(volumes("First", "Second", "Third"))
    return logic.last("batch")


def outcomes(batches):
    return [outcome for _name, outcome in batches.state().rows]


def test_buttons_say_what_is_missing(presenter, batches, start):
    ticked, frames = batches.controls(0, 0)
    assert (ticked.is_enabled, ticked.tip) == (False, "Tick the volumes to segment.")
    assert (frames.is_enabled, frames.tip) == (False, "The input volume belongs to no sequence.")
    ticked, frames = batches.controls(2, 3)
    assert ticked.is_enabled
    assert (frames.is_enabled, frames.text) == (True, "Segment all 3 frames")
    start()
    assert {control.tip for control in batches.controls(2, 3)} == {presenter.general_reason}


def test_settings_of_the_panel_hold_and_only_frames_take_the_region(logic, host, batches, batch):  # noqa: ARG001
    host.region = "box"
    assert logic.last("batch").arguments["model"] is host.bundle
    assert "roi" not in logic.last("batch").arguments
    for _row in range(3):
        logic.last("batch").end_row(JobState.FAILED)
    batches.start_frames("frame")
    assert (logic.last("batch").arguments["volume"], logic.last("batch").arguments["roi"]) == ("frame", "box")


def test_table_shows_what_became_of_each(presenter, host, batches, batch):
    assert presenter.state().is_running
    assert batches.state().rows == (("First", "queued"), ("Second", "queued"), ("Third", "queued"))
    batch.end_row(JobState.DONE)
    batch.rows[1].state = JobState.RUNNING
    batch.current.go_on("segment", 0.5, 3.0)
    assert outcomes(batches) == ["done", "running", "queued"]
    assert presenter.state().text == "2 of 3: Segmenting, about 3 s left"
    batch.end_row(JobState.FAILED, "It is a slice.")
    batch.end_row(JobState.DONE, "Unlike the training scans.")
    assert outcomes(batches) == ["done", "failed: It is a slice.", "done Unlike the training scans."]
    assert host.message.text == "2 of 3 segmented; the table says why the others were not."
    assert not presenter.state().is_running


def test_all_segmented_is_said_in_a_word_until_the_volumes_are_closed(presenter, host, batches, batch):
    for _row in range(3):
        batch.end_row(JobState.DONE)
    assert host.message.text == "All 3 segmented."
    batches.clear()
    assert (host.message.text, batches.state().rows) == ("", ())
    presenter.say("Something else.")
    batches.clear()
    assert host.message.text == "Something else."


def test_cancelled_batch_says_what_is_done(presenter, host, batches, batch):
    batch.end_row(JobState.DONE)
    presenter.press()
    assert batch.cancel_requested
    batch.end_row(JobState.CANCELLED)
    batch.end_row(JobState.CANCELLED)
    assert host.message.text == "Cancelled; 1 of 3 segmented."
    assert outcomes(batches)[1:] == ["cancelled", "cancelled"]


def test_second_batch_starts_a_new_table(logic, batches, batch):
    for _row in range(3):
        batch.end_row(JobState.FAILED)
    batches.start_volumes(volumes("Fourth"))
    assert logic.last("batch") is not batch
    assert batches.state().rows == (("Fourth", "queued"),)


def test_rows_that_cannot_have_changed_are_not_looked_at(batches, batch):
    """A long sequence has hundreds of rows, and progress comes ten times a second."""
    batch.end_row(JobState.FAILED)
    batch.rows[2].state = JobState.RUNNING
    batch.current.go_on("segment", 0.1)
    assert outcomes(batches)[2] == "queued"


def test_closing_the_scene_ends_the_batch_with_a_note(presenter, host, batches, batch):
    presenter.scene_start_close()
    batches.clear()
    for _row in range(3):
        batch.end_row(JobState.CANCELLED)
    assert host.message.text == "The scene was closed, so the segmentation was cancelled."
    assert batches.state().rows == ()
