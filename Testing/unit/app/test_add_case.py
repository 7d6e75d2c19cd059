"""Adding corrected cases, and the questions before it."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from MAESegmentLib.app.presenters.add_case import AddCasePresenter
from MAESegmentLib.app.presenters.presenter import plain
from MAESegmentLib.cases.mapping import LabelMatch
from MAESegmentLib.cases.submission import CaseIssue
from MAESegmentLib.errors import DatasetError, NodeError
from Testing.fake_logic import Proposal, case_record


@pytest.fixture
def adding(logic, host) -> AddCasePresenter:
    adding = AddCasePresenter(logic, host, lambda: None)
    adding.update()
    return adding


@pytest.fixture
def add(logic, adding):
    """Press the button; the scan is identified."""

    def add(**options: Any) -> Any:
        adding.add(**options)
        logic.session.loop.run()
        return adding.state.question

    return add


def stored(logic) -> dict[str, Any]:
    """The arguments with which the last case was stored."""
    logic.session.loop.run()
    return logic.last("addCase").arguments


def edited(adding) -> str:
    """What is asked about an edited case."""
    return adding.state.asks.text if adding.state.asks is not None else ""


def choose(adding, row: int, text: str) -> None:
    options = adding.state.question.rows[row].options
    adding.answer(row, next(option.key for option in options if option.text == text))


@pytest.mark.parametrize(
    ("missing", "word"), [("bundle", "model"), ("volume", "scan"), ("segmentation", "segmentation")]
)
def test_what_is_missing_blocks_it(logic, host, adding, missing, word):
    setattr(host, missing, None)
    adding.update()
    assert not adding.state.can_add
    assert word in adding.state.tip
    adding.add()
    assert logic.calls == []


def test_a_reason_of_the_panel_blocks_it(adding):
    adding.update("nibabel is missing.")
    assert (adding.state.blocked, adding.state.can_add) == ("nibabel is missing.", False)


def test_case_without_questions_is_stored_at_once(logic, host, adding, add):
    assert add() is None
    case = stored(logic)
    assert (case["volume"], case["segmentation"], case["model"]) == (host.volume, host.segmentation, host.bundle)
    assert (case["role"], case["region"], case["update"]) == ("train", None, None)
    assert adding.state.is_busy
    logic.last("addCase").notes.append("Parts of cyst lie outside the scan.")
    logic.last("addCase").succeed(case_record(3, unknown=("stem",)))
    assert adding.state.added.splitlines() == [
        "case-0003 added: anterior 1.5 ml, posterior 1.7 ml.",
        "Not annotated: stem",
        "Parts of cyst lie outside the scan.",
    ]
    assert adding.state.can_add
    assert host.refreshed == 1


def test_the_event_loop_goes_on_while_a_scan_is_compared_with_the_stored_ones(logic, adding):
    happened, threads = threading.Event(), []

    def identify() -> None:
        threads.append(threading.current_thread())
        assert happened.wait(30), "the event loop stood still"

    logic.identify = identify
    adding.add()
    assert not adding.state.can_add, "it could be added twice"
    adding.add()
    logic.session.loop.call_later(0, happened.set)
    logic.session.loop.run()
    assert threading.main_thread() not in threads
    assert len(threads) == len(logic.jobs_of["addCase"]) == 1


@pytest.fixture
def other_model(logic, host):
    """Of another family."""
    return next(one for one in logic.models() if one.name != host.bundle.name)


@pytest.mark.parametrize("other", ["volume", "segmentation", "bundle"])
def test_nothing_is_stored_when_something_else_was_chosen_meanwhile(logic, host, adding, other_model, other):
    happened = threading.Event()
    logic.identify = happened.wait
    adding.add()
    setattr(host, other, other_model)
    happened.set()
    logic.session.loop.run()
    assert logic.jobs_of == {}
    assert adding.state.can_add


@pytest.mark.parametrize("other", ["volume", "segmentation", "bundle"])
def test_what_was_said_and_asked_is_not_read_beside_another_choice(logic, host, adding, add, other_model, other):
    chosen = getattr(host, other)
    add()
    logic.last("addCase").succeed(case_record(1))
    adding.update()
    assert adding.state.added, "the same is shown"
    logic.proposal = Proposal(choices=(LabelMatch("cyst", None, "new"),))
    setattr(host, other, other_model)
    adding.update()
    assert adding.state.added == ""
    assert add() is not None
    setattr(host, other, chosen)
    adding.update()
    assert adding.state.question is None


def test_role_and_region_go_with_the_case(logic, host, adding, add):
    assert not adding.state.has_region
    host.roi = "box"
    adding.update()
    adding.set_role("check")
    add()
    assert adding.state.has_region
    assert (stored(logic)["role"], stored(logic)["region"]) == ("check", "box")
    logic.last("addCase").succeed(case_record(1))
    adding.set_only_region(False)
    add()
    assert stored(logic)["region"] is None


def test_unknown_names_are_asked_and_a_new_label_is_said_explicitly(logic, adding, add):
    logic.proposal = Proposal(
        choices=(
            LabelMatch("Anterior part", "anterior", "similar"),
            LabelMatch("posterior", "posterior", "same"),
            LabelMatch("cyst", None, "new"),
            LabelMatch("Segment_1", None, "new"),
        )
    )
    question = add()
    assert logic.jobs_of == {}
    assert [row.title for row in question.rows] == ["Anterior part", "posterior", "cyst", "Segment_1"]
    adding.confirm()
    assert logic.jobs_of == {}, "two are open"
    assert adding.state.question.missing == "Say what cyst is."
    choose(adding, 2, "New label: cyst")
    assert "Segment_1" in adding.state.question.missing
    choose(adding, 3, "Leave out (not annotated)")
    assert adding.state.question.missing == ""
    adding.confirm()
    mapping = {"Anterior part": "anterior", "posterior": "posterior", "cyst": "cyst", "Segment_1": None}
    assert (stored(logic)["mapping"], stored(logic)["newLabels"]) == (mapping, ("cyst",))
    assert adding.state.question is None


def test_the_state_can_be_sent_to_a_page_with_what_follows_from_it(logic, adding, add):
    logic.proposal = Proposal(choices=(LabelMatch("cyst", None, "new"),))
    add()
    sent = json.loads(json.dumps(plain(adding.state)))
    assert (sent["can_add"], sent["question"]["confirm_text"]) == (False, "Add")
    assert [row["title"] for row in sent["question"]["rows"]] == ["cyst"]


def test_an_answer_that_is_not_an_option_is_ignored(logic, adding, add):
    logic.proposal = Proposal(choices=(LabelMatch("cyst", None, "new"),))
    question = add()
    for row, key in ((0, "label:liver"), (1, "new"), (-1, "new")):
        adding.answer(row, key)
    assert adding.state.question == question


def test_labels_that_nobody_drew_are_no_reason_to_ask(logic, add):
    logic.proposal = Proposal(findings=(CaseIssue("missing", "warning", "There is no segment for posterior."),))
    assert add() is None
    assert stored(logic)["update"] is None


def test_everything_left_out_stores_nothing(logic, adding, add):
    logic.proposal = Proposal(choices=(LabelMatch("Segment_1", None, "new"),))
    add()
    choose(adding, 0, "Leave out (not annotated)")
    assert "nothing to store" in adding.state.question.missing
    adding.confirm()
    adding.cancel()
    assert adding.state.can_add
    assert logic.jobs_of == {}


def test_empty_label_is_unknown_unless_the_user_says_it_is_not_there(logic, adding, add):
    empty = CaseIssue("empty", "warning", "posterior has no voxel.", "Say so.", {"label": "posterior"})
    logic.proposal = Proposal(findings=(empty,))
    question = add()
    assert [row.title for row in question.rows] == ["posterior (empty)"]
    assert question.issues == "", "it is asked as a row"
    adding.confirm()
    assert stored(logic)["absent"] == ()
    logic.last("addCase").succeed(case_record(1))
    add()
    choose(adding, 0, "Not in this scan")
    adding.confirm()
    assert stored(logic)["absent"] == ("posterior",)
    assert stored(logic)["mapping"] == {"anterior": "anterior", "posterior": "posterior"}


def test_a_warning_is_shown_and_an_error_blocks(logic, adding, add):
    warning = CaseIssue("partial", "warning", "Slices 20 to 40 have no label.", "Choose a region.")
    logic.proposal = Proposal(findings=(warning,))
    question = add()
    assert "Slices 20 to 40 have no label. Choose a region." in question.issues
    assert (question.rows, question.missing) == ((), "")
    adding.cancel()
    logic.proposal = Proposal(findings=(warning, CaseIssue("channels", "error", "The model takes 2 channels.")))
    assert add().missing == "The model takes 2 channels."
    adding.confirm()
    assert logic.jobs_of == {}


def test_names_can_be_checked_though_nothing_is_unclear(logic, adding, add):
    logic.proposal = Proposal(stored=case_record(2), isChanged=False)
    question = add(check_names=True)
    assert [row.title for row in question.rows] == ["anterior", "posterior"]
    choose(adding, 1, "Leave out (not annotated)")
    adding.confirm()
    assert stored(logic)["mapping"] == {"anterior": "anterior", "posterior": None}


@pytest.mark.parametrize("known", ["stored", "duplicate"])
def test_stored_scan_asks_before_it_is_updated(logic, adding, add, known):
    duplicate = CaseIssue("duplicate", "warning", "This scan is stored already.")
    logic.proposal = Proposal(**{known: case_record(2)}, isChanged=True, findings=(duplicate,))
    question = add()
    assert "stored already as case-0002" in question.text
    assert question.issues == "", "the question says so"
    assert (question.update_of, question.missing) == ("case-0002", "")
    adding.cancel()
    assert logic.jobs_of == {}
    add()
    adding.confirm()
    assert (stored(logic)["update"], stored(logic)["role"]) == ("case-0002", ""), "it keeps its role"
    logic.last("addCase").succeed(case_record(2, revision=2))
    assert adding.state.added.startswith("case-0002 updated: ")


def test_unchanged_stored_case_is_not_stored_again(logic, adding, add):
    logic.proposal = Proposal(stored=case_record(2), isChanged=False)
    assert add() is None
    assert "nothing changed since" in adding.state.added
    assert logic.jobs_of == {}


def test_the_question_of_an_update_ends_with_the_choice_of_another_model(logic, host, adding, add, other_model):
    asked_for, host_segmentation = host.bundle, host.segmentation
    logic.proposal = Proposal(duplicate=case_record(1))
    assert add().update_of == "case-0001"
    host.bundle, host.segmentation = other_model, "other"
    adding.confirm()  # before the panel notices
    case = stored(logic)
    assert (case["model"], case["segmentation"], case["update"]) == (asked_for, host_segmentation, "case-0001")
    logic.last("addCase").succeed(case_record(1, revision=2))
    host.bundle, host.segmentation = asked_for, host_segmentation
    adding.update()
    assert add() is not None
    host.bundle = other_model
    adding.update()
    assert adding.state.question is None
    adding.confirm()
    assert len(logic.jobs_of["addCase"]) == 1


def test_the_panel_knows_at_once_that_a_case_is_being_stored(logic, host, add):
    add()
    assert host.is_storing
    logic.last("addCase").succeed(case_record(1))
    assert not host.is_storing


def test_a_removal_is_confirmed_and_ends_what_was_said_and_asked_of_the_case(logic, adding, add):
    add()
    logic.last("addCase").succeed(case_record(1))
    logic.proposal = Proposal(duplicate=case_record(1))
    logic.changed = [(Node(Node()), case_record(1))]
    adding.look_for_edits()
    assert edited(adding)
    adding.removed("case-0001")
    assert (adding.state.added, edited(adding)) == ("case-0001 was removed.", "")
    assert add() is not None
    adding.removed("case-0001")
    assert adding.state.question is None


class Node:
    """A volume, or a segmentation that was drawn on one, in the scene."""

    scene: Any = "scene"

    def GetScene(self) -> Any:  # noqa: N802
        return self.scene

    def __init__(self, volume: Any = None) -> None:
        self.volume = volume

    def GetID(self) -> str:  # noqa: N802
        return "vtkMRMLSegmentationNode1"

    def GetName(self) -> str:  # noqa: N802
        return "Scan segmentation"

    def GetReferenceImageGeometryReferenceRole(self) -> str:  # noqa: N802
        return "reference"

    def GetNodeReference(self, role: str) -> Any:  # noqa: N802
        assert role == "reference"
        return self.volume


def test_an_edited_case_is_asked_about_once_for_each_state(logic, adding):
    node = Node(Node())
    logic.changed = [(node, case_record(2))]
    adding.look_for_edits()
    assert "was edited since it was stored as case-0002" in edited(adding)
    adding.postpone_edited()
    adding.look_for_edits()
    assert edited(adding) == ""
    logic.changed = [(node, case_record(2, revision=2))]
    adding.look_for_edits()
    adding.update_edited()
    case = stored(logic)
    assert (case["volume"], case["segmentation"], case["update"]) == (node.volume, node, "case-0002")
    assert "role" not in case
    assert edited(adding) == ""


def test_adding_another_case_leaves_the_question_about_an_edited_one(logic, host, adding, add):
    logic.changed = [(Node(Node()), case_record(2))]
    adding.look_for_edits()
    add()
    assert edited(adding) == "", "one at a time"
    logic.last("addCase").succeed(case_record(3))
    assert "case-0002" in edited(adding)
    host.segmentation = logic.changed[0][0]
    add()
    logic.last("addCase").succeed(case_record(2, revision=2))
    assert edited(adding) == "", "it was updated"


def test_only_the_cases_of_the_chosen_model_are_asked_about(logic, host, adding, other_model):
    asked_for = host.bundle
    logic.changed = [(Node(Node()), case_record(2))]
    adding.look_for_edits()
    assert logic.called("changedCases") == [[asked_for]]
    assert edited(adding)
    host.bundle = other_model
    adding.update_edited()  # before the panel notices
    assert logic.jobs_of == {}
    host.bundle = asked_for
    adding.look_for_edits()
    assert edited(adding)
    host.bundle = other_model
    adding.update()
    assert edited(adding) == ""


@pytest.mark.parametrize("gone", ["segmentation", "volume"])
def test_an_edited_case_that_left_the_scene_is_not_asked_about(logic, adding, gone):
    node = Node(Node())
    logic.changed = [(node, case_record(2))]
    adding.look_for_edits()
    assert edited(adding)
    (node if gone == "segmentation" else node.volume).scene = None
    adding.update()
    assert edited(adding) == ""
    adding.update_edited()
    adding.look_for_edits()
    assert (edited(adding), logic.jobs_of) == ("", {})


@pytest.mark.parametrize("where", ["identifyScan", "proposeCase", "addCase"])
def test_a_refusal_is_shown_and_leaves_the_button(logic, host, adding, add, where):
    logic.refusals[where] = NodeError("The volume is sheared.", "Resample it first.")
    add()
    assert host.errors == ["The volume is sheared."]
    assert adding.state.can_add


def test_a_failure_of_the_worker_is_shown(logic, host, adding, add):
    add()
    logic.last("addCase").fail(DatasetError("The disk is full.", "Free some space."))
    assert host.errors == ["The disk is full."]
    assert adding.state.can_add


def test_closing_the_scene_ends_the_questions(logic, host, adding, add):
    logic.proposal = Proposal(choices=(LabelMatch("cyst", None, "new"),))
    logic.changed = [(Node(Node()), case_record(2))]
    add()
    host.volume = host.segmentation = None
    adding.clear()
    adding.update()
    assert (adding.state.question, edited(adding), adding.state.can_add) == (None, "", False)


def test_a_closed_panel_stores_nothing(logic, adding):
    happened = threading.Event()
    logic.identify = happened.wait
    adding.add()
    adding.close()
    happened.set()
    logic.session.loop.run()
    assert logic.jobs_of == {}
