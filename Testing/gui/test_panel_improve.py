"""Putting corrected cases into the store, with the questions before it."""

from __future__ import annotations

import pytest
import slicer

from MAESegmentLib.cases.mapping import LabelMatch
from MAESegmentLib.cases.submission import CaseIssue
from MAESegmentLib.errors import DatasetError, NodeError
from Testing.gui.fake_learning import Proposal, case_record
from Testing.gui.improve_fixtures import choose


@pytest.fixture
def ui(panel):
    return panel.ui


def combo_of(ui, row):
    return ui.mappingTable.cellWidget(row, 1)


def test_button_says_what_is_missing(ui, panel, volume):  # noqa: ARG001
    assert not ui.addCaseButton.enabled
    assert "choose a segmentation under Output" in ui.addCaseButton.toolTip.replace("\n", " ")


def test_case_without_questions_is_stored_at_once(fake_logic, ui, volume, segmentation, store):
    assert ui.addCaseButton.enabled
    ui.addCaseButton.click()
    job = fake_logic.last("addCase")
    assert (job.arguments["volume"], job.arguments["segmentation"]) == (volume, segmentation)
    assert job.arguments["role"] == "train"
    assert job.arguments["region"] is job.arguments["update"] is None
    assert not ui.questionFrame.visible
    assert ui.addCaseButton.text == "Adding..."
    assert not ui.addCaseButton.enabled
    store.records.append(case_record(3))
    job.succeed(case_record(3))
    assert ui.addedLabel.text == "case-0003 added: anterior 1.5 ml, posterior 1.7 ml."
    assert ui.addCaseButton.enabled
    assert ui.casesTable.rowCount == 1


@pytest.mark.parametrize("during", ["proposeCase", "addCase"])
@pytest.mark.usefixtures("volume", "segmentation")
def test_a_case_cannot_be_added_twice_while_its_scan_is_looked_at(fake_logic, panel, ui, monkeypatch, during):
    seen, original = [], getattr(fake_logic, during)

    def slow(*arguments, **options):
        panel.update()  # as events do that happen meanwhile
        seen.append((ui.addCaseButton.enabled, ui.namesButton.enabled))
        return original(*arguments, **options)

    monkeypatch.setattr(fake_logic, during, slow)
    ui.addCaseButton.click()
    assert seen == [(False, False)]
    fake_logic.last("addCase").succeed(case_record(1))
    assert ui.addCaseButton.enabled


def test_role_and_region_go_with_the_case(fake_logic, panel, ui, volume, segmentation, settle):  # noqa: ARG001
    assert not ui.regionCheckBox.visible
    panel.add_roi()
    settle()
    assert ui.regionCheckBox.visible
    choose(ui.addRoleComboBox, "Validation case")
    ui.addCaseButton.click()
    arguments = fake_logic.last("addCase").arguments
    assert arguments["role"] == "check"
    assert arguments["region"] is panel.parameters.roi
    fake_logic.last("addCase").succeed(case_record(1))
    ui.regionCheckBox.checked = False
    ui.addCaseButton.click()
    assert fake_logic.last("addCase").arguments["region"] is None


def test_unknown_names_are_asked_and_a_new_label_is_said_explicitly(fake_logic, ui, segmentation):  # noqa: ARG001
    fake_logic.proposal = Proposal(
        choices=(
            LabelMatch("Anterior part", "anterior", "similar"),
            LabelMatch("cyst", None, "new"),
            LabelMatch("Segment_1", None, "new"),
        )
    )
    ui.addCaseButton.click()
    assert "addCase" not in fake_logic.jobs_of
    assert ui.questionFrame.visible
    assert [ui.mappingTable.item(row, 0).text() for row in range(3)] == ["Anterior part", "cyst", "Segment_1"]
    assert combo_of(ui, 0).currentText == "anterior"
    assert combo_of(ui, 1).currentText == "Choose..."
    assert not ui.confirmCaseButton.enabled
    assert ui.confirmCaseButton.toolTip == "Say what cyst is."
    choose(combo_of(ui, 1), "New label: cyst")
    assert ui.confirmCaseButton.toolTip == "Say what Segment_1 is."
    choose(combo_of(ui, 2), "Leave out (not annotated)")
    assert ui.confirmCaseButton.enabled
    ui.confirmCaseButton.click()
    arguments = fake_logic.last("addCase").arguments
    assert arguments["mapping"] == {"Anterior part": "anterior", "cyst": "cyst", "Segment_1": None}
    assert arguments["newLabels"] == ("cyst",)
    assert not ui.questionFrame.visible


