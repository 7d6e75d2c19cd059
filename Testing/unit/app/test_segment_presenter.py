"""Segmenting as both panels show it: the one button, progress, the end, and what can be done about an error."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from MAESegmentLib.app.presenters.elements import Message
from MAESegmentLib.app.presenters.remedies import Remedy
from MAESegmentLib.errors import (
    EDITED_OUTPUT,
    LACKS_BOX,
    NONLINEAR_TRANSFORM,
    Cancelled,
    DeviceError,
    DeviceMemoryError,
    MismatchError,
    NodeError,
    OutputError,
    WorkerError,
)
from Testing.unit.app.segmenting import *  # noqa: F403

# The button -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"blocked": "Packages are missing.", "bundle": None, "missing": "Select a volume."}, "Packages are missing."),
        ({"bundle": None, "missing": "Select a volume."}, "Choose a model."),
        ({"missing": "Select a volume.", "problem": NodeError("A slice.")}, "Select a volume."),
        ({"problem": NodeError("A slice.", "Choose a volume.")}, "A slice. Choose a volume."),
    ],
)
def test_reason_why_it_cannot_start_is_the_first_that_holds(logic, presenter, host, changes, reason):
    assert presenter.state().button.is_enabled
    vars(host).update(changes)
    button = presenter.state().button
    assert (button.is_enabled, button.tip) == (False, reason)
    presenter.press()
    assert logic.jobs == []
    assert host.message.text == reason


def test_segment_becomes_cancel_and_back(presenter, host, start):
    job = start()
    assert presenter.state().button.text == "C&ancel"
    assert presenter.general_reason == "A segmentation is running."
    presenter.press()
    assert job.cancel_requested
    state = presenter.state()
    assert (state.button.text, state.button.is_enabled, state.is_cancelling) == ("Cancelling...", False, True)
    job.fail(Cancelled())
    assert presenter.state().button.text == "&Segment"
    assert (presenter.state().is_running, host.message.text) == (False, "Cancelled.")


def test_what_was_cancelled_of_another_scan_than_the_chosen_one_names_it(host, start):
    job = start()
    host.nodes = ["another scan"]
    job.fail(Cancelled())
    assert host.message.text == "Scan: Cancelled."


def test_double_click_starts_and_does_not_cancel(presenter, start):
    presenter.double_click_s = 60.0
    job = start()
    presenter.press()
    assert not job.cancel_requested


@pytest.mark.parametrize(("nodes", "given"), [(["scan"], "scan"), (["T1", "FLAIR"], ["T1", "FLAIR"])])
def test_what_is_chosen_reaches_the_logic(host, start, nodes, given):
    host.nodes, host.region, host.output = nodes, "box", "output"
    arguments = start().arguments
    assert arguments["volume"] == given
    assert (arguments["roi"], arguments["outputSegmentation"], arguments["overwrite"]) == ("box", "output", False)
    assert (arguments["model"], arguments["device"]) == (host.bundle, "auto")


# Progress -------------------------------------------------------------------------------------------------------------


def test_progress_is_stage_time_left_and_fraction(presenter, start):
    start().go_on("segment", 0.5, 8.2)
    state = presenter.state()
    assert state.text == "Segmenting, about 9 s left"
    assert 0.5 < state.fraction < 0.56


def test_start_of_the_process_has_no_fraction(presenter, host, start):
    host.starting = True
    start()
    assert presenter.state().fraction is None
    assert "only the first time" in presenter.state().text


def test_jobs_ahead_are_counted(presenter, start):
    job = start()
    job.position = 2
    job.go_on("", 0.0)
    assert presenter.state().text == "Waiting: 2 ahead"


def test_progress_is_not_drawn_more_often_than_anyone_can_read(start, drawn):
    job = start()
    begun = time.monotonic()
    for step in range(2000):
        job.go_on("segment", step / 2000, 10.0)
    assert 1 <= len(drawn) <= 3 + (time.monotonic() - begun) / 0.1


def test_new_stage_is_drawn_at_once(presenter, start):
    job = start()
    job.go_on("segment", 0.99, 1.0)
    job.go_on("write", 0.0)
    assert presenter.state().text == "Writing the result"


# The end --------------------------------------------------------------------------------------------------------------


def test_result_is_handed_over_and_the_next_run_clears_the_message(presenter, host, start):
    start().fail(WorkerError("The process ended."))
    job = start()
    assert host.message.text == ""
    job.succeed("node", None)
    assert (host.results, host.message.text) == (["node"], "")
    assert presenter.job is None


def test_result_for_a_scan_that_is_not_shown_any_more_is_announced(host, start):
    job = start()
    host.nodes = ["another scan"]
    job.succeed("node", None)
    assert (host.message.text, host.message.kind) == (
        "Scan is segmented; choose it to see the result.",
        "success",
    )


@pytest.mark.parametrize("error", [MismatchError("It is CT; the model was trained on MR."), WorkerError("It ended.")])
def test_an_error_of_a_scan_that_is_not_shown_any_more_names_it_and_starts_nothing_on_another(host, start, error):
    job = start()
    host.nodes = ["another scan"]
    job.fail(error)
    assert host.message.text.startswith(f"Scan could not be segmented: {error.message}")
    assert host.message.kind == "error"
    assert {one.key for one in host.message.options} <= {Remedy.SHOW_LOG}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (DeviceMemoryError("Too little memory."), [Remedy.USE_CPU, Remedy.ADD_ROI, Remedy.RETRY]),
        (DeviceError("There is no cuda:7."), [Remedy.USE_AUTO_DEVICE, Remedy.SHOW_LOG]),
        (WorkerError("The process ended."), [Remedy.RETRY, Remedy.SHOW_LOG]),
        (OutputError("The disk is full."), [Remedy.CHOOSE_FOLDER, Remedy.RETRY]),
        (NodeError("Edited.", problem=EDITED_OUTPUT), [Remedy.NEW_OUTPUT, Remedy.REPLACE_OUTPUT]),
        (NodeError("Warped.", problem=NONLINEAR_TRANSFORM), [Remedy.HARDEN]),
        (NodeError("A label map."), []),
        (MismatchError("It is a CT scan."), [Remedy.ALLOW_MISMATCH]),
        (MismatchError("It wants a box.", problem=LACKS_BOX), [Remedy.ADD_ROI, Remedy.WITHOUT_BOX]),
    ],
)
def test_error_comes_with_what_can_be_done(host, start, offers, error, expected):
    start().fail(error)
    assert offers() == expected
    assert (host.message.text, host.message.kind) == (error.message, "error")


def test_what_the_panel_cannot_do_is_not_offered(host, start, offers):
    del host.remedies[Remedy.SHOW_LOG], host.remedies[Remedy.CHOOSE_FOLDER]
    start().fail(OutputError("The disk is full."))
    assert offers() == [Remedy.RETRY]


def test_time_on_the_cpu_comes_with_the_offer_and_region_and_cpu_only_once(presenter, host, start, offers):
    start().fail(DeviceMemoryError("Too little memory."), {"cpu_seconds": 238.0})
    assert host.message.options[0].text == "Use the CPU (about 4 min)"
    presenter.apply(Remedy.ADD_ROI)
    start().fail(DeviceMemoryError("Too little memory."))
    assert offers() == [Remedy.USE_CPU, Remedy.RETRY]


@pytest.mark.parametrize(("remedy", "device"), [(Remedy.USE_CPU, "cpu"), (Remedy.USE_AUTO_DEVICE, "auto")])
def test_other_device_is_chosen_and_it_starts_again(logic, presenter, host, start, remedy, device):
    host.options["device"] = "cuda:7"
    start().fail(DeviceMemoryError("Too little memory."))
    presenter.apply(remedy)
    assert logic.jobs[-1].arguments["device"] == device
    assert len(logic.jobs) == 2
    assert host.message.text == ""


def test_edited_output_is_replaced_only_on_the_users_word(logic, presenter, host):
    host.output = "edited"
    for remedy, output, overwrite in ((Remedy.REPLACE_OUTPUT, "edited", True), (Remedy.NEW_OUTPUT, None, False)):
        logic.refusals["process"] = NodeError("It was edited.", problem=EDITED_OUTPUT)
        presenter.press()
        presenter.apply(remedy)
        arguments = logic.jobs[-1].arguments
        assert (arguments["outputSegmentation"], arguments["overwrite"]) == (output, overwrite)
        logic.jobs[-1].fail(Cancelled())


def test_what_the_model_cannot_fit_is_segmented_only_on_the_users_word_for_that_scan(logic, presenter, host):
    for scan, allowed in (("scan", True), ("another scan", False)):
        host.nodes = ["scan"]
        logic.refusals["process"] = MismatchError("It is a CT scan.")
        presenter.press()
        assert host.message.options[0].text == "Segment all the same"
        host.nodes = [scan]
        presenter.apply(Remedy.ALLOW_MISMATCH)
        arguments = logic.jobs[-1].arguments
        assert (arguments["allowMismatch"], arguments["askForBox"]) == (allowed, True)
        logic.jobs[-1].fail(Cancelled())


def test_a_question_about_one_scan_is_not_left_over_another(logic, presenter, host):
    logic.refusals["process"] = MismatchError("It is a CT scan.")
    presenter.press()
    presenter.check_inputs()
    assert host.message.text == "It is a CT scan."
    host.nodes = ["another scan"]
    presenter.check_inputs()
    assert host.message == Message()


def test_one_answer_does_not_undo_the_other(logic, presenter, host):
    host.output = "edited"
    logic.refusals["process"] = NodeError("It was edited.", problem=EDITED_OUTPUT)
    presenter.press()
    logic.refusals["process"] = MismatchError("It is a CT scan.")
    presenter.apply(Remedy.REPLACE_OUTPUT)
    logic.refusals["process"] = MismatchError("It wants a box.", problem=LACKS_BOX)
    presenter.apply(Remedy.ALLOW_MISMATCH)
    assert not logic.jobs, "the box is asked about of its own"
    presenter.apply(Remedy.WITHOUT_BOX)
    arguments = logic.jobs[-1].arguments
    assert arguments["overwrite"]
    assert (arguments["allowMismatch"], arguments["askForBox"]) == (True, False)


def test_the_result_of_something_else_stays_and_the_button_says_where_the_new_one_goes(logic, presenter, host):
    left, right = (SimpleNamespace(GetName=lambda name=name: name) for name in ("Left", "Right"))
    host.output = left
    tip = presenter.state().button.tip
    assert "Left" not in tip
    for own, name in ((None, "a new segmentation"), (right, "Right")):
        logic.own_output = lambda _chosen, own=own: own
        text = f"{tip} Left is of another volume, region or model and stays as it is: the result goes to {name}."
        assert presenter.state().button.tip == text
        presenter.press()
        assert logic.jobs[-1].arguments["outputSegmentation"] is own
        logic.jobs[-1].fail(Cancelled())


def test_warped_volume_is_explained_at_once_and_segmented_as_a_hardened_copy(logic, presenter, host, offers):
    host.problem = NodeError("It is not linear.", problem=NONLINEAR_TRANSFORM)
    presenter.check_inputs()
    assert offers() == [Remedy.HARDEN]
    presenter.apply(Remedy.HARDEN)
    assert logic.jobs[0].arguments["volume"] == "hardened"


def test_copy_that_cannot_be_made_is_reported(logic, presenter, host):
    host.problem = NodeError("It is not linear.", problem=NONLINEAR_TRANSFORM)
    host.cannot_harden = NodeError("It cannot be hardened.")
    presenter.apply(Remedy.HARDEN)
    assert logic.jobs == []
    assert host.message.text == "It cannot be hardened."


def test_explanation_goes_with_its_problem_but_another_message_stays(presenter, host):
    host.problem = NodeError("A slice.")
    presenter.check_inputs()
    host.problem = None
    presenter.check_inputs()
    assert host.message.text == ""
    host.problem = NodeError("A slice.")
    presenter.check_inputs()
    presenter.say("Something else.")
    host.problem = None
    presenter.check_inputs()
    assert host.message.text == "Something else."


def test_crash_offers_another_try_and_the_log(logic, presenter, host, start):
    start().fail(WorkerError("The process ended (signal 11)."))
    assert "WorkerError: The process ended (signal 11)." in logic.session.log.text()
    presenter.apply(Remedy.SHOW_LOG)
    assert host.opened_log
    start().fail(WorkerError("The process ended (signal 11)."))
    presenter.apply(Remedy.RETRY)
    assert len(logic.jobs) == 3


def test_unexpected_error_ends_in_a_sentence_too(logic, presenter, host, offers, caplog):
    logic.refusals["process"] = ZeroDivisionError("division by zero")
    presenter.press()
    assert "ZeroDivisionError: division by zero" in host.message.text
    assert offers() == [Remedy.SHOW_LOG, Remedy.COPY_DIAGNOSTICS]
    assert not presenter.state().is_running
    assert "ZeroDivisionError" in caplog.text


def test_closing_the_scene_cancels_and_leaves_a_note(presenter, host, start):
    job = start()
    presenter.scene_start_close()
    assert job.cancel_requested
    job.fail(Cancelled())
    assert host.message.text == "The scene was closed, so the segmentation was cancelled."
    start().fail(Cancelled())
    assert host.message.text == "Cancelled."


def test_result_that_comes_after_the_panel_has_gone_touches_nothing(presenter, host, start):
    job = start()
    presenter.close()
    assert job.cancel_requested
    job.succeed("node", None)
    assert host.results == []
