"""The widgets of segmenting one scan or several; what they show is tested in Testing/unit/app."""

from __future__ import annotations

import pytest
import slicer

from MAESegmentLib.errors import (
    EDITED_OUTPUT,
    LACKS_BOX,
    Cancelled,
    DeviceError,
    DeviceMemoryError,
    MismatchError,
    NodeError,
    OutputError,
    WorkerError,
)
from MAESegmentLib.jobs import JobState
from MAESegmentLib.worker.client.client import WorkerState
from Testing.gui.panel_fixtures import texts_of


@pytest.fixture
def start(fake_logic, panel, ui, volume):  # noqa: ARG001
    """Press Segment; returns the job."""

    def start():
        ui.segmentButton.click()
        return fake_logic.jobs[-1]

    return start


@pytest.fixture
def result(panel, volume, start, add_result):
    """The segmentation that came out, with a warning."""
    segmentation, summary = add_result(volume, panel.bundle, warnings=("Unlike the training scans.",))
    start().succeed(segmentation, summary)
    return segmentation


def test_segment_becomes_cancel_and_choices_wait(panel, ui, start):
    panel.segment.double_click_s = 0.0
    panel.parameters.device, panel.parameters.mirroring, panel.parameters.allowCpu = "cpu", "off", False
    choices = (ui.inputSelector, ui.roiSelector, ui.modelComboBox, ui.importButton, ui.outputSelector)
    job = start()
    assert (job.arguments["device"], job.arguments["mirroring"], job.arguments["allowCpu"]) == ("cpu", False, False)
    assert (ui.segmentButton.text, ui.segmentButton.toolTip) == ("C&ancel", "Stop; nothing is changed.")
    assert not any(widget.enabled for widget in (*choices, ui.deviceComboBox, ui.batchButton))
    assert ui.batchButton.toolTip == "A segmentation is running."
    assert ui.logButton.enabled
    ui.segmentButton.click()
    assert job.cancel_requested
    assert (ui.segmentButton.text, ui.segmentButton.enabled) == ("Cancelling...", False)
    job.fail(Cancelled())
    assert (ui.segmentButton.text, ui.segmentButton.enabled) == ("&Segment", True)
    assert all(widget.enabled for widget in choices)
    assert ui.messageLabel.text == "Cancelled."


def test_progress_is_a_text_and_a_bar(fake_logic, ui, start):
    fake_logic.session.client.state = WorkerState.STARTING
    job = start()
    assert "only the first time" in ui.stageLabel.text
    assert ui.progressBar.maximum == 0, "it only moves"
    fake_logic.session.client.state = WorkerState.IDLE
    job.go_on("segment", 0.5, 8.2)
    assert ui.stageLabel.text == "Segmenting, about 9 s left"
    assert 0.5 < ui.progressBar.value / ui.progressBar.maximum < 0.56


def test_result_is_one_line_and_the_volume_of_each_segment(panel, ui, result):
    line = ui.resultLabel.text.replace("\u200b", "")
    assert line == "MNI152 head \u2013 hippocampus-mr 2.0.0: 2 segments, 6.1 ml, 1.8 s on NVIDIA GeForce RTX 3060"
    assert [texts_of(ui.segmentsTable, column) for column in (0, 1)] == [["anterior", "posterior"], ["3.07", "3.07"]]
    assert panel.parameters.outputSegmentation is ui.outputSelector.currentNode() is result
    assert ui.warningLabel.text == "\u26a0 Unlike the training scans."
    assert (ui.messageFrame.visible, ui.progressWidget.visible) == (False, False)
    result.GetSegmentation().GetNthSegment(0).SetName("front")
    panel.exit()
    panel.enter()
    assert texts_of(ui.segmentsTable, 1) == ["edited", "edited"]


def test_show_3d_makes_surfaces_and_hides_them_again(ui, result, process_events_until):
    ui.show3DButton.click()
    process_events_until(lambda: result.GetSegmentation().ContainsRepresentation("Closed surface"), 20)
    process_events_until(lambda: result.GetDisplayNode().GetVisibility3D(), 20)
    ui.show3DButton.click()
    assert not result.GetSegmentation().ContainsRepresentation("Closed surface")