def test_labels_that_nobody_drew_are_told_afterwards(fake_logic, ui, segmentation):  # noqa: ARG001
    missing = CaseIssue("missing", "warning", "There is no segment for posterior.", "", {"labels": ["posterior"]})
    fake_logic.proposal = Proposal(findings=(missing,))
    ui.addCaseButton.click()
    assert not ui.questionFrame.visible
    fake_logic.last("addCase").notes.append("Parts of cyst lie outside the scan and were left out.")
    fake_logic.last("addCase").succeed(case_record(3, labels=("anterior",), unknown=("posterior",)))
    assert ui.addedLabel.text.splitlines()[1:] == [
        "Not annotated: posterior",
        "Parts of cyst lie outside the scan and were left out.",
    ]


def test_everything_left_out_stores_nothing(fake_logic, ui, segmentation):  # noqa: ARG001
    fake_logic.proposal = Proposal(choices=(LabelMatch("Segment_1", None, "new"),))
    ui.addCaseButton.click()
    choose(combo_of(ui, 0), "Leave out (not annotated)")
    assert not ui.confirmCaseButton.enabled
    assert "nothing to store" in ui.confirmCaseButton.toolTip
    ui.cancelCaseButton.click()
    assert not ui.questionFrame.visible
    assert ui.addCaseButton.enabled
    assert "addCase" not in fake_logic.jobs_of


def test_empty_label_is_unknown_unless_the_person_says_it_is_not_there(fake_logic, ui, segmentation):  # noqa: ARG001
    empty = CaseIssue("empty", "warning", "posterior has no voxel.", "Say whether it is there.", {"label": "posterior"})
    fake_logic.proposal = Proposal(findings=(empty,))
    ui.addCaseButton.click()
    assert ui.mappingTable.rowCount == 1
    assert ui.mappingTable.item(0, 0).text() == "posterior (empty)"
    assert combo_of(ui, 0).currentText == "Not annotated"
    assert not ui.findingsLabel.visible
    choose(combo_of(ui, 0), "Not in this scan")
    ui.confirmCaseButton.click()
    assert fake_logic.last("addCase").arguments["absent"] == ("posterior",)


def test_warning_is_shown_with_what_to_do_and_error_blocks(fake_logic, ui, segmentation):  # noqa: ARG001
    warning = CaseIssue("partial", "warning", "Slices 20 to 40 have no label.", "Choose a region if they are not done.")
    fake_logic.proposal = Proposal(findings=(warning,))
    ui.addCaseButton.click()
    assert "Slices 20 to 40 have no label. Choose a region" in ui.findingsLabel.text
    assert not ui.mappingTable.visible
    assert ui.confirmCaseButton.enabled
    ui.cancelCaseButton.click()
    fake_logic.proposal = Proposal(findings=(warning, CaseIssue("channels", "error", "The model takes 2 channels.")))
    ui.addCaseButton.click()
    assert not ui.confirmCaseButton.enabled
    assert ui.confirmCaseButton.toolTip == "The model takes 2 channels."


