"""Fine-tuning and versions in Slicer's panel; what the widgets show is tested in Testing/unit/app."""

from __future__ import annotations

import math
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import slicer

from MAESegmentLib import mrml
from MAESegmentLib.errors import BundleError, Cancelled, WorkerError
from MAESegmentLib.evaluation.comparison import Row
from MAESegmentLib.images.labels import Label
from MAESegmentLib.runs import Curves
from Testing.fake_logic import RUNNING, FakeRun, case_record, run_curves, run_result
from Testing.gui import standin
from Testing.gui.panel_fixtures import texts_of
from Testing.gui.standin import to_qt


@pytest.fixture
def cases(panel, store, improve):  # noqa: ARG001
    """Four stored cases, one of them for validation."""
    store.records[:] = [case_record(1), case_record(2), case_record(3), case_record(4, role="check")]
    panel.enter()
    return store.records


@pytest.fixture
def run(fake_logic, ui, cases):  # noqa: ARG001
    """A fine-tuning that was started from the panel."""
    ui.fineTuneButton.click()
    return fake_logic.runs[-1]


def charts():
    return {node.GetName(): node for node in slicer.util.getNodesByClass("vtkMRMLPlotChartNode")}


def series_of(name):
    chart = charts()[name]
    found = [chart.GetNthPlotSeriesNode(number) for number in range(chart.GetNumberOfPlotSeriesNodes())]
    return {series.GetName(): series for series in found}


def column(series):
    array = series.GetTableNode().GetTable().GetColumnByName(series.GetYColumnName())
    values = [array.GetValue(row) for row in range(array.GetNumberOfTuples())]
    return [value for value in values if math.isfinite(value)]


@pytest.mark.usefixtures("cases")
def test_fields_and_buttons_reach_the_presenter(fake_logic, panel, ui):
    panel.parameters.device = "cpu"
    assert ui.planLabel.text.startswith("4 cases, 1 for validation.")
    ui.stepsLineEdit.setText("40")
    ui.estimateButton.click()
    assert fake_logic.last("estimateFineTune").arguments["steps"] == 40
    assert not ui.estimateButton.enabled
    fake_logic.refusals["fineTune"] = WorkerError("No Python was found.", "Choose one.")
    ui.fineTuneButton.click()
    assert ui.improveNoteLabel.text == "No Python was found. Choose one."
    assert not ui.runFrame.visible
    ui.fineTuneButton.click()
    run = fake_logic.runs[-1]
    assert run.arguments.items() >= {"model": panel.bundle, "device": "cpu", "steps": 40}.items()
    assert (ui.fineTuneButton.enabled, ui.fineTuneButton.toolTip) == (False, "A fine-tuning is running.")
    run.tell(RUNNING)
    ui.stopKeepButton.click()
    assert run.asked == ["stop"]


@pytest.mark.usefixtures("cases")
def test_time_is_chosen_and_steps_under_advanced_take_its_place(fake_logic, ui):
    texts = [ui.timeComboBox.itemText(number) for number in range(ui.timeComboBox.count)]
    assert (len(texts), ui.timeComboBox.currentText) == (4, "Standard (10 min)")
    assert not ui.timeNoteLabel.visible
    ui.timeComboBox.setCurrentIndex(0)
    assert fake_logic.session.kept == {"FineTuneTime": "quick"}
    ui.stepsLineEdit.setText("40")
    assert "takes the place of the time" in ui.timeNoteLabel.text
    assert (ui.timeNoteLabel.visible, ui.timeComboBox.enabled) == (True, False)
    ui.stepsLineEdit.setText("")
    ui.fineTuneButton.click()
    assert fake_logic.runs[-1].arguments["minutes"] == 2.0


def test_leave_one_out_can_be_left_out_where_it_is_the_only_way(fake_logic, ui, cases, panel):
    assert not ui.validateCheckBox.visible
    cases.pop()
    panel.improve.refresh()
    assert (ui.validateCheckBox.visible, ui.validateCheckBox.checked) == (True, True)
    ui.validateCheckBox.click()
    assert "not estimated" in ui.planLabel.text
    ui.fineTuneButton.click()
    assert fake_logic.runs[-1].arguments["validation"] == "none"


