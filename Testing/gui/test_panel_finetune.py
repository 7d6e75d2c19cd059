"""The widgets of fine-tuning; what they show is tested in Testing/unit/app/test_finetune_presenter.py."""

from __future__ import annotations

import math

import pytest
import slicer

from MAESegmentLib.errors import WorkerError
from MAESegmentLib.runs import Curves, RunState, RunStatus
from Testing.fake_logic import FakeRun, case_record, run_curves, run_result
from Testing.gui.panel_fixtures import texts_of
from Testing.gui.standin import to_qt

RUNNING = RunStatus(
    RunState.RUNNING, "train", "Training, step 120 of 280", 0.43, 400.0, 120, 280, None, "cuda:0", "NVIDIA T4", 300.0
)


@pytest.fixture
def ui(panel):
    return panel.ui


@pytest.fixture
def cases(panel, store, volume):  # noqa: ARG001
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


def series_of(chart):
    found = [chart.GetNthPlotSeriesNode(number) for number in range(chart.GetNumberOfPlotSeriesNodes())]
    return {series.GetName(): series for series in found}


def column(series):
    array = series.GetTableNode().GetTable().GetColumnByName(series.GetYColumnName())
    values = [array.GetValue(row) for row in range(array.GetNumberOfTuples())]
    return [value for value in values if math.isfinite(value)]


def test_fields_and_buttons_reach_the_presenter(fake_logic, panel, ui, cases):  # noqa: ARG001
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
    arguments = fake_logic.runs[-1].arguments
    assert (arguments["model"].name, arguments["device"], arguments["steps"]) == ("hippocampus-mr", "cpu", 40)
    assert not ui.fineTuneButton.enabled
    assert ui.fineTuneButton.toolTip == "A fine-tuning is running."
    fake_logic.runs[-1].tell(RUNNING)
    ui.stopKeepButton.click()
    assert fake_logic.runs[-1].asked == ["stop"]


def test_run_is_drawn_with_its_progress_and_dice(ui, run):
    run.tell(RUNNING, run_curves(120))
    assert ui.runLabel.text == "Training, step 120 of 280. About 7 min left, on NVIDIA T4."
    assert ui.runProgressBar.value == 430
    assert "close Slicer" in ui.runHintLabel.text
    assert ui.improveCollapsibleButton.text == "Improve (fine-tuning, 43 %)"
    assert texts_of(ui.diceTable, 1) == ["0.71", "0.70", "0.72"]
    assert ui.segmentButton.enabled, "segmenting is possible meanwhile"


def test_curves_are_slicers_plots_hidden_and_not_saved(ui, run):
    run.tell(RUNNING, run_curves(120))
    dice, loss = charts()["MAESegmentDice"], charts()["MAESegmentLoss"]
    lines = series_of(dice)
    assert list(lines) == ["anterior", "anterior before", "posterior", "posterior before", "mean", "mean before"]
    assert column(lines["mean"])[0] == pytest.approx(0.71), "it begins with what the base can do"
    assert set(column(lines["mean before"])) == {0.71}
    assert lines["mean before"].GetLineStyle() == lines["mean"].LineStyleDash
    assert dice.GetXAxisRange() == (0.0, 280.0)
    assert len(column(series_of(loss)["loss"])) == 120
    views = slicer.util.getNodesByClass("vtkMRMLPlotViewNode")
    assert {view.GetPlotChartNodeID() for view in views} == {dice.GetID(), loss.GetID()}
    tables = slicer.util.getNodesByClass("vtkMRMLTableNode")
    for node in (dice, loss, *lines.values(), *tables, *views):
        assert node.GetHideFromEditors()
        assert not node.GetSaveWithScene()
    assert ui.curvesWidget.visible


def test_curves_follow_and_are_not_drawn_again_without_news(run):
    run.tell(RUNNING, run_curves(40))
    table = series_of(charts()["MAESegmentLoss"])["loss"].GetTableNode()
    before = table.GetTable()
    run.tell(RUNNING, run_curves(40))
    assert table.GetTable() is before
    run.tell(RUNNING, run_curves(60))
    assert len(column(series_of(charts()["MAESegmentLoss"])["loss"])) == 60


