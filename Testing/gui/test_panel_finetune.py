"""Fine-tuning in the panel: what it would take, how it goes, and what becomes of the result."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import slicer

from MAESegmentLib.errors import OutputError, TrainingError, WorkerError
from MAESegmentLib.runs import Curves, RunState, RunStatus
from Testing.gui.fake_learning import GIB, FakeRun, case_record, run_curves, run_result
from Testing.gui.improve_fixtures import texts_of
from Testing.gui.standin import to_qt

ESTIMATE = SimpleNamespace(
    seconds=720.0,
    memory_bytes=1.1 * GIB,
    free_bytes=12 * GIB,
    device_title="NVIDIA T4",
    warnings=("The disk is slow.",),
)
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


# Before ---------------------------------------------------------------------------------------------------------------


def test_without_cases_it_says_how_to_begin(ui, volume):  # noqa: ARG001
    assert not ui.fineTuneButton.enabled
    assert ui.fineTuneButton.toolTip == "Add a corrected case first."
    assert ui.planLabel.text == "Add corrected cases first; then the model can learn from them."


def test_plan_names_cases_and_base(ui, cases):  # noqa: ARG001
    assert ui.planLabel.text.splitlines() == [
        "4 cases, 1 for validation. Base: hippocampus-mr 1.2.1.",
        "The validation cases tell whether it got better.",
    ]
    assert ui.fineTuneButton.enabled


@pytest.mark.parametrize(
    ("count", "said"), [(1, "With a single case nothing"), (4, "indicative only"), (5, "Some cases are held out")]
)
def test_plan_says_how_it_is_checked(panel, ui, store, volume, count, said):  # noqa: ARG001
    store.records[:] = [case_record(number) for number in range(1, count + 1)]
    panel.enter()
    assert said in ui.planLabel.text


def test_cases_that_are_only_for_checking_are_not_enough(panel, ui, store, volume):  # noqa: ARG001
    store.records[:] = [case_record(1, role="check")]
    panel.enter()
    assert not ui.fineTuneButton.enabled
    assert "let the model learn from at least one" in ui.fineTuneButton.toolTip


def test_how_long_is_measured_on_request_and_forgotten_with_other_cases(fake_logic, panel, ui, cases, store):  # noqa: ARG001
    ui.estimateButton.click()
    assert ui.estimateButton.text == "Measuring..."
    assert not ui.estimateButton.enabled
    assert ui.fineTuneButton.enabled, "starting does not wait for it"
    fake_logic.last("estimateFineTune").succeed(ESTIMATE)
    assert "About 12 min on NVIDIA T4 (measured); needs 1.1 of 12 GB free memory." in ui.planLabel.text
    assert "\u26a0 The disk is slow." in ui.planLabel.text
    store.records.pop()
    panel.enter()
    assert "measured" not in ui.planLabel.text


def test_measuring_that_fails_is_said(fake_logic, ui, cases):  # noqa: ARG001
    ui.estimateButton.click()
    fake_logic.last("estimateFineTune").fail(TrainingError("Too little memory.", "Close other programs."))
    assert ui.improveNoteLabel.text == "Too little memory. Close other programs."
    assert ui.estimateButton.enabled


# Under way ------------------------------------------------------------------------------------------------------------


def test_start_takes_all_cases_the_chosen_model_and_device(fake_logic, panel, ui, cases):  # noqa: ARG001
    panel.parameters.device = "cpu"
    ui.estimateButton.click()
    ui.fineTuneButton.click()
    assert fake_logic.last("estimateFineTune").cancel_requested
    arguments = fake_logic.runs[-1].arguments
    assert arguments["model"].name == "hippocampus-mr"
    assert (arguments["cases"], arguments["device"]) == (None, "cpu")
    assert ui.runLabel.text == "Starting."
    assert not ui.fineTuneButton.enabled
    assert ui.fineTuneButton.toolTip == "A fine-tuning is running."


def test_refusal_to_start_is_said(fake_logic, ui, cases):  # noqa: ARG001
    fake_logic.refusals["fineTune"] = WorkerError("No Python was found.", "Choose one.")
    ui.fineTuneButton.click()
    assert ui.improveNoteLabel.text == "No Python was found. Choose one."
    assert not ui.runFrame.visible


def test_progress_time_left_and_what_may_be_done_meanwhile(ui, run):
    run.tell(RUNNING)
    assert ui.runLabel.text == "Training, step 120 of 280. About 7 min left, on NVIDIA T4."
    assert ui.runProgressBar.value == 430
    assert "close Slicer" in ui.runHintLabel.text
    assert ui.improveCollapsibleButton.text == "Improve (fine-tuning, 43 %)"


def test_segmenting_is_possible_meanwhile(ui, run):
    run.tell(RUNNING)
    assert ui.segmentButton.enabled


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
    assert panel.improve.learning.is_running


def test_dice_is_shown_label_by_label_before_and_now(ui, run):
    run.tell(RUNNING, run_curves(120))
    assert texts_of(ui.diceTable, 0) == ["Mean", "anterior", "posterior"]
    assert texts_of(ui.diceTable, 1) == ["0.71", "0.70", "0.72"]
    assert texts_of(ui.diceTable, 2)[0] > "0.71"


def test_stop_and_keep_best(ui, run):
    assert not ui.stopKeepButton.enabled
    assert ui.stopKeepButton.toolTip == "Nothing has been learned yet."
    run.tell(RUNNING)
    ui.stopKeepButton.click()
    assert run.asked == ["stop"]
    assert ui.stopKeepButton.text == "Stopping..."
    assert not ui.stopKeepButton.enabled


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
    assert ui.planNoteLabel.text == "Discarded. Your models are as they were."
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


def test_interrupted_run_can_go_on_or_be_discarded(fake_logic, panel, ui, cases):  # noqa: ARG001
    run = FakeRun()
    run.status = RunStatus(RunState.INTERRUPTED, text="It was interrupted at 43 %.", fraction=0.43)
    fake_logic.runs.append(run)
    panel.enter()
    assert ui.bannerAskLabel.text == "Fine-tuning was interrupted at 43 %; what it has learned is kept."
    assert not ui.liveWidget.visible
    assert not ui.fineTuneButton.enabled
    ui.bannerAsk1Button.click()
    assert run.asked == ["resume"]
    assert ui.liveWidget.visible
    assert not ui.bannerAskFrame.visible
    run.tell(RunStatus(RunState.FAILED, error=TrainingError("The loss is not finite.", "Look at the cases.")))
    assert ui.bannerAskLabel.text == "The loss is not finite. Look at the cases."
    ui.bannerAsk2Button.click()
    assert run.asked == ["resume", "discard"]
    assert not ui.runFrame.visible


# Finished -------------------------------------------------------------------------------------------------------------


def test_banner_says_what_it_was_good_for(ui, run):
    run.finish(run_result())
    assert ui.bannerAskLabel.text.replace("\u200b", "") == (
        "hippocampus-mr 1.3.0: mean Dice 0.71 -> 0.83 on 4 held-out cases; 1 case got worse."
    )
    assert [ui.bannerAsk1Button.text, ui.bannerAsk2Button.text, ui.bannerAsk3Button.text] == [
        "Use it",
        "Keep the old one",
        "Compare",
    ]
    assert not ui.liveWidget.visible
    assert texts_of(ui.diceTable, 2) == ["0.83", "0.82", "0.84"]
    assert ui.improveCollapsibleButton.text == "Improve (fine-tuning is finished)"


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


def test_keeping_the_old_one_changes_nothing(panel, ui, run):
    run.finish(run_result())
    ui.bannerAsk2Button.click()
    assert run.asked == ["decline"]
    assert panel.parameters.modelName == "hippocampus-mr@1.2.1"
    assert ui.planNoteLabel.text == "hippocampus-mr 1.2.1 stays in use."
    assert ui.fineTuneButton.enabled


def test_answer_of_a_script_counts_too(panel, ui, run, new_version):  # noqa: ARG001
    run.finish(run_result())
    run.accept()
    assert panel.parameters.modelName == "hippocampus-mr@1.3.0"
    assert not ui.runFrame.visible


def test_answer_that_cannot_be_noted_is_asked_again(ui, run):
    run.finish(run_result())
    run.refusal = OutputError("The disk is full.", "Free some space.")
    ui.bannerAsk1Button.click()
    assert ui.improveNoteLabel.text == "The disk is full. Free some space."
    assert ui.bannerAskFrame.visible


def test_worse_version_is_not_recommended(ui, run):
    run.finish(run_result(mean_after=0.69))
    assert ui.bannerAsk1Button.text == "Keep the old one"
    assert "It is not better than hippocampus-mr 1.2.1: keep the old one." in ui.bannerAskLabel.text
    ui.bannerAsk1Button.click()
    assert run.asked == ["decline"]


def test_nothing_measured_advises_to_compare(ui, run):
    run.finish(run_result(mean_before=None, mean_after=None, before=None, after=None, per_case=(), cases=1))
    assert "nothing was measured.\nCompare both on a scan before you decide." in ui.bannerAskLabel.text
    assert not ui.outcomeButton.visible
    assert not ui.diceTable.visible


def test_leave_one_out_is_called_indicative(ui, run):
    run.finish(run_result(how="leave-one-out", indicative_only=True, notes=("Trained on one device.",)))
    assert "leave-one-out (indicative only)" in ui.bannerAskLabel.text
    assert ui.bannerAskLabel.text.endswith("Trained on one device.")


def test_the_next_unanswered_run_follows(fake_logic, ui, run):
    other = FakeRun()
    other.run = SimpleNamespace(id="run-2", request=None)
    other.status = RunStatus(RunState.INTERRUPTED, fraction=0.1)
    fake_logic.runs.append(other)
    run.finish(run_result())
    ui.bannerAsk2Button.click()
    assert "interrupted at 10 %" in ui.bannerAskLabel.text


def test_unloading_the_module_leaves_no_nodes_and_lets_the_run_go_on(host, ui, run):
    run.tell(RUNNING, run_curves(40))
    host.panel.cleanup()
    assert charts() == {}
    run.tell(RUNNING, run_curves(60))
    assert charts() == {}
    assert run.asked == []
    assert to_qt(ui.runFrame) is not None
