"""Corrected cases in Slicer's panel: clicks reach the presenters, and their state the widgets."""

from __future__ import annotations

import pytest
import slicer

from MAESegmentLib.cases.mapping import LabelMatch
from MAESegmentLib.cases.submission import CaseIssue
from MAESegmentLib.errors import DatasetError, NodeError
from Testing.fake_logic import Proposal, case_record
from Testing.gui.panel_fixtures import choose
from Testing.gui.standin import proxy_of, to_qt


@pytest.fixture
def ui(panel):
    return panel.ui


@pytest.fixture
def add(ui, process_events_until, panel):
    """Press a button, and wait for a question, or for the case that is being stored."""

    def add(button=None):
        (button or ui.addCaseButton).click()
        state = lambda: panel.improve.add_case.presenter.state  # noqa: E731
        process_events_until(lambda: not state().is_busy or "addCase" in panel._logic.jobs_of, 20)

    return add


def label_combo(ui, row):
    return ui.mappingTable.cellWidget(row, 1)


def role_combo(ui, row):
    from PySide6 import QtWidgets

    return proxy_of(to_qt(ui.casesTable.cellWidget(row, 2)).findChild(QtWidgets.QComboBox))


def test_button_says_what_is_missing(ui, volume):  # noqa: ARG001
    assert not ui.addCaseButton.enabled
    assert not ui.namesButton.enabled
    assert "choose a segmentation" in ui.addCaseButton.toolTip.replace("\n", " ")


def test_case_is_stored_with_what_is_chosen(fake_logic, panel, ui, volume, segmentation, store, settle, add):
    assert not ui.regionCheckBox.visible
    panel.add_roi()
    settle()
    assert ui.regionCheckBox.visible
    choose(ui.addRoleComboBox, "Validation case")
    add()
    job = fake_logic.last("addCase")
    assert (job.arguments["volume"], job.arguments["segmentation"]) == (volume, segmentation)
    assert (job.arguments["role"], job.arguments["region"]) == ("check", panel.parameters.roi)
    assert (ui.addCaseButton.enabled, ui.addCaseButton.text) == (False, "Adding...")
    assert not ui.questionFrame.visible
    assert panel.improve.cases.presenter.state.blocked
    store.records.append(case_record(3))
    job.succeed(case_record(3))
    assert ui.addedLabel.text.startswith("case-0003 added")
    assert ui.addCaseButton.enabled
    assert ui.casesTable.rowCount == 1
    ui.regionCheckBox.checked = False
    assert not panel.improve.add_case.presenter.state.only_region


def test_questions_are_answered_in_a_table(fake_logic, ui, segmentation, add, process_events_until):  # noqa: ARG001
    empty = CaseIssue("empty", "warning", "posterior has no voxel.", "", {"label": "posterior"})
    partial = CaseIssue("partial", "warning", "Slices 20 to 40 have no label.", "Choose a region.")
    fake_logic.proposal = Proposal(choices=(LabelMatch("cyst", None, "new"),), findings=(empty, partial))
    add(ui.namesButton)
    assert not ui.addCaseButton.enabled
    assert [ui.mappingTable.item(row, 0).text() for row in range(2)] == ["cyst", "posterior (empty)"]
    assert "Choose a region." in ui.findingsLabel.text
    assert label_combo(ui, 0).currentText == "Choose..."
    assert (ui.confirmCaseButton.enabled, ui.confirmCaseButton.toolTip) == (False, "Say what cyst is.")
    combo = label_combo(ui, 0)
    choose(combo, "New label: cyst")
    assert label_combo(ui, 0) == combo, "it stays under the hand"
    choose(label_combo(ui, 1), "Not in this scan")
    ui.confirmCaseButton.click()
    process_events_until(lambda: "addCase" in fake_logic.jobs_of, 20)
    arguments = fake_logic.last("addCase").arguments
    assert (arguments["newLabels"], arguments["absent"]) == (("cyst",), ("posterior",))
    assert not ui.questionFrame.visible


def test_the_same_question_starts_again_without_the_old_answers(fake_logic, ui, segmentation, add):  # noqa: ARG001
    fake_logic.proposal = Proposal(choices=(LabelMatch("cyst", None, "new"),))
    add()
    choose(label_combo(ui, 0), "New label: cyst")
    ui.cancelCaseButton.click()
    assert not ui.questionFrame.visible
    add()
    assert label_combo(ui, 0).currentText == "Choose..."


def test_stored_scan_asks_before_it_is_updated(fake_logic, ui, segmentation, add):  # noqa: ARG001
    fake_logic.proposal = Proposal(duplicate=case_record(2))
    add()
    assert "stored already as case-0002" in ui.questionLabel.text
    assert not ui.mappingTable.visible
    assert ui.confirmCaseButton.text == "Update"


def test_edited_stored_case_is_noticed_when_the_user_comes_back(
    fake_logic, panel, ui, segmentation, process_events_until
):
    fake_logic.changed = [(segmentation, case_record(2))]
    panel.exit()
    panel.enter()
    assert "was edited since it was stored as case-0002" in ui.improveNoteLabel.text
    ui.improveNote2Button.click()
    panel.enter()
    assert not ui.improveNoteFrame.visible
    fake_logic.changed = [(segmentation, case_record(2, revision=2))]
    panel.enter()
    ui.improveNote1Button.click()
    process_events_until(lambda: "addCase" in fake_logic.jobs_of, 20)
    assert fake_logic.last("addCase").arguments["segmentation"] is segmentation
    assert not ui.improveNoteFrame.visible