def test_first_points_are_drawn_without_complaints(slicer_gui, ui, run):
    """VTK's complaints fail every test."""
    first = run_curves(20)
    run.tell(RUNNING, Curves(first.loss[:1]))
    slicer_gui.processEvents()
    run.tell(RUNNING, first)
    slicer_gui.processEvents()
    layout = ui.curvesWidget.layout()
    above, below = (layout.itemAt(number).widget() for number in (0, 1))
    assert above.height() > below.height(), "Dice stays above, though the loss was there first"
    assert above.isVisible()
    assert below.isVisible()


def test_curves_come_back_after_the_scene_was_closed(panel, run, ui, settle):
    run.tell(RUNNING, run_curves(40))
    before = charts()["MAESegmentDice"]
    slicer.mrmlScene.Clear(0)
    settle()
    assert set(charts()) == {"MAESegmentDice", "MAESegmentLoss"}
    assert charts()["MAESegmentDice"] is not before
    run.tell(RUNNING, run_curves(60))
    assert len(column(series_of(charts()["MAESegmentLoss"])["loss"])) == 60
    assert ui.runLabel.text.startswith("Training")
    assert panel.improve.learning.presenter.is_running


def test_discarding_asks_beside_the_button(ui, run):
    run.tell(RUNNING, run_curves(40))
    ui.discardRunButton.click()
    ui.runAsk2Button.click()
    assert run.asked == []
    assert ui.discardRunButton.text == "Cancel and discard"
    ui.discardRunButton.click()
    ui.runAsk1Button.click()
    assert run.asked == ["discard"]
    assert not ui.runFrame.visible
    assert charts() == {}
    assert ui.planNoteLabel.text == "Discarded. Your models are unchanged."
    assert ui.fineTuneButton.enabled
    assert ui.improveCollapsibleButton.text == "Improve"


def test_run_of_an_earlier_slicer_is_found_and_opens_the_section(fake_logic, panel, ui):
    fake_logic.runs.append(FakeRun())
    fake_logic.runs[0].status = RUNNING
    assert ui.improveCollapsibleButton.collapsed
    panel.enter()
    assert not ui.improveCollapsibleButton.collapsed
    assert ui.runFrame.visible
    fake_logic.runs[0].tell(RUNNING)
    assert ui.runProgressBar.value == 430


def test_cases_and_labels_are_shown_on_request(ui, run):
    run.finish(run_result())
    assert not ui.outcomeTable.visible
    ui.outcomeButton.click()
    assert ui.outcomeTable.visible
    assert texts_of(ui.outcomeTable, 0) == ["case-0005", "", "", "case-0006"]
    assert texts_of(ui.outcomeTable, 1) == ["Mean", "anterior", "posterior", "Mean"]
    assert texts_of(ui.outcomeTable, 2) == [
        "0.70 \u2192 0.86",
        "0.69 \u2192 0.85",
        "0.71 \u2192 0.87",
        "0.75 \u2192 0.73 \u25be",
    ]


def test_using_the_new_version_chooses_it(fake_logic, panel, ui, run, new_version):
    run.finish(run_result())
    assert ui.modelComboBox.findData("hippocampus-mr@1.3.0") >= 0, "it is listed when it is there"
    ui.bannerAsk1Button.click()
    assert run.asked == ["accept"]
    assert panel.parameters.modelName == "hippocampus-mr@1.3.0"
    assert ui.planNoteLabel.text == "hippocampus-mr 1.3.0 is used from now on."
    assert not ui.runFrame.visible
    assert new_version in fake_logic.bundles


def test_unloading_the_module_leaves_no_nodes_and_lets_the_run_go_on(host, ui, run):
    run.tell(RUNNING, run_curves(40))
    host.panel.cleanup()
    assert charts() == {}
    run.tell(RUNNING, run_curves(60))
    assert charts() == {}
    assert run.asked == []
    assert to_qt(ui.runFrame) is not None