@pytest.mark.usefixtures("cases")
def test_scans_without_labels_are_ticked_or_all_of_the_scene_or_of_a_folder(fake_logic, panel, ui, tmp_path):
    assert not ui.moreVolumesSelector.visible
    first, second = (slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name) for name in "AB")
    ui.moreSourceComboBox.setCurrentIndex(1)
    assert (ui.moreVolumesSelector.visible, ui.moreFolderPathLineEdit.visible) == (True, False)
    assert ui.moreNoteLabel.text.startswith("MNI152 head, A, B. The model also learns")
    ui.moreVolumesSelector.setCheckState(second, 2)
    assert ui.moreNoteLabel.text.startswith("B. ")
    ui.moreSourceComboBox.setCurrentIndex(2)
    assert (ui.moreVolumesSelector.visible, ui.moreFolderPathLineEdit.visible) == (False, True)
    assert "Choose a folder" in ui.fineTuneButton.toolTip
    ui.moreFolderPathLineEdit.currentPath = str(tmp_path)
    ui.fineTuneButton.click()
    assert fake_logic.runs[-1].arguments["unlabelled"] == str(tmp_path)
    assert panel.improve.more_scans("scene", "") == [second]
    assert first not in panel.improve.learning.ticked


@pytest.mark.usefixtures("cases")
def test_what_times_brought_is_shown_when_it_is_asked_for(ui):
    assert not ui.measuredTable.visible
    ui.measuredButton.click()
    assert "0.81" in texts_of(ui.measuredTable, 3)
    assert ui.measuredLabel.visible


def test_run_is_drawn_with_its_progress_and_dice(ui, run):
    run.tell(RUNNING, run_curves(120))
    assert ui.runLabel.text.startswith("Training, step 120 of 280. Ends at about ")
    assert ui.runProgressBar.value == 430
    assert "close Slicer" in ui.runHintLabel.text
    assert ui.improveCollapsibleButton.text == "Improve (fine-tuning, 43 %)"
    assert texts_of(ui.diceTable, 1) == ["0.71", "0.70", "0.72"]
    assert ui.segmentButton.enabled, "segmenting is possible meanwhile"


def test_curves_are_slicers_plots_hidden_and_not_saved(ui, run):
    run.tell(RUNNING, run_curves(120))
    dice, loss = charts()["MAESegmentDice"], charts()["MAESegmentLoss"]
    lines = series_of("MAESegmentDice")
    assert list(lines) == ["anterior", "anterior before", "posterior", "posterior before", "mean", "mean before"]
    assert column(lines["mean"])[0] == pytest.approx(0.71), "it begins with what the base can do"
    assert set(column(lines["mean before"])) == {0.71}
    assert lines["mean before"].GetLineStyle() == lines["mean"].LineStyleDash
    assert dice.GetXAxisRange() == (0.0, 280.0)
    assert len(column(series_of("MAESegmentLoss")["loss"])) == 120
    views = slicer.util.getNodesByClass("vtkMRMLPlotViewNode")
    assert {view.GetPlotChartNodeID() for view in views} == {dice.GetID(), loss.GetID()}
    for node in (dice, loss, *lines.values(), *slicer.util.getNodesByClass("vtkMRMLTableNode"), *views):
        assert node.GetHideFromEditors()
        assert not node.GetSaveWithScene()
    assert ui.curvesWidget.visible


def test_curves_take_the_colours_of_structures_that_are_known_later(panel, run, store):
    run.tell(RUNNING, Curves(dice=((20, {"cyst": 0.5, "mean": 0.5}), (40, {"cyst": 0.6, "mean": 0.6}))))
    store.labels = lambda: (Label(3, "cyst", (10, 200, 30)),)
    panel.improve.refresh()
    assert series_of("MAESegmentDice")["cyst"].GetColor() == pytest.approx((10 / 255, 200 / 255, 30 / 255))


def test_curves_follow_also_after_the_scene_was_closed(ui, run, settle):
    run.tell(RUNNING, run_curves(40))
    table = series_of("MAESegmentLoss")["loss"].GetTableNode()
    before = table.GetTable()
    run.tell(RUNNING, run_curves(40))
    assert table.GetTable() is before, "without news nothing is drawn again"
    run.tell(RUNNING, run_curves(60))
    assert len(column(series_of("MAESegmentLoss")["loss"])) == 60
    slicer.mrmlScene.Clear(0)
    settle()
    assert set(charts()) == {"MAESegmentDice", "MAESegmentLoss"}
    run.tell(RUNNING, run_curves(80))
    assert len(column(series_of("MAESegmentLoss")["loss"])) == 80
    assert ui.runLabel.text.startswith("Training")


def test_first_points_are_drawn_without_complaints(slicer_gui, ui, run):
    """VTK's complaints fail every test."""
    first = run_curves(20)
    for curves in (Curves(first.loss[:1]), first):
        run.tell(RUNNING, curves)
        slicer_gui.processEvents()
    above, below = (ui.curvesWidget.layout().itemAt(number).widget() for number in (0, 1))
    assert above.height() > below.height(), "Dice stays above, though the loss was there first"
    assert (above.isVisible(), below.isVisible()) == (True, True)


