"""What is chosen before a fine-tuning: the time, how it is validated, scans without labels; and when it will end."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime
from types import SimpleNamespace

import pytest

from MAESegmentLib.app.presenters.learning.finetune import FineTunePresenter
from MAESegmentLib.app.presenters.learning.training_choices import TIME, time_options
from MAESegmentLib.app.texts.learning import run_text
from Testing.fake_logic import RUNNING, case_record
from Testing.unit.app.learning import *  # noqa: F403
from Testing.unit.app.learning import ESTIMATE


def test_standard_time_is_taken_until_another_is_chosen_which_is_kept(logic, presenter, host):
    state = presenter.state().choices
    assert (state.time, state.notice) == ("standard", "")
    presenter.set_time("overnight")
    presenter.start()
    assert logic.runs[-1].arguments.items() >= {"minutes": 480.0, "until_no_better": True}.items()
    again = FineTunePresenter(logic, host, lambda: None)
    assert again.state().choices.time == "overnight"


def test_times_are_named_as_long_as_they_are():
    assert [option.text for option in time_options()] == [
        "Quick (2 min)",
        "Standard (10 min)",
        "Thorough (1 h)",
        "Overnight (until it stops getting better)",
    ]


@pytest.mark.parametrize("kept", ["", "weekend", "\x00"])
def test_time_that_is_not_offered_is_not_taken(logic, presenter, kept):
    logic.session.kept[TIME] = kept
    presenter.set_time("a year")
    assert presenter.state().choices.time == "standard"


def test_steps_take_the_place_of_the_time_and_say_so(logic, presenter):
    presenter.set_steps("40")
    assert "takes the place of the time" in presenter.state().choices.notice
    assert presenter.state().estimate.text == "Estimate time"
    presenter.start()
    assert "minutes" not in logic.runs[-1].arguments
    presenter.set_steps(" ")
    assert presenter.state().choices.notice == ""
    assert presenter.state().estimate.text == "Estimate steps"


def test_another_time_forgets_the_estimate(logic, presenter):
    presenter.estimate()
    assert logic.last("estimateFineTune").arguments["minutes"] == 10.0
    logic.last("estimateFineTune").succeed(ESTIMATE)
    presenter.set_time("quick")
    assert "measured" not in presenter.state().plan
    presenter.estimate()
    logic.last("estimateFineTune").succeed(ESTIMATE)
    presenter.set_scans("folder", "/scans")
    assert "measured" not in presenter.state().plan, "a step takes longer with them"
    presenter.estimate()
    assert logic.last("estimateFineTune").arguments["unlabelled"] == "/scans"


@pytest.mark.parametrize(
    ("roles", "has_choice"),
    [("t", False), ("tt", True), ("tttt", True), ("ttc", False), ("ttttt", False), ("ttttc", False)],
)
def test_leave_one_out_is_a_choice_where_there_is_no_other_way(logic, presenter, host, roles, has_choice):
    names = {"t": "train", "c": "check"}
    host.records = [case_record(number, role=names[role]) for number, role in enumerate(roles, start=1)]
    assert (presenter.state().choices.validates is not None) == has_choice
    presenter.set_validates(False)
    state = presenter.state()
    assert ("not estimated" in state.plan) == has_choice
    presenter.start()
    assert (logic.runs[-1].arguments.get("validation") == "none") == has_choice


def test_leave_one_out_of_steps_says_what_it_costs(presenter, host):
    host.records = [case_record(number) for number in (1, 2, 3)]
    assert "within this time" in presenter.state().choices.validation_text
    presenter.set_steps("100")
    state = presenter.state().choices
    assert "4 times as long" in state.validation_text
    assert "3 more trainings of as many steps" in state.validation_tip


def test_scans_without_labels_are_named_and_handed_on(logic, presenter, host):
    assert presenter.state().choices.scans_note == ""
    presenter.set_scans("scene")
    state = presenter.state()
    assert (state.start.is_enabled, state.start.tip) == (False, state.choices.scans_note)
    host.more = [SimpleNamespace(GetName=lambda name=name: name) for name in "ABCDEF"]
    assert presenter.state().choices.scans_note.startswith("A, B, C, D, 2 more. The model also learns from")
    presenter.start()
    assert logic.runs[-1].arguments["unlabelled"] is host.more


def test_folder_of_scans_is_asked_for_before_it_is_learnt_from(logic, presenter):
    presenter.set_scans("folder")
    assert "Choose a folder" in presenter.state().start.tip
    presenter.start()
    assert logic.runs == []
    presenter.set_scans("folder", "/scans")
    presenter.start()
    assert logic.runs[-1].arguments["unlabelled"] == "/scans"


def test_source_that_is_not_offered_is_not_taken(logic, presenter):
    presenter.set_scans("/etc")
    presenter.start()
    assert "unlabelled" not in logic.runs[-1].arguments


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="The time zone is the system's.")
def test_the_end_is_by_the_clock_on_the_wall_when_that_is_put_back(monkeypatch):
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    try:
        evening = datetime(2026, 10, 24, 22, 0)
        status = replace(RUNNING, eta_s=8 * 3600.0)
        assert "Ends at about 05:00 tomorrow (8.0 h left)" in run_text(status, evening)
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(400.0, "Ends at about 14:31 (7 min left)"), (36000.0, "00:25 tomorrow (10.0 h left)"), (2e5, "2026-12-02 21:58")],
)
def test_end_is_a_time_of_the_clock(presenter, run, seconds, text):
    run.tell(replace(RUNNING, eta_s=seconds))
    assert text in presenter.state().run.text


def test_run_that_ends_when_it_gets_no_better_may_end_earlier(presenter, run):
    run.run.request = replace(run.run.request, settings={"minutes": 480.0, "until_no_better": True})
    run.tell(RUNNING)
    assert "Ends at 14:31 at the latest" in presenter.state().run.text


def test_run_by_time_says_how_it_ends_when_it_is_stopped_and_can_be_hurried(presenter, run):
    run.run.request = replace(run.run.request, settings={"minutes": 10.0})
    run.tell(RUNNING)
    stop = presenter.state().run.stop
    assert (stop.text, stop.is_enabled) == ("Stop and keep", True)
    assert "(annealing) within about 30 s" in stop.tip, "a tenth of the 300 s that it took"
    run.tell(replace(RUNNING, seconds=4 * 3600.0))
    assert "(annealing) within about 60 s" in presenter.state().run.stop.tip
    run.tell(replace(RUNNING, stage="fold", fold=(1, 3)))
    assert presenter.state().run.stop.tip.startswith("End leave-one-out now: the model is trained already")
    run.tell(RUNNING)
    presenter.stop()
    stop = presenter.state().run.stop
    assert (stop.text, stop.is_enabled) == ("Finish at once", True)
    presenter.stop()
    assert run.asked == ["stop", "stop"]


def test_what_was_left_out_is_named_while_it_runs(presenter, run):
    run.run.request = replace(run.run.request, notes=("Left out: Blank.",))
    run.tell(replace(RUNNING, warnings=("Left out: a CT.",)))
    assert presenter.state().run.text.splitlines()[1:] == ["\u26a0 Left out: Blank.", "\u26a0 Left out: a CT."]