def test_show_3d_is_slicers_own_button_and_says_what_others_did(ui, result):
    assert ui.show3DButton.className() == "qMRMLSegmentationShow3DButton"
    result.CreateClosedSurfaceRepresentation()
    assert ui.show3DButton.checked


@pytest.mark.usefixtures("result")
def test_the_next_result_is_in_3d_where_the_user_wanted_that(fake_logic, panel, ui, add_result, process_events_until):
    ui.show3DButton.click()
    ui.segmentButton.click()
    new = add_result(panel.parameters.inputVolume, panel.bundle)
    fake_logic.jobs[-1].succeed(*new)
    process_events_until(lambda: new[0].GetSegmentation().ContainsRepresentation("Closed surface"), 20)
    process_events_until(lambda: ui.show3DButton.checked, 20)


def test_correct_opens_segment_editor_on_the_result_and_its_scan(ui, volume, result, settle):
    ui.correctButton.click()
    assert slicer.util.selected_modules == ["SegmentEditor"]
    editor = slicer.util.getModuleWidget("SegmentEditor").editor
    assert (editor.node, editor.volume) == (result, volume)
    slicer.mrmlScene.RemoveNode(result)
    settle()
    assert not ui.resultFrame.visible


@pytest.mark.parametrize(
    ("error", "number", "state"),
    [
        (DeviceMemoryError("Too little memory."), 1, lambda panel: panel.parameters.device == "cpu"),
        (DeviceMemoryError("Too little memory."), 2, lambda panel: panel.parameters.roi is not None),
        (DeviceError("There is no cuda:7."), 1, lambda panel: panel.parameters.device == "auto"),
        (NodeError("Edited.", problem=EDITED_OUTPUT), 1, lambda panel: panel.job is not None),
        (MismatchError("A CT."), 1, lambda panel: panel.job is not None and panel.job.arguments["allowMismatch"]),
        (MismatchError("A head.", problem=LACKS_BOX), 1, lambda panel: panel.parameters.roi is not None),
        (MismatchError("A head.", problem=LACKS_BOX), 2, lambda panel: panel.job is not None),
        (WorkerError("The process ended."), 2, lambda panel: panel.ui.logText.visible),
        (OutputError("The disk is full."), 1, lambda panel: not panel.ui.advancedCollapsibleButton.collapsed),
        (ValueError("broken"), 2, lambda _panel: slicer.app.clipboard().text().startswith("diagnostics of a test")),
    ],
)
def test_buttons_beside_an_error_do_what_they_say(fake_logic, panel, ui, volume, add_result, error, number, state):
    if isinstance(error, DeviceError):
        panel.parameters.device = "cuda:7"
    if isinstance(error, NodeError):
        panel.parameters.outputSegmentation = add_result(volume, panel.bundle)[0]
    assert not state(panel)
    fake_logic.refusals["process"] = error
    ui.segmentButton.click()
    getattr(ui, f"action{number}Button").click()
    assert state(panel)


def test_long_paths_in_messages_may_be_broken(panel, ui, start):
    start().fail(OutputError("/a/very/long/folder/name/that/goes/on/and/on/and/on/file.npy is full."))
    assert "\u200b" in ui.messageLabel.text
    assert ui.messageLabel.text.replace("\u200b", "") == panel.messages.text


def test_closing_the_scene_takes_the_result_away_and_cancels(fake_logic, panel, ui, result, start, settle):
    job = start()
    slicer.mrmlScene.Clear(0)
    assert job.cancel_requested
    job.fail(Cancelled())
    settle()
    assert (ui.resultFrame.visible, ui.progressWidget.visible, panel.job) == (False, False, None)
    assert ui.messageLabel.text == "The scene was closed, so the segmentation was cancelled."
    assert len(fake_logic.jobs) == 2
    assert result.GetScene() is None


def test_result_that_comes_after_the_panel_has_gone_touches_nothing(panel, volume, start, add_result):
    job = start()
    node, summary = add_result(volume, panel.bundle)
    panel.cleanup()
    assert job.cancel_requested
    job.succeed(node, summary)


# Several --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def volumes(panel, add_volume, settle):
    nodes = [add_volume(name) for name in ("First", "Second", "Third")]
    panel.parameters.modelName = "hippocampus-mr@2.0.0"
    settle()
    return nodes