def test_a_run_that_starts_is_scrolled_into_view(slicer_gui, host, ui, cases, settle):  # noqa: ARG001
    from PySide6 import QtWidgets

    area = QtWidgets.QScrollArea()
    area.setWidgetResizable(True)
    area.setWidget(to_qt(host.parent))
    area.resize(490, 300)
    area.show()
    slicer_gui.processEvents()
    ui.fineTuneButton.click()
    settle()
    top = to_qt(ui.runProgressBar).mapTo(area.viewport(), to_qt(ui.runProgressBar).rect().topLeft()).y()
    assert 0 <= top < 300 - to_qt(ui.runProgressBar).height()
    area.takeWidget()


def test_discarding_asks_beside_the_button(ui, run):
    run.tell(RUNNING, run_curves(40))
    ui.discardRunButton.click()
    ui.runAsk2Button.click()
    assert run.asked == []
    ui.discardRunButton.click()
    ui.runAsk1Button.click()
    assert run.asked == ["discard"]
    assert (ui.runFrame.visible, charts()) == (False, {})
    assert ui.planNoteLabel.text == "Discarded. Your models are unchanged."
    assert ui.fineTuneButton.enabled
    assert ui.improveCollapsibleButton.text == "Improve"


def test_run_of_an_earlier_slicer_is_found_and_opens_the_section(fake_logic, panel, ui):
    fake_logic.runs.append(FakeRun(RUNNING))
    assert ui.improveCollapsibleButton.collapsed
    panel.enter()
    assert not ui.improveCollapsibleButton.collapsed
    assert ui.runFrame.visible
    assert ui.runTitleLabel.text.startswith("Fine-tuning of hippocampus-mr ")
    fake_logic.runs[0].tell(RUNNING)
    assert ui.runProgressBar.value == 430


def test_cases_and_labels_are_shown_on_request_and_the_new_version_can_be_used(panel, ui, run, new_version):
    run.finish(run_result())
    assert not ui.outcomeTable.visible
    ui.outcomeButton.click()
    assert ui.outcomeTable.visible
    assert texts_of(ui.outcomeTable, 0) == ["case-0005", "", "", "case-0006"]
    assert texts_of(ui.outcomeTable, 1) == ["Mean", "anterior", "posterior", "Mean"]
    assert texts_of(ui.outcomeTable, 2)[::3] == ["0.70 \u2192 0.86", "0.75 \u2192 0.73 \u25be"]
    name = f"hippocampus-mr@{new_version.version}"
    assert ui.modelComboBox.findData(name) >= 0, "it is listed when it is there"
    ui.bannerAsk1Button.click()
    assert run.asked == ["accept"]
    assert panel.parameters.modelName == name
    assert ui.planNoteLabel.text == "hippocampus-mr 2.1.0 is used from now on."
    assert not ui.runFrame.visible


def test_unloading_the_module_leaves_no_nodes_and_lets_the_run_go_on(panel, ui, run):
    run.tell(RUNNING, run_curves(40))
    panel.cleanup()
    assert charts() == {}
    run.tell(RUNNING, run_curves(60))
    assert charts() == {}
    assert run.asked == []
    assert to_qt(ui.runFrame) is not None


# Versions -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def both(panel, ui, improve, new_version, settle):  # noqa: ARG001
    """Version 2.1.0 is in use, made from 2.0.0; the list of versions is open."""
    panel.model.refresh()
    panel.parameters.modelName = "hippocampus-mr@2.1.0"
    ui.versionsCollapsibleButton.collapsed = False
    settle()
    return new_version


@pytest.mark.usefixtures("both")
def test_another_version_can_be_used(panel, ui, settle):
    assert texts_of(ui.versionsTable, 0) == ["2.1.0 (in use)", "2.0.0"]
    assert texts_of(ui.versionsTable, 1)[1].startswith("Mean Dice 0.")
    assert not ui.useVersionButton.enabled
    ui.versionsTable.selectRow(0)
    assert (ui.useVersionButton.enabled, ui.useVersionButton.toolTip) == (False, "It is in use.")
    ui.versionsTable.selectRow(1)
    ui.useVersionButton.click()
    assert panel.parameters.modelName == "hippocampus-mr@2.0.0"
    assert texts_of(ui.versionsTable, 0) == ["2.1.0", "2.0.0 (in use)"]
    panel.parameters.modelName = "hippocampus-mr@2.1.0"
    settle()
    assert texts_of(ui.versionsTable, 0) == ["2.1.0 (in use)", "2.0.0 (default)"]


