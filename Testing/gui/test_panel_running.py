"""Segment, Cancel, progress, the result, and what is offered when it goes wrong."""

from __future__ import annotations

import time

import pytest
import slicer

from MAESegmentLib.errors import EDITED_OUTPUT, DeviceError, DeviceMemoryError, NodeError, OutputError, WorkerError


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
    """Press Segment; the answer is the job."""

    def start():
        ui.segmentButton.click()
        return fake_logic.jobs[-1]

    return start


@pytest.fixture
def offers(ui):
    """What the buttons beside the message say."""
    buttons = (ui.action1Button, ui.action2Button, ui.action3Button)
    return lambda: [button.text for button in buttons if button.visible]


def shown(text):
    """As it reads."""
    return text.replace("\u200b", "")


def test_segment_becomes_cancel_in_the_same_place(ui, start):
    assert ui.segmentButton.text == "&Segment"
    job = start()
    assert ui.segmentButton.text == "C&ancel"
    assert ui.segmentButton.toolTip == "Stop; nothing is changed."
    ui.segmentButton.click()
    assert job.cancel_requested
    assert ui.segmentButton.text == "Cancelling..."
    assert not ui.segmentButton.enabled
    job.end_cancelled()
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


def test_progress_says_stage_and_time_left(ui, start):
    job = start()
    assert ui.progressWidget.visible
    job.go_on("segment", 0.5, 8.2)
    assert ui.stageLabel.text == "Segmenting, about 9 s left"
    assert 500 < ui.progressBar.value < 560
    assert ui.progressBar.maximum == 1000


def test_start_of_the_process_is_announced_with_a_moving_bar(fake_logic, ui, volume):  # noqa: ARG001
    from MAESegmentLib.worker.client.client import WorkerState

    fake_logic.session.client.state = WorkerState.STARTING
    ui.segmentButton.click()
    assert "only the first time" in ui.stageLabel.text
    assert ui.progressBar.maximum == 0


def test_waiting_for_another_job_is_said(ui, start):
    job = start()
    job.position = 2
    job.go_on("", 0.0)
    assert ui.stageLabel.text == "Waiting: 2 before it"


def test_progress_is_not_painted_more_often_than_a_person_can_read(ui, start):
    job = start()
    painted = []
    ui.progressBar.connect("valueChanged(int)", painted.append)
    begun = time.monotonic()
    for step in range(2000):
        job.go_on("segment", step / 2000, 10.0)
    most = 2 + (time.monotonic() - begun) / 0.1
    assert 1 <= len(painted) <= most


def test_new_stage_is_painted_at_once(ui, start):
    job = start()
    job.go_on("segment", 0.99, 1.0)
    job.go_on("write", 0.0)
    assert ui.stageLabel.text == "Writing the result"


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


def test_segments_that_were_not_found_are_named(panel, ui, volume, start, add_result, settle):
    panel.parameters.modelName = "headneck-ct@1.1.1"
    settle()
    job = start()
    job.succeed(*add_result(volume, panel.bundle))
    assert "2 of 5 segments found" in shown(ui.resultLabel.text)
    assert ui.segmentsTable.item(4, 1).text() == "not found"


def test_scan_unlike_the_training_data_is_said_beside_the_result(panel, ui, volume, start, add_result):
    job = start()
    job.succeed(*add_result(volume, panel.bundle, warnings=("Unlike the training scans (99th percentile).",)))
    assert ui.warningLabel.visible
    assert ui.warningLabel.text == "\u26a0 Unlike the training scans (99th percentile)."


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


def test_full_gpu_offers_the_cpu_with_its_time_and_a_region(fake_logic, panel, ui, start, offers):
    job = start()
    job.fail(
        DeviceMemoryError("Needs about 9 GB of GPU memory, 5 GB are free.", "Close other programs."),
        {"cpu_seconds": 238.0},
    )
    assert panel.messages.text == "Needs about 9 GB of GPU memory, 5 GB are free. Close other programs."
    assert offers() == ["Use the CPU (about 4 min)", "Segment only a region (ROI)", "Try again"]
    ui.action1Button.click()
    assert panel.parameters.device == "cpu"
    assert fake_logic.jobs[-1].arguments["device"] == "cpu"
    assert not ui.messageFrame.visible


