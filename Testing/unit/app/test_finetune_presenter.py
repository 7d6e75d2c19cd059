"""Fine-tuning as both panels show it: what is missing, a run under way, and the decision about its result."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from MAESegmentLib.app.finetuning import FineTuneJob
from MAESegmentLib.errors import OutputError, TrainingError, WorkerError
from MAESegmentLib.images.labels import Label
from MAESegmentLib.runs import Curves, RunRequest, RunState, RunStatus
from Testing.fake_logic import RUNNING, FakeRun, case_record, run_curves, run_result
from Testing.unit.app.learning import *  # noqa: F403
from Testing.unit.app.learning import ESTIMATE, actions

# Before ---------------------------------------------------------------------------------------------------------------


def no_model(host):
    host.bundle = None


def no_case(host):
    host.records = []


def validation_cases_only(host):
    host.records = [case_record(1, role="check")]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (no_model, "Choose a model."),
        (no_case, "Add a corrected case first."),
        (validation_cases_only, "All cases are validation cases: use at least one for training."),
    ],
)
def test_what_is_missing_is_the_reason_why_it_cannot_start(presenter, host, change, reason):
    assert presenter.state().start.is_enabled
    change(host)
    state = presenter.state()
    assert (state.start.is_enabled, state.start.tip) == (False, reason)
    assert not state.estimate.is_enabled


def test_reason_of_the_panel_around_comes_first(presenter, host):
    host.records = []
    assert presenter.state("Packages are missing.").start.tip == "Packages are missing."


def test_plan_names_cases_base_and_how_it_is_validated(presenter):
    assert presenter.state().plan.splitlines() == [
        "4 cases, 1 for validation. Base: hippocampus-mr 2.0.0.",
        "The validation cases show whether the model improves.",
    ]


@pytest.mark.parametrize(
    ("count", "text"), [(0, "Add corrected"), (1, "cannot be validated"), (4, "indicative only"), (5, "are held out")]
)
def test_plan_depends_on_the_number_of_cases(presenter, host, count, text):
    host.records = [case_record(number) for number in range(1, count + 1)]
    assert text in presenter.state().plan


def test_estimate_is_measured_on_request_and_forgotten_with_other_cases(logic, presenter, host):
    presenter.estimate()
    assert not presenter.state().estimate.is_enabled
    assert presenter.state().start.is_enabled, "starting does not wait for it"
    logic.last("estimateFineTune").succeed(ESTIMATE)
    plan = presenter.state().plan
    assert "About 12 min for 800 steps on NVIDIA T4 (measured); needs 1.1 of 12 GB of free memory." in plan
    assert "\u26a0 The disk is slow." in plan
    host.records.pop()
    assert "measured" not in presenter.state().plan


def test_estimate_under_way_is_cancelled_when_what_it_measures_changes(logic, presenter):
    presenter.estimate()
    presenter.set_steps("12")
    assert presenter.state().estimate.is_enabled
    job = logic.last("estimateFineTune")
    assert job.cancel_requested
    job.succeed(ESTIMATE)
    assert "measured" not in presenter.state().plan


def test_other_steps_forget_the_estimate_on_the_screen(logic, presenter):
    presenter.estimate()
    logic.last("estimateFineTune").succeed(ESTIMATE)
    shown = []
    presenter.changed = lambda: shown.append(presenter.state().plan)
    presenter.set_steps("12")
    assert len(shown) == 1
    assert "measured" not in shown[0]
    presenter.set_steps("12")
    assert len(shown) == 1


def test_estimate_that_fails_is_reported(logic, presenter, host):
    presenter.estimate()
    error = TrainingError("Too little memory.")
    logic.last("estimateFineTune").fail(error)
    assert host.errors == [error]
    assert presenter.state().estimate.is_enabled


# Under way ------------------------------------------------------------------------------------------------------------


def test_start_takes_all_cases_the_chosen_model_and_device(logic, presenter, host):
    host.device = "cpu"
    presenter.estimate()
    presenter.start()
    assert logic.last("estimateFineTune").cancel_requested
    assert logic.runs[-1].arguments == {"cases": None, "model": host.bundle, "device": "cpu", "minutes": 10.0}
    state = presenter.state()
    assert state.run.is_running
    assert (state.start.is_enabled, state.start.tip) == (False, "A fine-tuning is running.")


def test_double_click_starts_one_run_without_an_error(logic, presenter, host):
    presenter.start()
    logic.refusals["fineTune"] = TrainingError("A fine-tuning is running.")
    presenter.start()
    assert (len(logic.runs), host.errors) == (1, [])


def test_chosen_steps_are_validated_four_times(logic, presenter):
    presenter.set_steps(" 200 ")
    presenter.start()
    assert logic.runs[-1].arguments.items() >= {"steps": 200, "validate_every": 50}.items()


@pytest.mark.parametrize("steps", ["0", "-3", "many", "1.5", "/etc/passwd"])
def test_what_is_not_a_number_of_steps_is_refused(logic, presenter, host, steps):
    presenter.set_steps(steps)
    presenter.start()
    assert logic.runs == []
    assert host.errors[0].code == "configuration"
    assert steps in host.errors[0].message


@pytest.mark.parametrize("error", [WorkerError("No Python was found."), PermissionError(13, "Permission denied")])
def test_refusal_to_start_is_reported(logic, presenter, host, error):
    logic.refusals["fineTune"] = error
    presenter.start()
    assert len(host.errors) == 1
    assert presenter.state().run is None


def test_progress_is_text_and_fraction(presenter, run):
    run.tell(RUNNING)
    view = presenter.state().run
    assert view.text == "Training, step 120 of 280. Ends at about 14:31 (7 min left), on NVIDIA T4."
    assert view.fraction == 0.43
    assert presenter.summary == "fine-tuning, 43 %"


def test_colours_are_those_of_the_model_that_the_run_began_with(logic, host, presenter, run):
    base = logic.models()[0]
    run.run.request = RunRequest(base.reference, "", "", ("case-0001",))
    host.bundle = SimpleNamespace(name="other", version="1.0.0", content_hash="o", labels=(Label(1, "spleen"),))
    run.tell(RUNNING, Curves(dice=((20, {base.labels[0].name: 0.5, "mean": 0.5}),)))
    assert presenter.state().run.colours[base.labels[0].name] == base.labels[0].colour


def test_dice_is_shown_label_by_label_before_and_now_in_the_colours_of_model_and_cases(presenter, run):
    assert presenter.state().run.dice == ()
    run.tell(RUNNING, run_curves(120))
    view = presenter.state().run
    assert view.dice_titles == ("Dice", "Before", "Now")
    assert [row.name for row in view.dice] == ["Mean", "anterior", "posterior"]
    assert [row.before for row in view.dice] == ["0.71", "0.70", "0.72"]
    assert view.dice[0].after > "0.71"
    assert [row.colour for row in view.dice] == [None, (1, 2, 3), (4, 5, 6)]


def test_stop_keeps_the_best_as_soon_as_something_was_learned(presenter, run):
    assert not presenter.state().run.stop.is_enabled
    run.tell(RUNNING)
    assert presenter.state().run.stop.is_enabled
    presenter.stop()
    assert run.asked == ["stop"]
    assert not presenter.state().run.stop.is_enabled


def test_discarding_is_asked_before_it_is_done(presenter, run, host):
    run.tell(RUNNING, run_curves(40))
    presenter.ask_discard()
    assert actions(presenter.state().run.discarding) == ["discard", "keep_training"]
    presenter.act("keep_training")
    assert run.asked == []
    assert presenter.state().run.discarding is None
    presenter.ask_discard()
    presenter.act("discard")
    assert run.asked == ["discard"]
    assert presenter.state().run is None
    assert host.notes == ["Discarded. Your models are unchanged."]
    assert presenter.state().start.is_enabled


def test_run_that_is_being_discarded_cannot_be_stopped_or_discarded_again(presenter, run):
    run.tell(RUNNING)
    run.discard = lambda: None
    presenter.ask_discard()
    presenter.act("discard")
    view = presenter.state().run
    assert not view.discard.is_enabled
    assert not view.stop.is_enabled


def test_run_of_an_earlier_session_is_found_the_running_one_first(logic, presenter):
    for state in (RunState.DONE, RunState.RUNNING, RunState.FAILED):
        logic.runs.append(FakeRun())
        logic.runs[-1].status = RunStatus(state)
    presenter.look_for_runs()
    assert presenter.job is logic.runs[1]


@pytest.mark.parametrize(
    ("name", "chosen", "title"),
    [
        ("", "hippocampus-mr", "Fine-tuning of hippocampus-mr 2.0.0"),
        ("mine-mr", "mine-mr", "Fine-tuning of hippocampus-mr 2.0.0, to be called mine-mr"),
        ("", "headneck-ct", "Fine-tuning of hippocampus-mr 2.0.0 (not of headneck-ct, which is chosen now)"),
    ],
)
def test_found_run_names_its_model_and_base_whichever_is_chosen(logic, presenter, host, name, chosen, title):
    run = FakeRun(RunStatus(RunState.INTERRUPTED))
    run.run.request = replace(run.run.request, base={"name": "hippocampus-mr", "version": "2.0.0"}, name=name)
    logic.runs.append(run)
    host.bundle = SimpleNamespace(name=chosen, version="1.0.0", content_hash="h", labels=())
    presenter.look_for_runs()
    assert presenter.state().run.title == title


def test_interrupted_run_can_be_resumed_or_discarded(logic, presenter):
    run = FakeRun()
    run.status = RunStatus(RunState.INTERRUPTED, fraction=0.43)
    logic.runs.append(run)
    presenter.look_for_runs()
    view = presenter.state().run
    assert view.banner.text == "Fine-tuning was interrupted at 43 %; its progress is saved."
    assert actions(view.banner) == ["resume", "discard"]
    assert not view.is_running
    assert not presenter.state().start.is_enabled
    assert presenter.summary == "fine-tuning interrupted"
    presenter.act("resume")
    assert presenter.state().run.banner is None
    run.tell(RunStatus(RunState.FAILED, error=TrainingError("The loss is not finite.", "Look at the cases.")))
    assert presenter.state().run.banner.text == "The loss is not finite. Look at the cases."
    presenter.act("discard")
    assert run.asked == ["resume", "discard"]
    assert presenter.state().run is None


# Finished -------------------------------------------------------------------------------------------------------------


def test_banner_says_what_it_was_good_for_and_the_new_version_is_listed_once(presenter, run, host):
    run.finish(run_result())
    run.finish(run_result())
    banner = presenter.state().run.banner
    assert banner.text == "hippocampus-mr 2.1.0: mean Dice 0.71 -> 0.83 on 4 held-out cases; 1 case got worse."
    assert actions(banner) == ["accept", "decline", "compare"]
    assert [row.after for row in presenter.state().run.dice] == ["0.83", "0.82", "0.84"]
    assert host.lists_of_models == 1
    assert presenter.summary == "fine-tuning finished"


def test_outcome_is_listed_case_by_case_and_label_by_label(presenter, run):
    run.finish(run_result())
    rows = presenter.state().run.outcome
    assert [(row.case, row.label, row.change) for row in rows] == [
        ("case-0005", "Mean", "0.70 \u2192 0.86"),
        ("", "anterior", "0.69 \u2192 0.85"),
        ("", "posterior", "0.71 \u2192 0.87"),
        ("case-0006", "Mean", "0.75 \u2192 0.73 \u25be"),
    ]


@pytest.mark.parametrize(
    ("action", "answer", "version"), [("accept", "accept", "2.1.0"), ("decline", "decline", "2.0.0")]
)
def test_decision_is_noted_and_carried_out(presenter, run, host, action, answer, version):
    run.finish(run_result())
    presenter.act(action)
    assert run.asked == [answer]
    assert host.used == (["hippocampus-mr@2.1.0"] if action == "accept" else [])
    assert f"hippocampus-mr {version}" in host.notes[-1]
    assert presenter.state().run is None
    assert presenter.state().start.is_enabled


def test_keeping_the_old_one_leaves_the_new_one_that_was_chosen_meanwhile(presenter, run, host):
    run.finish(run_result())
    host.bundle = SimpleNamespace(name="hippocampus-mr", version="2.1.0", content_hash="new", labels=())
    presenter.act("decline")
    assert host.used == ["hippocampus-mr@2.0.0"]
    assert host.notes[-1] == "hippocampus-mr 2.0.0 is used from now on."


@pytest.mark.parametrize("chosen", ["2.0.0", "2.1.0"])
def test_keeping_the_old_one_is_what_the_name_means_afterwards(chosen):
    old, new = SimpleNamespace(content_hash="old"), SimpleNamespace(content_hash="new")
    selected = []
    models = SimpleNamespace(
        list=lambda: [old, new], selected=lambda _name: new if chosen == "2.1.0" else old, select=selected.append
    )
    job = FineTuneJob(SimpleNamespace(), models)
    job.status = RunStatus(RunState.DONE, result=run_result())
    job.decline()
    assert (selected, job.decision) == ([old] if chosen == "2.1.0" else [], "declined")


def test_decision_of_a_script_counts_too(presenter, run, host):
    run.finish(run_result())
    run.accept()
    assert host.used == ["hippocampus-mr@2.1.0"]
    assert presenter.state().run is None


def test_decision_that_cannot_be_noted_is_asked_again(presenter, run, host):
    run.finish(run_result())
    run.refusal = OutputError("The disk is full.", "Free some space.")
    presenter.act("accept")
    assert host.errors[0].code == "output"
    assert presenter.state().run.banner is not None


def test_comparing_leaves_the_question_open(presenter, run, host):
    run.finish(run_result())
    presenter.act("compare")
    assert host.compared == [("hippocampus-mr@2.0.0", "hippocampus-mr@2.1.0")]
    assert presenter.state().run.banner is not None


def test_worse_version_is_not_recommended(presenter, run):
    run.finish(run_result(mean_after=0.69))
    banner = presenter.state().run.banner
    assert actions(banner)[0] == "decline"
    assert "It is not better than hippocampus-mr 2.0.0: keep the old one." in banner.text


def test_nothing_measured_advises_to_compare(presenter, run):
    run.finish(run_result(mean_before=None, mean_after=None, before=None, after=None, per_case=(), cases=1))
    view = presenter.state().run
    assert view.banner.text.endswith("nothing was measured.\nCompare both on a scan before you decide.")
    assert (view.outcome, view.dice) == ((), ())


def test_leave_one_out_is_called_indicative(presenter, run):
    run.finish(run_result(how="leave-one-out", indicative_only=True, notes=("Trained on one device.",)))
    text = presenter.state().run.banner.text
    assert "leave-one-out (indicative only)" in text
    assert text.endswith("Trained on one device.")


def test_the_next_undecided_run_follows(logic, presenter, run):
    other = FakeRun()
    other.run = SimpleNamespace(id="run-2", request=run.run.request)
    other.status = RunStatus(RunState.INTERRUPTED, fraction=0.1)
    logic.runs.append(other)
    run.finish(run_result())
    presenter.act("decline")
    assert "interrupted at 10 %" in presenter.state().run.banner.text


def test_closed_panel_hears_nothing_and_the_run_continues(presenter, run, host):
    presenter.close()
    run.tell(RUNNING, Curves())
    run.tell(replace(RUNNING, state=RunState.FAILED))
    assert run.asked == host.errors == []