def test_what_goes_wrong_is_shown_in_the_section(fake_logic, ui, segmentation, add):  # noqa: ARG001
    fake_logic.refusals["proposeCase"] = NodeError("The volume is sheared.", "Resample it first.")
    add()
    assert ui.improveNoteLabel.text == "The volume is sheared. Resample it first."
    ui.improveNote1Button.click()
    assert not ui.improveNoteFrame.visible


def test_a_question_comes_back_when_what_went_wrong_is_closed(fake_logic, panel, ui, segmentation):
    fake_logic.changed = [(segmentation, case_record(2))]
    panel.exit()
    panel.enter()
    question = ui.improveNoteLabel.text
    panel.improve.failed(DatasetError("The folder is read-only."))
    assert ui.improveNoteLabel.text == "The folder is read-only."
    ui.improveNote1Button.click()
    assert ui.improveNoteFrame.visible
    assert ui.improveNoteLabel.text == question


def test_closing_the_scene_ends_the_questions(fake_logic, ui, segmentation, add):  # noqa: ARG001
    fake_logic.proposal = Proposal(choices=(LabelMatch("cyst", None, "new"),))
    add()
    slicer.mrmlScene.Clear(0)
    assert not ui.questionFrame.visible
    assert not ui.addCaseButton.enabled


# The stored ones ------------------------------------------------------------------------------------------------------


@pytest.fixture
def three(store, panel, volume, tmp_path):  # noqa: ARG001
    """Three stored cases with pictures, the last one for validation."""
    from PIL import Image

    store.folder = tmp_path
    store.records[:] = [case_record(1), case_record(2), case_record(3, role="check")]
    for record in store.records:
        (tmp_path / record.id).mkdir()
        Image.new("RGB", (96, 96), "#446688").save(tmp_path / record.id / "thumbnail.png")
    panel.enter()
    return store.records


def test_no_case_hides_the_table(ui, volume):  # noqa: ARG001
    assert ui.casesLabel.text
    assert not ui.casesTable.visible
    assert not ui.openCaseButton.visible


def test_table_shows_picture_text_and_use(ui, three):  # noqa: ARG001
    table = ui.casesTable
    assert ui.casesLabel.text == "3 cases, 1 for validation"
    assert all(not table.item(row, 0).icon().isNull() for row in range(3))
    assert table.item(0, 1).text().startswith("case-0001\n")
    assert [role_combo(ui, row).currentText for row in range(3)] == ["Training", "Training", "Validation"]


def test_cases_are_read_only_while_the_section_is_open(panel, ui, three, store):  # noqa: ARG001
    before = store.reads
    panel.enter()
    assert store.reads == before + 1
    ui.improveCollapsibleButton.collapsed = True
    panel.enter()
    assert store.reads == before + 1


def test_folder_of_cases_can_be_chosen(fake_logic, ui, three, store):  # noqa: ARG001
    store.records.pop()
    ui.caseFolderPathLineEdit.currentPath = "/data/my cases"
    assert fake_logic.called("setCaseFolder") == [["/data/my cases"]]
    assert ui.casesTable.rowCount == 2


def test_use_is_changed_in_the_table(fake_logic, ui, three, store):  # noqa: ARG001
    combo = role_combo(ui, 0)
    combo.setCurrentIndex(1)
    assert store.records[0].role == "check"
    assert role_combo(ui, 0) == combo, "it stays under the hand"
    assert ui.casesLabel.text == "3 cases, 2 for validation"
    fake_logic.refusals["setCaseRole"] = DatasetError("The folder is read-only.")
    combo.setCurrentIndex(0)
    assert combo.currentText == "Validation", "as it was"


def test_removing_asks_beside_the_table(ui, three, store):  # noqa: ARG001
    assert (ui.removeCaseButton.enabled, ui.removeCaseButton.toolTip) == (False, "Choose a case in the table.")
    ui.casesTable.selectRow(1)
    ui.removeCaseButton.click()
    assert "Remove case-0002?" in ui.caseAskLabel.text
    ui.caseAsk2Button.click()
    assert not ui.caseAskFrame.visible
    ui.removeCaseButton.click()
    ui.caseAsk1Button.click()
    assert [record.id for record in store.records] == ["case-0001", "case-0003"]
    assert ui.casesTable.rowCount == 2
    assert ui.addedLabel.text == "case-0002 was removed."


def test_opening_a_case_chooses_its_nodes(fake_logic, panel, ui, three, add_volume, add_result):  # noqa: ARG001
    scan = add_volume("case-0001")
    fake_logic.opened = (scan, add_result(scan, panel.bundle)[0])
    ui.casesTable.selectRow(0)
    ui.openCaseButton.click()
    assert fake_logic.called("openCase")[0][0] == "case-0001"
    assert (panel.parameters.inputVolume, panel.parameters.outputSegmentation) == fake_logic.opened
    ui.casesTable.cellDoubleClicked(2, 1)
    assert fake_logic.called("openCase")[1][0] == "case-0003"


def test_a_hundred_cases(panel, ui, store, volume):  # noqa: ARG001
    store.records[:] = [case_record(number) for number in range(1, 101)]
    panel.enter()
    assert ui.casesTable.rowCount == 100