def test_region_is_offered_only_if_there_is_none(ui, start, offers):
    start().fail(DeviceMemoryError("Too little memory."))
    ui.action2Button.click()
    start().fail(DeviceMemoryError("Too little memory."))
    assert offers() == ["Use the CPU", "Try again"]


def test_edited_output_is_replaced_only_on_a_persons_word(fake_logic, panel, ui, volume, start, offers, add_result):
    segmentation, _summary = add_result(volume, panel.bundle)
    panel.parameters.outputSegmentation = segmentation
    fake_logic.refusal = NodeError("It was edited; it is not overwritten.", "Choose.", problem=EDITED_OUTPUT)
    ui.segmentButton.click()
    assert fake_logic.jobs == []
    assert offers() == ["Write to a new segmentation", "Replace it"]
    ui.action2Button.click()
    assert fake_logic.jobs[0].arguments["overwrite"]
    assert fake_logic.jobs[0].arguments["outputSegmentation"] is segmentation
    fake_logic.jobs[0].end_cancelled()
    fake_logic.refusal = NodeError("It was edited; it is not overwritten.", "Choose.", problem=EDITED_OUTPUT)
    start()
    ui.action1Button.click()
    assert panel.parameters.outputSegmentation is None
    assert fake_logic.jobs[-1].arguments["outputSegmentation"] is None
    assert not fake_logic.jobs[-1].arguments["overwrite"]


def test_crash_of_the_worker_offers_another_try_and_the_log(fake_logic, ui, start, offers):
    fake_logic.session.log.add("error", "Segmentation fault")
    start().fail(WorkerError("The process ended (signal 11).", "Try again."))
    assert offers() == ["Try again", "Show log"]
    ui.action2Button.click()
    assert ui.logText.visible
    assert "Segmentation fault" in ui.logText.plainText
    start().fail(WorkerError("The process ended (signal 11).", "Try again."))
    ui.action1Button.click()
    assert len(fake_logic.jobs) == 3


def test_device_that_is_gone_offers_the_automatic_choice(fake_logic, panel, ui, start, offers):
    panel.parameters.device = "cuda:7"
    start().fail(DeviceError("There is no cuda:7.", "Choose another."))
    assert offers()[0] == "Choose the device automatically"
    ui.action1Button.click()
    assert fake_logic.jobs[-1].arguments["device"] == "auto"


def test_full_disk_leads_to_the_working_folder(ui, start, offers):
    start().fail(OutputError("The disk is full.", "Free some space."))
    assert offers() == ["Choose another folder", "Try again"]
    ui.action1Button.click()
    assert not ui.advancedCollapsibleButton.collapsed


def test_what_nobody_foresaw_ends_in_a_sentence_too(fake_logic, panel, ui, volume, offers, caplog):  # noqa: ARG001
    fake_logic.refusal = ZeroDivisionError("division by zero")
    ui.segmentButton.click()
    assert panel.messages.text == "Unexpected error: division by zero"
    assert offers() == ["Show log", "Copy diagnostics"]
    assert ui.segmentButton.text == "&Segment"
    assert "ZeroDivisionError" in caplog.text


def test_closing_the_scene_cancels_and_leaves_a_note(panel, ui, start, settle):
    job = start()
    slicer.mrmlScene.Clear(0)
    assert job.cancel_requested
    job.end_cancelled()
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


def test_second_result_replaces_the_first_on_the_panel(panel, ui, volume, start, add_result):
    start().succeed(*add_result(volume, panel.bundle))
    start().fail(WorkerError("The process ended."))
    assert ui.resultFrame.visible
    assert ui.messageFrame.visible
    start().succeed(*add_result(volume, panel.bundle))
    assert not ui.messageFrame.visible


def test_long_paths_in_messages_may_be_broken(panel, ui, start):
    start().fail(OutputError("/a/very/long/folder/name/that/goes/on/and/on/and/on/file.npy is full."))
    assert "\u200b" in ui.messageLabel.text
    assert shown(ui.messageLabel.text) == panel.messages.text
