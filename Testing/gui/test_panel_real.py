"""A user's way through the module: the real panel, logic and worker on real nodes."""

from __future__ import annotations

import pytest
import slicer

from Testing.gui.logic_scene import edit, segment_names


@pytest.fixture
def panel(module):
    return module.widget.panel


@pytest.fixture
def ui(panel):
    return panel.ui


@pytest.fixture
def ready(panel, model, process_events_until):
    """Choose a volume and the model of the self test; wait until Segment can be pressed."""

    def ready(volume):
        panel.parameters.inputVolume = volume
        panel.parameters.modelName = f"{model.name}@{model.version}"
        process_events_until(lambda: panel.ui.segmentButton.enabled and panel.dependencies.report is not None, 120)

    return ready


@pytest.fixture
def finish(panel, process_events_until):
    return lambda: process_events_until(lambda: panel.job is None, 300)


def test_choose_segment_look_and_correct(panel, ui, ready, finish, scene):
    volume = scene.oblique("Scan")
    ready(volume)
    stages = set()
    ui.segmentButton.click()
    panel.job.add_listener(lambda job: stages.add(job.stage))
    finish()
    segmentation = panel.parameters.outputSegmentation
    assert segment_names(segmentation) == ["front", "back", "absent"]
    assert min(scene.compare_with_truth(volume, segmentation).values()) > 0.75
    assert {"load", "prepare", "segment", "restore", "write"} <= stages
    assert ui.resultFrame.visible
    assert "2 of 3 segments found" in ui.resultLabel.text
    assert ui.segmentsTable.item(2, 1).text() == "not found"
    ui.correctButton.click()
    assert slicer.util.getModuleWidget("SegmentEditor").editor.node is segmentation


def test_cancel_ends_it_soon_and_leaves_the_scene_as_it_was(panel, ui, ready, finish, scene, process_events_until):
    ready(scene.many_windows("Large"))
    panel.parameters.overlap = 0.75
    before = slicer.mrmlScene.GetNumberOfNodes()
    ui.segmentButton.click()
    process_events_until(lambda: panel.job.stage == "segment", 300)
    ui.segmentButton.click()
    assert ui.segmentButton.text == "Cancelling..."
    finish()
    assert ui.messageLabel.text == "Cancelled."
    assert slicer.mrmlScene.GetNumberOfNodes() == before


def test_edited_output_is_asked_about_and_kept(panel, ui, ready, finish, scene):
    ready(scene.plain("Scan"))
    ui.segmentButton.click()
    finish()
    first = panel.parameters.outputSegmentation
    ui.segmentButton.click()
    finish()
    assert panel.parameters.outputSegmentation is first
    edit(first)
    ui.segmentButton.click()
    assert panel.job is None
    assert "was edited" in panel.messages.text
    ui.action1Button.click()
    finish()
    assert panel.parameters.outputSegmentation is not first
    assert first.GetScene() is not None


def test_crash_is_said_and_trying_again_works(panel, ui, ready, finish, scene, process_events_until, kill_worker):
    ready(scene.many_windows("Large"))
    ui.segmentButton.click()
    process_events_until(lambda: panel.job.stage == "segment", 300)
    kill_worker()
    finish()
    assert "memory" in panel.messages.text
    assert ui.action1Button.text == "Retry"
    ui.action1Button.click()
    finish()
    assert panel.parameters.outputSegmentation is not None


def test_batch_of_a_good_and_a_bad_volume(ui, ready, finish, scene):
    good, bad = scene.plain("Good"), scene.single_slice("Slice")
    ready(good)
    ui.batchSelector.setCheckState(good, 2)
    ui.batchSelector.setCheckState(bad, 2)
    ui.batchButton.click()
    finish()
    results = {ui.batchTable.item(row, 0).text(): ui.batchTable.item(row, 1).text() for row in (0, 1)}
    assert "2 of 3 segments found" in results["Good"]
    assert results["Slice"].startswith("failed: ")


def test_window_is_never_frozen_while_a_large_volume_is_segmented(
    panel, ui, ready, finish, scene, heartbeat, record_property
):
    ready(scene.plain("Warm up"))
    ui.segmentButton.click()
    finish()
    ready(scene.large("Large"))
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Region")
    roi.SetCenter([0.0, 0.0, 0.0])
    roi.SetSize([16.0, 16.0, 16.0])
    panel.parameters.roi = roi
    heartbeat.reset()
    ui.segmentButton.click()
    job = panel.job
    finish()
    overhead = job.summary.seconds - job.summary.network_seconds
    record_property("longest_freeze_ms", round(heartbeat.longest_s * 1000))
    record_property("overhead_s", round(overhead, 2))
    print(f"256^3: longest freeze {heartbeat.longest_s * 1000:.0f} ms, overhead {overhead:.2f} s")
    # The goals are 0.1 s and 0.5 s; a machine that runs other tests meanwhile is given more.
    assert heartbeat.longest_s < 0.5
    assert overhead < 5.0