def test_names_can_be_looked_at_though_nothing_is_unclear(fake_logic, ui, segmentation):  # noqa: ARG001
    ui.namesButton.click()
    assert ui.mappingTable.rowCount == 2
    choose(combo_of(ui, 1), "Leave out (not annotated)")
    ui.confirmCaseButton.click()
    assert fake_logic.last("addCase").arguments["mapping"] == {"anterior": "anterior", "posterior": None}


def test_questions_end_when_another_scan_is_chosen(fake_logic, panel, ui, segmentation, add_volume, settle):  # noqa: ARG001
    fake_logic.proposal = Proposal(choices=(LabelMatch("cyst", None, "new"),))
    ui.addCaseButton.click()
    panel.parameters.inputVolume = add_volume("Other")
    settle()
    assert not ui.questionFrame.visible


def test_stored_scan_asks_before_it_is_updated(fake_logic, panel, ui, segmentation):  # noqa: ARG001
    fake_logic.proposal = Proposal(duplicate=case_record(2))
    ui.addCaseButton.click()
    assert "stored already as case-0002" in ui.improveNoteLabel.text
    assert ui.improveNote1Button.text == "Update"
    ui.improveNote2Button.click()
    assert not ui.improveNoteFrame.visible
    assert "addCase" not in fake_logic.jobs_of
    ui.addCaseButton.click()
    ui.improveNote1Button.click()
    assert fake_logic.last("addCase").arguments["update"] == "case-0002"
    fake_logic.last("addCase").succeed(case_record(2, revision=2))
    assert ui.addedLabel.text.startswith("case-0002 updated: ")
    assert fake_logic.last("addCase").arguments["role"] == ""


def test_unchanged_stored_case_is_not_stored_again(fake_logic, ui, segmentation):  # noqa: ARG001
    fake_logic.proposal = Proposal(stored=case_record(2), isChanged=False)
    ui.addCaseButton.click()
    assert ui.addedLabel.text == "It is stored already as case-0002, and nothing changed since."
    assert "addCase" not in fake_logic.jobs_of


def test_edited_stored_case_is_noticed_when_the_person_comes_back(fake_logic, panel, ui, volume, segmentation):
    fake_logic.changed = [(segmentation, case_record(2))]
    panel.exit()
    panel.enter()
    assert "was edited since it was stored as case-0002. Update stored case?" in ui.improveNoteLabel.text
    ui.improveNote2Button.click()
    panel.enter()
    assert not ui.improveNoteFrame.visible
    fake_logic.changed = [(segmentation, case_record(2, revision=2))]
    panel.enter()
    ui.improveNote1Button.click()
    arguments = fake_logic.last("addCase").arguments
    assert (arguments["volume"], arguments["segmentation"], arguments["update"]) == (volume, segmentation, "case-0002")


@pytest.mark.parametrize("where", ["proposeCase", "addCase"])
def test_refusal_is_said_in_the_section(fake_logic, ui, segmentation, where):  # noqa: ARG001
    fake_logic.refusals[where] = NodeError("The volume is sheared.", "Resample it first.")
    ui.addCaseButton.click()
    assert ui.improveNoteLabel.text == "The volume is sheared. Resample it first."
    assert ui.addCaseButton.enabled
    ui.improveNote1Button.click()
    assert not ui.improveNoteFrame.visible


def test_failure_of_the_worker_is_said_in_the_section(fake_logic, ui, segmentation):  # noqa: ARG001
    ui.addCaseButton.click()
    fake_logic.last("addCase").fail(DatasetError("The disk is full.", "Free some space."))
    assert ui.improveNoteLabel.text == "The disk is full. Free some space."
    assert ui.addCaseButton.enabled


def test_closing_the_scene_ends_the_questions(fake_logic, ui, segmentation):  # noqa: ARG001
    fake_logic.proposal = Proposal(choices=(LabelMatch("cyst", None, "new"),))
    ui.addCaseButton.click()
    slicer.mrmlScene.Clear(0)
    assert not ui.questionFrame.visible
    assert not ui.addCaseButton.enabled