@pytest.fixture
def batch(fake_logic, panel, ui, volumes):
    """All volumes are ticked and segmented on the CPU."""
    panel.parameters.device = "cpu"
    assert not ui.batchButton.enabled
    for volume in volumes:
        ui.batchSelector.setCheckState(volume, 2)
    ui.batchButton.click()
    return fake_logic.last("batch")


@pytest.fixture
def frames(fake_logic, panel, ui, add_volume, settle):
    """A sequence of three frames, with its browser; returns the volume that shows it and its batch."""
    first = add_volume("Cine")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "Cine")
    for value in ("0", "1", "2"):
        node.SetDataNodeAtValue(first, value)
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "Browser")
    browser.SetAndObserveMasterSequenceNodeID(node.GetID())
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    slicer.mrmlScene.RemoveNode(first)
    panel.parameters.inputVolume = browser.GetProxyNode(node)
    settle()
    assert (ui.framesButton.text, ui.framesButton.enabled) == ("Segment all 3 frames", True)
    ui.framesButton.click()
    return panel.parameters.inputVolume, fake_logic.last("batch")


def test_ticked_volumes_are_segmented_with_the_settings_of_the_panel(panel, batch, volumes):
    expected = {"volumes": volumes, "model": panel.bundle, "device": "cpu"}
    assert batch.arguments.items() >= expected.items()


def test_table_shows_what_became_of_each(panel, ui, batch, volumes, add_result):
    assert ui.segmentButton.text == "C&ancel"
    assert texts_of(ui.batchTable, 0) == ["First", "Second", "Third"]
    batch.end_row(JobState.DONE, "", *add_result(volumes[0], panel.bundle))
    batch.rows[1].state = JobState.RUNNING
    batch.current.go_on("segment", 0.5, 3.0)
    assert texts_of(ui.batchTable, 1)[1:] == ["running", "queued"]
    assert ui.stageLabel.text == "2 of 3: Segmenting, about 3 s left"
    batch.end_row(JobState.FAILED, "It is a slice.")
    batch.end_row(JobState.DONE, "Unlike the training scans.", *add_result(volumes[2], panel.bundle))
    done, failed, warned = texts_of(ui.batchTable, 1)
    assert done.startswith("hippocampus-mr 2.0.0: 2 segments, 6.1 ml")
    assert failed == "failed: It is a slice."
    assert warned.endswith("Unlike the training scans.")
    assert ui.segmentButton.text == "&Segment"


def test_double_click_on_a_row_chooses_its_scan_and_segmentation(panel, ui, batch, volumes, add_result, settle):
    results = [add_result(volume, panel.bundle) for volume in volumes[:2]]
    for node, summary in results:
        batch.end_row(JobState.DONE, "", node, summary)
    batch.end_row(JobState.FAILED, "It is a slice.")
    for row in (1, 2):  # nothing came of the last
        ui.batchTable.cellDoubleClicked(row, 0)
        settle()
        assert panel.parameters.inputVolume is volumes[1]
        assert panel.parameters.outputSegmentation is results[1][0]


def test_a_row_of_a_batch_says_what_a_result_of_one_scan_warns_of(ui, panel, frames, add_result):
    volume, batch = frames
    batch.end_row(JobState.DONE, "", *add_result(volume, panel.bundle, warnings=("Unlike the training scans.",)))
    assert texts_of(ui.batchTable, 1)[0].endswith("\u26a0 Unlike the training scans.")


def test_all_frames_of_a_sequence_are_segmented_and_shown_by_a_double_click(ui, frames):
    volume, batch = frames
    assert batch.arguments["volume"] is volume
    assert texts_of(ui.batchTable, 0) == ["frame 1", "frame 2"]
    for _row in batch.rows:
        batch.end_row(JobState.DONE)
    ui.batchTable.cellDoubleClicked(1, 0)
    assert slicer.util.getNode("Browser").GetSelectedItemNumber() == 1


def test_closing_the_scene_ends_the_batch(ui, batch, settle):
    slicer.mrmlScene.Clear(0)
    assert batch.cancel_requested
    for _row in range(3):
        batch.end_row(JobState.CANCELLED)
    settle()
    assert not ui.batchTable.visible
    assert ui.segmentButton.text == "&Segment"
