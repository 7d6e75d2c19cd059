"""The widgets of Segment, Cancel, progress and result; what they show is tested in Testing/unit/app."""

from __future__ import annotations

import pytest
import slicer

from MAESegmentLib.errors import (
    EDITED_OUTPUT,
    Cancelled,
    DeviceError,
    DeviceMemoryError,
    NodeError,
    OutputError,
    WorkerError,
)


@pytest.fixture
def ui(panel):
    return panel.ui


@pytest.fixture
def volume(panel, add_volume, settle):
    """A scan that is chosen, with the model for the hippocampus."""
    node = add_volume()
    panel.parameters.modelName = "hippocampus-mr@1.2.1"
    settle()
    assert panel.parameters.inputVolume is node
    return node


@pytest.fixture
def start(fake_logic, panel, ui, volume):  # noqa: ARG001
    """Press Segment; returns the job."""

    def start():
        ui.segmentButton.click()
        return fake_logic.jobs[-1]

    return start


def shown(text):
    """As it reads."""
    return text.replace("\u200b", "")


def test_segment_becomes_cancel_in_the_same_place(panel, ui, start):
    assert ui.segmentButton.text == "&Segment"
    panel.segment.double_click_s = 0.0
    job = start()
    assert ui.segmentButton.text == "C&ancel"
    assert ui.segmentButton.toolTip == "Stop; nothing is changed."
    ui.segmentButton.click()
    assert job.cancel_requested
    assert ui.segmentButton.text == "Cancelling..."
    assert not ui.segmentButton.enabled
    job.fail(Cancelled())
    assert ui.segmentButton.text == "&Segment"
    assert ui.segmentButton.enabled
    assert ui.messageLabel.text == "Cancelled."


def test_choices_cannot_be_changed_meanwhile_but_the_log_can_be_read(ui, start):
    start()
    for widget in (ui.inputSelector, ui.roiSelector, ui.modelComboBox, ui.importButton, ui.outputSelector):
        assert not widget.enabled
    assert not ui.deviceComboBox.enabled
    assert not ui.batchButton.enabled
    assert ui.batchButton.toolTip == "A segmentation is running."
    assert ui.logButton.enabled


def test_start_of_the_process_is_announced_with_a_moving_bar(fake_logic, ui, volume):  # noqa: ARG001
    from MAESegmentLib.worker.client.client import WorkerState

    fake_logic.session.client.state = WorkerState.STARTING
    ui.segmentButton.click()
    assert "only the first time" in ui.stageLabel.text
    assert ui.progressBar.maximum == 0


def test_result_is_one_line_and_the_volume_of_each_segment(panel, ui, volume, start, add_result):
    job = start()
    assert not ui.resultFrame.visible
    segmentation, summary = add_result(volume, panel.bundle)
    job.succeed(segmentation, summary)
    assert shown(ui.resultLabel.text) == "hippocampus-mr 1.2.1: 2 segments, 6.1 ml, 1.8 s on NVIDIA GeForce RTX 3060"
    rows = [[ui.segmentsTable.item(row, column).text() for column in (0, 1)] for row in range(2)]
    assert rows == [["anterior", "3.07"], ["posterior", "3.07"]]
    assert panel.parameters.outputSegmentation is segmentation
    assert ui.outputSelector.currentNode() is segmentation
    assert not ui.warningLabel.visible
    assert not ui.messageFrame.visible
    assert not ui.progressWidget.visible


def test_show_3d_makes_surfaces_and_hides_them_again(panel, ui, volume, start, add_result, process_events_until):
    segmentation, summary = add_result(volume, panel.bundle)
    start().succeed(segmentation, summary)
    ui.show3DButton.click()
    process_events_until(lambda: segmentation.GetSegmentation().ContainsRepresentation("Closed surface"), 20)
    process_events_until(lambda: segmentation.GetDisplayNode().GetVisibility3D(), 20)
    ui.show3DButton.click()
    assert not segmentation.GetDisplayNode().GetVisibility3D()


def test_correct_opens_segment_editor_on_the_result_and_its_scan(panel, ui, volume, start, add_result):
    segmentation, summary = add_result(volume, panel.bundle)
    start().succeed(segmentation, summary)
    ui.correctButton.click()
    assert slicer.util.selected_modules == ["SegmentEditor"]
    editor = slicer.util.getModuleWidget("SegmentEditor").editor
    assert editor.node is segmentation
    assert editor.volume is volume


def test_buttons_of_a_removed_result_say_so(panel, ui, volume, start, add_result, settle):
    segmentation, summary = add_result(volume, panel.bundle)
    start().succeed(segmentation, summary)
    slicer.mrmlScene.RemoveNode(segmentation)
    settle()
    assert not ui.correctButton.enabled
    assert ui.correctButton.toolTip == "The segmentation is no longer in the scene."
    assert not ui.show3DButton.enabled


def test_edited_result_has_no_volumes_any_more(panel, ui, volume, start, add_result):
    segmentation, summary = add_result(volume, panel.bundle, warnings=("Unlike the training scans.",))
    start().succeed(segmentation, summary)
    assert ui.segmentsTable.item(0, 1).text() == "3.07"
    assert ui.warningLabel.text == "\u26a0 Unlike the training scans."
    segmentation.GetSegmentation().GetNthSegment(0).SetName("front")
    panel.exit()
    panel.enter()
    assert [ui.segmentsTable.item(row, 1).text() for row in (0, 1)] == ["edited", "edited"]


@pytest.mark.parametrize(
    ("error", "number", "state"),
    [
        (DeviceMemoryError("Too little memory."), 1, lambda panel: panel.parameters.device == "cpu"),
        (DeviceMemoryError("Too little memory."), 2, lambda panel: panel.parameters.roi is not None),
        (DeviceError("There is no cuda:7."), 1, lambda panel: panel.parameters.device == "auto"),
        (NodeError("Edited.", problem=EDITED_OUTPUT), 1, lambda panel: panel.parameters.outputSegmentation is None),
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


def test_closing_the_scene_cancels_and_leaves_a_note(panel, ui, start, settle):
    job = start()
    slicer.mrmlScene.Clear(0)
    assert job.cancel_requested
    job.fail(Cancelled())
    settle()
    assert ui.segmentButton.text == "&Segment"
    assert not ui.progressWidget.visible
    assert panel.job is None
    assert ui.messageLabel.text == "The scene was closed, so the segmentation was cancelled."


def test_closing_the_scene_takes_the_result_away(panel, ui, volume, start, add_result, settle):
    start().succeed(*add_result(volume, panel.bundle))
    slicer.mrmlScene.Clear(0)
    settle()
    assert not ui.resultFrame.visible
    assert not ui.messageFrame.visible


def test_result_that_comes_after_the_panel_has_gone_touches_nothing(host, panel, volume, start, add_result):
    job = start()
    node, summary = add_result(volume, panel.bundle)
    host.panel.cleanup()
    assert job.cancel_requested
    job.succeed(node, summary)


def test_long_paths_in_messages_may_be_broken(panel, ui, start):
    start().fail(OutputError("/a/very/long/folder/name/that/goes/on/and/on/and/on/file.npy is full."))
    assert "\u200b" in ui.messageLabel.text
    assert shown(ui.messageLabel.text) == panel.messages.text
