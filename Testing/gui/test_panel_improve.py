"""Corrected cases and the next one, in Slicer's panel: clicks reach the presenters, and their state the widgets."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import slicer
from PySide6 import QtWidgets

from MAESegmentLib.cases.mapping import LabelMatch
from MAESegmentLib.cases.submission import CaseIssue
from MAESegmentLib.errors import Cancelled, DatasetError, GeometryError, NodeError
from Testing.fake_logic import Proposal, Ranked, case_record
from Testing.gui.panel_fixtures import choose, texts_of
from Testing.gui.standin import proxy_of, to_qt


@pytest.fixture
def add(fake_logic, ui, process_events_until, panel):
    """Press a button, and wait for a question, or for the case that is being stored."""

    def add(button=None):
        (button or ui.addCaseButton).click()
        state = lambda: panel.improve.add_case.presenter.state  # noqa: E731
        process_events_until(lambda: not state().is_busy or "addCase" in fake_logic.jobs_of, 20)

    return add


def label_combo(ui, row):
    return ui.mappingTable.cellWidget(row, 1)


def role_combo(ui, row):
    return proxy_of(to_qt(ui.casesTable.cellWidget(row, 2)).findChild(QtWidgets.QComboBox))


def test_button_says_what_is_missing(ui, improve):  # noqa: ARG001
    assert (ui.addCaseButton.enabled, ui.namesButton.enabled) == (False, False)
    assert "choose a segmentation" in ui.addCaseButton.toolTip.replace("\n", " ")


def test_case_is_stored_with_what_is_chosen(fake_logic, panel, ui, improve, segmentation, store, settle, add):
    assert not ui.regionCheckBox.visible
    panel.add_roi()
    settle()
    assert ui.regionCheckBox.visible
    choose(ui.addRoleComboBox, "Validation case")
    add()
    job = fake_logic.last("addCase")
    expected = {"volume": improve, "segmentation": segmentation, "role": "check", "region": panel.parameters.roi}
    assert job.arguments.items() >= expected.items()
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


@pytest.mark.usefixtures("segmentation")
def test_what_another_tool_drew_beside_is_left_out_in_one_click(fake_logic, ui, add, process_events_until):
    others = [LabelMatch(name, None, "new") for name in ("kidney_left", "kidney_right", "heart")]
    similar = LabelMatch("front_part", "anterior", "similar")
    fake_logic.proposal = Proposal(choices=(*others[:2], similar, others[2]))
    add()
    assert texts_of(ui.mappingTable, 0)[0] == "front_part"
    assert (ui.confirmCaseButton.enabled, ui.restCaseButton.text) == (False, "Leave out the other 3")
    ui.restCaseButton.click()
    assert [label_combo(ui, row).currentText for row in (0, 1, 3)] == ["anterior", *["Leave out (not annotated)"] * 2]
    assert not ui.restCaseButton.visible
    ui.confirmCaseButton.click()
    process_events_until(lambda: "addCase" in fake_logic.jobs_of, 20)
    expected = {"front_part": "anterior", **dict.fromkeys(("kidney_left", "kidney_right", "heart"))}
    assert fake_logic.last("addCase").arguments["mapping"] == expected


@pytest.mark.usefixtures("segmentation")
def test_questions_are_answered_in_a_table(fake_logic, ui, add, process_events_until):
    empty = CaseIssue("empty", "warning", "posterior has no voxel.", "", {"label": "posterior"})
    partial = CaseIssue("partial", "warning", "Slices 20 to 40 have no label.", "Choose a region.")
    fake_logic.proposal = Proposal(choices=(LabelMatch("cyst", None, "new"),), findings=(empty, partial))
    add(ui.namesButton)
    choose(label_combo(ui, 0), "New label: cyst")
    ui.cancelCaseButton.click()
    assert not ui.questionFrame.visible
    add(ui.namesButton)
    assert not ui.addCaseButton.enabled
    assert texts_of(ui.mappingTable, 0) == ["cyst", "posterior (empty)"]
    assert "Choose a region." in ui.findingsLabel.text
    assert label_combo(ui, 0).currentText == "Choose...", "without what was chosen before"
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


@pytest.mark.usefixtures("segmentation")
def test_stored_scan_asks_before_it_is_updated_and_closing_the_scene_ends_the_question(fake_logic, ui, add):
    fake_logic.proposal = Proposal(duplicate=case_record(2))
    add()
    assert "stored already as case-0002" in ui.questionLabel.text
    assert not ui.mappingTable.visible
    assert ui.confirmCaseButton.text == "Update"
    slicer.mrmlScene.Clear(0)
    assert (ui.questionFrame.visible, ui.addCaseButton.enabled) == (False, False)


def test_edited_stored_case_is_noticed_when_the_user_comes_back(
    fake_logic, panel, ui, segmentation, process_events_until
):
    fake_logic.changed = [(segmentation, case_record(2))]
    panel.exit()
    panel.enter()
    question = ui.improveNoteLabel.text
    assert "was edited since it was stored as case-0002" in question
    panel.improve.failed(DatasetError("The folder is read-only."))
    assert ui.improveNoteLabel.text == "The folder is read-only."
    ui.improveNote1Button.click()
    assert (ui.improveNoteFrame.visible, ui.improveNoteLabel.text) == (True, question), "it is asked still"
    ui.improveNote2Button.click()
    panel.enter()
    assert not ui.improveNoteFrame.visible
    fake_logic.changed = [(segmentation, case_record(2, revision=2))]
    panel.enter()
    ui.improveNote1Button.click()
    process_events_until(lambda: "addCase" in fake_logic.jobs_of, 20)
    assert fake_logic.last("addCase").arguments["segmentation"] is segmentation
    assert not ui.improveNoteFrame.visible


@pytest.mark.usefixtures("segmentation")
def test_what_goes_wrong_is_shown_in_the_section(fake_logic, ui, add):
    fake_logic.refusals["proposeCase"] = NodeError("The volume is sheared.", "Resample it first.")
    add()
    assert ui.improveNoteLabel.text == "The volume is sheared. Resample it first."
    ui.improveNote1Button.click()
    assert not ui.improveNoteFrame.visible


# The stored ones ------------------------------------------------------------------------------------------------------


@pytest.fixture
def three(store, panel, improve, tmp_path):  # noqa: ARG001
    """Three stored cases with pictures, the last one for validation."""
    from PIL import Image

    store.folder = tmp_path
    store.records[:] = [case_record(1), case_record(2), case_record(3, role="check")]
    for record in store.records:
        (tmp_path / record.id).mkdir()
        Image.new("RGB", (96, 96), "#446688").save(tmp_path / record.id / "thumbnail.png")
    panel.enter()
    return store.records


def test_no_case_hides_the_table(ui, improve):  # noqa: ARG001
    assert ui.casesLabel.text
    assert (ui.casesTable.visible, ui.openCaseButton.visible) == (False, False)


@pytest.mark.usefixtures("three")
def test_table_shows_picture_text_and_use(ui):
    table = ui.casesTable
    assert ui.casesLabel.text == "3 cases, 1 for validation"
    assert all(not table.item(row, 0).icon().isNull() for row in range(3))
    assert table.item(0, 1).text().startswith("case-0001\n")
    assert [role_combo(ui, row).currentText for row in range(3)] == ["Training", "Training", "Validation"]


@pytest.mark.usefixtures("three")
def test_table_of_few_cases_has_no_blank_space(panel, ui, store, settle):
    del store.records[1:]
    panel.enter()
    settle()
    table = ui.casesTable
    assert table.rowCount == 1
    assert table.maximumHeight <= table.rowHeight(0) + 40


@pytest.mark.usefixtures("three")
def test_cases_are_read_only_while_the_section_is_open(fake_logic, panel, ui, store):
    before = store.reads
    panel.enter()
    assert store.reads == before + 1
    store.records.pop()
    ui.caseFolderPathLineEdit.currentPath = "/data/my cases"
    assert fake_logic.called("setCaseFolder") == [["/data/my cases"]]
    assert ui.casesTable.rowCount == 2
    before = store.reads
    ui.improveCollapsibleButton.collapsed = True
    panel.enter()
    assert store.reads == before


@pytest.mark.usefixtures("three")
def test_use_is_changed_in_the_table(fake_logic, ui, store):
    combo = role_combo(ui, 0)
    combo.setCurrentIndex(1)
    assert store.records[0].role == "check"
    assert role_combo(ui, 0) == combo, "it stays under the hand"
    assert ui.casesLabel.text == "3 cases, 2 for validation"
    fake_logic.refusals["setCaseRole"] = DatasetError("The folder is read-only.")
    combo.setCurrentIndex(0)
    assert combo.currentText == "Validation", "as it was"


@pytest.mark.usefixtures("three")
def test_removing_asks_beside_the_table(ui, store):
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


@pytest.mark.usefixtures("three")
def test_opening_a_case_chooses_its_nodes(fake_logic, panel, ui, add_volume, add_result):
    scan = add_volume("case-0001")
    fake_logic.opened = (scan, add_result(scan, panel.bundle)[0])
    ui.casesTable.selectRow(0)
    ui.openCaseButton.click()
    assert (panel.parameters.inputVolume, panel.parameters.outputSegmentation) == fake_logic.opened
    ui.casesTable.cellDoubleClicked(2, 1)
    assert [case for case, _model in fake_logic.called("openCase")] == ["case-0001", "case-0003"]


# What learning needs --------------------------------------------------------------------------------------------------


def test_packages_for_learning_are_offered_and_installed_in_this_section_only(
    dependencies, panel, ui, plugin, volume, settle
):
    code = plugin("dependencies")
    problem = code.Problem("nibabel", "missing", "nibabel is missing", "nibabel>=5", 3.0, purpose="train")
    lacking = code.DependencyReport("/opt/PythonSlicer", version="3.12.1", problems=(problem,), purpose="train")
    dependencies.training = lacking
    assert "train" not in dependencies.purposes, "nothing is looked up while the section is closed"
    ui.improveCollapsibleButton.collapsed = False
    settle()
    assert dependencies.purposes.count("train") == 1
    assert "nibabel" in ui.trainPackagesLabel.text
    assert not ui.dependencyFrame.visible
    assert "nibabel" in ui.addCaseButton.toolTip
    assert (ui.addCaseButton.enabled, ui.segmentButton.enabled) == (False, True)
    asked = []

    class Installer:
        def install(self, report, progress, done):
            asked.append((report, progress, done))

    panel.improve.packages.installer = Installer()
    ui.trainPackages1Button.click()
    report, progress, done = asked[0]
    assert report is lacking
    progress("Downloading nibabel")
    assert "Downloading nibabel" in ui.trainPackagesLabel.text
    assert not ui.trainPackages1Button.visible
    done(code.DependencyReport("/opt/PythonSlicer", version="3.12.1", purpose="train"), None)
    assert not ui.trainPackagesFrame.visible
    assert volume is panel.parameters.inputVolume


def test_where_only_openvino_is_one_button_says_what_fine_tuning_needs(
    dependencies, panel, ui, plugin, volume, settle, monkeypatch, add_result
):
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    code = plugin("dependencies")
    torch = code.Problem("torch", "missing", "torch is missing", "torch>=2.6", 900.0, True, purpose="train")
    dependencies.training = code.DependencyReport("/opt/PythonSlicer", problems=(torch,), purpose="train")
    ui.improveCollapsibleButton.collapsed = False
    settle()
    assert "To fine-tune, Slicer needs torch" in ui.trainPackagesLabel.text
    assert "install it in the Extensions Manager" in ui.trainPackagesLabel.text
    assert (ui.trainPackages1Button.text, ui.trainPackages2Button.visible) == ("Open Extensions Manager", False)
    assert (panel.parameters.inputVolume, ui.segmentButton.enabled) == (volume, True)
    panel.set_parameter("outputSegmentation", add_result(volume, panel.bundle)[0])
    panel.update()
    assert ui.addCaseButton.enabled, "storing needs no torch"
    assert not ui.fineTuneButton.enabled


# The next one ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def scans(ui, improve, add_volume, settle):
    """Three scans in the scene; the section is open."""
    ui.nextCollapsibleButton.collapsed = False
    nodes = [improve, add_volume("Second"), add_volume("Third")]
    settle()
    return nodes


@pytest.fixture
def rank(fake_logic, panel, ui, scans):
    """Press Rank; returns the job, with a row for each scan, and the rows."""
    panel.improve.next_case.presenter.double_click_s = 0.0

    def rank():
        ui.rankButton.click()
        job = fake_logic.last("nextCases")
        job.rows[:] = [
            Ranked("Third", scans[2], score=0.42, entropy=0.42, position=(3.0, -4.0, 12.0)),
            Ranked("MNI152 head", scans[0], score=0.11, entropy=0.11),
            Ranked("Second", scans[1], error=GeometryError("Second has 1 slice: it is not a volume.")),
        ]
        return job

    return rank


def test_without_a_scan_there_is_nothing_to_rank(panel, ui):
    ui.improveCollapsibleButton.collapsed = False
    ui.nextCollapsibleButton.collapsed = False
    panel.update()
    assert not ui.rankButton.enabled
    assert ui.rankButton.toolTip == "There is no open scan without a corrected case."


def test_ranked_scans_are_listed_while_others_are_measured(fake_logic, ui, scans, rank):
    job = rank()
    assert fake_logic.called("nextCases")[0][0] == scans
    assert ui.rankButton.text == "Cancel"
    job.go_on("Second", 0.4)
    assert (ui.rankProgressBar.visible, ui.rankProgressBar.value) == (True, 400)
    assert ui.rankLabel.text == "Segmenting Second"
    ui.rankButton.click()
    assert job.cancel_requested
    job.fail(Cancelled())
    assert ui.rankButton.text == "Rank scans"
    assert texts_of(ui.rankTable, 0) == ["1", "2", "\u2013"]
    assert texts_of(ui.rankTable, 1) == ["Third", "MNI152 head", "Second"]
    assert texts_of(ui.rankTable, 2)[0] == "uncertainty 0.42"
    assert (ui.rankProgressBar.visible, ui.improveNoteFrame.visible) == (False, False)
    slicer.mrmlScene.Clear(0)
    assert not ui.rankTable.visible


def test_the_row_on_top_is_selected_when_scans_change_their_order(ui, rank):
    job = rank()
    last, *others = job.rows
    job.rows[:] = others
    job.go_on("Second", 0.4)
    assert ui.rankTable.currentRow() == 0
    job.rows[:] = [last, *others]
    job.succeed(None)
    assert (ui.rankTable.currentRow(), texts_of(ui.rankTable, 1)[0]) == (0, "Third")
    assert len(ui.rankTable.selectedItems()) == 3


def test_ticked_scans_only_or_those_that_are_not_stored(fake_logic, panel, ui, scans, add_result):
    node, _summary = add_result(scans[0], panel.bundle)
    node.SetAttribute("MAESegment.Case", "hippocampus-mr/case-0001")
    ui.rankButton.click()
    fake_logic.last("nextCases").fail(Cancelled())
    ui.nextVolumesSelector.setCheckState(scans[1], 2)
    ui.rankButton.click()
    assert [arguments[0] for arguments in fake_logic.called("nextCases")] == [scans[1:], [scans[1]]]


def test_least_certain_slice_is_shown_and_the_scan_chosen(panel, ui, scans, rank):
    view = slicer.vtkMRMLSliceNode()
    view.SetName("Red")
    view.SetLayoutName("Red")
    view = slicer.mrmlScene.AddNode(view)
    rank().succeed(None)
    ui.showSliceButton.click()
    assert panel.parameters.inputVolume is scans[2]
    assert [view.GetSliceToRAS().GetElement(row, 3) for row in range(3)] == [3.0, -4.0, 12.0]
    ui.rankTable.selectRow(2)
    assert not ui.showSliceButton.enabled
    ui.rankTable.cellDoubleClicked(1, 0)
    assert panel.parameters.inputVolume is scans[0]
    slicer.mrmlScene.RemoveNode(scans[2])
    ui.rankTable.cellDoubleClicked(0, 0)
    assert ui.improveNoteLabel.text == "Third is no longer in the scene."


@pytest.mark.usefixtures("scans")
def test_folder_of_scans(fake_logic, panel, ui, tmp_path, add_volume, monkeypatch):
    choose(ui.nextSourceComboBox, "A folder")
    assert not ui.nextVolumesSelector.visible
    assert ui.rankButton.toolTip == "Choose a folder of scans."
    ui.nextFolderPathLineEdit.currentPath = str(tmp_path)
    ui.rankButton.click()
    assert fake_logic.called("nextCases")[0][0] == str(tmp_path)
    scan, series = tmp_path / "head.nii.gz", tmp_path / "series"
    scan.write_bytes(b"")
    series.mkdir()
    job = fake_logic.last("nextCases")
    job.rows[:] = [Ranked("head", scan, score=0.3), Ranked("series", series, score=0.2)]
    job.succeed(None)
    loaded = []

    def load(path: str):
        loaded.append(Path(path))
        return add_volume("head")

    monkeypatch.setattr(slicer.util, "loadVolume", load, raising=False)
    ui.showSliceButton.click()
    assert loaded == [scan]
    assert panel.parameters.inputVolume.GetName() == "head"
    ui.rankTable.cellDoubleClicked(1, 0)
    assert "series is a folder of DICOM files." in ui.improveNoteLabel.text
