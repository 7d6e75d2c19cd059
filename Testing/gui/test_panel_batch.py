"""Several volumes, or all frames of a sequence, and the table of what became of them."""

from __future__ import annotations

import pytest
import slicer

from MAESegmentLib.jobs import JobState


@pytest.fixture
def ui(panel):
    return panel.ui


@pytest.fixture
def volumes(panel, add_volume, settle):
    nodes = [add_volume(name) for name in ("First", "Second", "Third")]
    panel.parameters.modelName = "hippocampus-mr@1.2.1"
    settle()
    return nodes


@pytest.fixture
def start(fake_logic, ui, volumes):
    """Tick all and press the button; returns the batch."""

    def start():
        for volume in volumes:
            ui.batchSelector.setCheckState(volume, 2)
        ui.batchButton.click()
        return fake_logic.last("batch")

    return start


@pytest.fixture
def sequence(add_volume, settle):
    """A sequence of three frames, with its browser; returns the volume that shows it."""
    first = add_volume("Cine")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "Cine")
    for value in ("0", "1", "2"):
        node.SetDataNodeAtValue(first, value)
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "Browser")
    browser.SetAndObserveMasterSequenceNodeID(node.GetID())
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    slicer.mrmlScene.RemoveNode(first)
    settle()
    return browser.GetProxyNode(node)


def texts(ui, column):
    return [ui.batchTable.item(row, column).text() for row in range(ui.batchTable.rowCount)]


def test_ticked_volumes_are_segmented_with_the_settings_of_the_panel(fake_logic, panel, start, volumes):
    panel.parameters.device = "cpu"
    assert not panel.ui.batchButton.enabled
    start()
    assert fake_logic.last("batch").arguments["volumes"] == volumes
    assert fake_logic.last("batch").arguments["device"] == "cpu"
    assert fake_logic.last("batch").arguments["model"].name == "hippocampus-mr"


def test_table_shows_what_became_of_each(panel, ui, start, volumes, add_result):
    batch = start()
    assert ui.segmentButton.text == "C&ancel"
    assert texts(ui, 0) == ["First", "Second", "Third"]
    batch.end_row(JobState.DONE, "", *add_result(volumes[0], panel.bundle))
    batch.rows[1].state = JobState.RUNNING
    batch.current.go_on("segment", 0.5, 3.0)
    assert texts(ui, 1)[1:] == ["running", "queued"]
    assert ui.stageLabel.text == "2 of 3: Segmenting, about 3 s left"
    batch.end_row(JobState.FAILED, "It is a slice.")
    batch.end_row(JobState.DONE, "Unlike the training scans.", *add_result(volumes[2], panel.bundle))
    assert texts(ui, 1)[0].startswith("hippocampus-mr 1.2.1: 2 segments, 6.1 ml")
    assert texts(ui, 1)[1] == "failed: It is a slice."
    assert texts(ui, 1)[2].endswith("Unlike the training scans.")
    assert panel.messages.text == "2 of 3 segmented; the table says why the others were not."
    assert ui.segmentButton.text == "&Segment"


def test_double_click_on_a_row_chooses_its_scan_and_segmentation(panel, ui, start, volumes, add_result, settle):
    batch = start()
    results = [add_result(volume, panel.bundle) for volume in volumes]
    for node, summary in results:
        batch.end_row(JobState.DONE, "", node, summary)
    ui.batchTable.cellDoubleClicked(1, 0)
    settle()
    assert panel.parameters.inputVolume is volumes[1]
    assert panel.parameters.outputSegmentation is results[1][0]


def test_double_click_on_a_failed_row_changes_nothing(panel, ui, start):
    batch = start()
    for _row in range(3):
        batch.end_row(JobState.FAILED, "It is a slice.")
    before = panel.parameters.inputVolume
    ui.batchTable.cellDoubleClicked(0, 1)
    assert panel.parameters.inputVolume is before


def test_all_frames_of_a_sequence_are_segmented(fake_logic, panel, ui, sequence, settle):
    panel.parameters.inputVolume = sequence
    settle()
    assert ui.framesButton.text == "Segment all 3 frames"
    assert ui.framesButton.enabled
    ui.framesButton.click()
    assert fake_logic.last("batch").arguments["volume"] is sequence
    assert texts(ui, 0) == ["frame 1", "frame 2"]


def test_double_click_on_a_frame_shows_it(fake_logic, panel, ui, sequence, settle):
    panel.parameters.inputVolume = sequence
    settle()
    ui.framesButton.click()
    batch = fake_logic.last("batch")
    batch.end_row(JobState.DONE)
    batch.end_row(JobState.DONE)
    ui.batchTable.cellDoubleClicked(1, 0)
    assert slicer.util.getNode("Browser").GetSelectedItemNumber() == 1


def test_closing_the_scene_ends_the_batch_with_a_note(panel, ui, start, settle):
    batch = start()
    slicer.mrmlScene.Clear(0)
    assert batch.cancel_requested
    for _row in range(3):
        batch.end_row(JobState.CANCELLED)
    settle()
    assert panel.messages.text == "The scene was closed, so the segmentation was cancelled."
    assert not ui.batchTable.visible
    assert ui.segmentButton.text == "&Segment"