@pytest.mark.usefixtures("both")
def test_the_way_back_is_one_button(fake_logic, panel, ui):
    fake_logic.refusals["useVersion"] = BundleError("The folder is read-only.", "Choose another.")
    ui.previousVersionButton.click()
    assert ui.improveNoteLabel.text == "The folder is read-only. Choose another."
    ui.previousVersionButton.click()
    assert panel.parameters.modelName == "hippocampus-mr@2.0.0"
    assert not ui.previousVersionButton.enabled
    assert "no version before" in ui.previousVersionButton.toolTip


@pytest.mark.usefixtures("both")
def test_export_and_deletion_ask_first(panel, ui, tmp_path, process_events_until):
    ui.versionsTable.selectRow(1)
    assert (ui.deleteVersionButton.enabled, ui.deleteVersionButton.toolTip) == (False, "It comes with MAESegment.")
    standin.dialogs.answers.append("")
    ui.exportVersionButton.click()
    assert ui.exportVersionButton.enabled, "the dialog was cancelled"
    standin.dialogs.answers.append(str(tmp_path / "old.zip"))
    ui.exportVersionButton.click()
    process_events_until(lambda: ui.versionAskFrame.visible, 30)
    assert "was written to" in ui.versionAskLabel.text
    assert zipfile.is_zipfile(tmp_path / "old.zip")
    ui.versionAsk1Button.click()
    assert not ui.versionAskFrame.visible
    ui.versionsTable.selectRow(0)
    ui.deleteVersionButton.click()
    ui.versionAsk2Button.click()
    assert ui.versionsTable.rowCount == 2
    ui.deleteVersionButton.click()
    ui.versionAsk1Button.click()
    assert texts_of(ui.versionsTable, 0) == ["2.0.0 (in use)"]
    assert panel.parameters.modelName == "hippocampus-mr@2.0.0"


def test_single_version_cannot_be_compared(ui, improve):  # noqa: ARG001
    ui.versionsCollapsibleButton.collapsed = False
    assert (ui.compareButton.enabled, ui.compareComboBox.enabled) == (False, False)
    assert ui.compareButton.toolTip == "There is no other version to compare with."


def another_volume(panel, _ui, add_volume):
    panel.parameters.inputVolume = add_volume("Another head")


def another_region(_panel, ui, _add_volume):
    ui.addRoiButton.click()


@pytest.mark.usefixtures("both")
@pytest.mark.parametrize("chosen", [another_volume, another_region])
def test_two_versions_on_the_chosen_volume(fake_logic, panel, ui, add_volume, settle, chosen):
    assert ui.compareComboBox.currentText == "hippocampus-mr 2.0.0"
    ui.compareButton.click()
    assert ui.compareButton.text == "Cancel"
    job = fake_logic.last("compare")
    job.go_on("segment", 0.5)
    name = "Scan: 2.0.0 or 2.1.0"
    assert (ui.compareProgressBar.visible, ui.compareProgressBar.value) == (True, 500)
    node = mrml.add_segmentation(panel.volume, panel.bundle.labels, np.ones((4, 6, 8), np.uint8), (0, 0, 0), name=name)
    job.succeed(SimpleNamespace(disagreement=node, disagreement_ml=0.1, rows=(Row("anterior", 1.23, 1.41, 0.88),)))
    assert name in ui.comparisonLabel.text
    header = ui.comparisonTable.horizontalHeaderItem
    assert [header(column).text() for column in range(4)] == ["Label", "2.0.0 (ml)", "2.1.0 (ml)", "Agreement"]
    assert [texts_of(ui.comparisonTable, column) for column in range(4)] == [["anterior"], ["1.23"], ["1.41"], ["0.88"]]
    assert not ui.compareProgressBar.visible
    chosen(panel, ui, add_volume)
    settle()
    assert (ui.comparisonTable.visible, ui.comparisonLabel.visible) == (False, False)
    panel.improve.versions.compare.presenter.double_click_s = 0.0
    ui.compareButton.click()
    ui.compareButton.click()
    assert fake_logic.last("compare").cancel_requested
    fake_logic.last("compare").fail(Cancelled())
    assert ui.compareButton.text == "Compare on this volume"
    assert not ui.improveNoteFrame.visible


@pytest.mark.usefixtures("both")
def test_banner_leads_to_the_comparison_and_stays(fake_logic, panel, ui, improve, run):
    run.finish(run_result())
    panel.parameters.inputVolume = None
    ui.bannerAsk3Button.click()
    assert ui.improveNoteLabel.text == "Choose a scan to compare on."
    panel.parameters.inputVolume = improve
    ui.bannerAsk3Button.click()
    scan, *models = fake_logic.called("compare")[0][:3]
    assert (scan, [model.version for model in models]) == (improve, ["2.0.0", "2.1.0"])
    assert not ui.versionsCollapsibleButton.collapsed
    assert ui.bannerAskFrame.visible
