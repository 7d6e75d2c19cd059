"""What is shown, corrected and stored is what the panel shows: the right segmentation over the right scan."""

from __future__ import annotations

import numpy as np
import pytest
import slicer

from MAESegmentLib import mrml
from MAESegmentLib.jobs import JobState


@pytest.fixture
def views(slicer_gui):  # noqa: ARG001
    """The node of the one slice view, and of what is in it."""
    slices, layers = slicer.vtkMRMLSliceNode(), slicer.vtkMRMLSliceCompositeNode()
    for node in (slices, layers):
        node.SetName("Red")
        node.SetLayoutName("Red")
    return slicer.mrmlScene.AddNode(slices), slicer.mrmlScene.AddNode(layers)


@pytest.fixture
def segment(fake_logic, panel, ui, add_result, settle):
    """Press Segment for the chosen scan, or let what was pressed end; returns the result."""

    def segment(volume, *, press=True):
        if press:
            panel.parameters.inputVolume = volume
            settle()
            ui.segmentButton.click()
        node, summary = add_result(volume, panel.bundle)
        node.SetAttribute("MAESegment.ModelHash", panel.bundle.content_hash)
        fake_logic.jobs[-1].succeed(node, summary)
        settle()
        return node

    return segment


@pytest.fixture
def two(volume, add_volume, segment):
    """Two scans and their results, the second shown."""
    other = add_volume("Knee")
    other.SetOrigin(200.0, 0.0, 0.0)
    return (volume, segment(volume)), (other, segment(other))


def is_seen(node) -> bool:
    return bool(node.GetDisplayNode().GetVisibility())


def corrected(ui):
    ui.correctButton.click()
    editor = slicer.util.getModuleWidget("SegmentEditor").editor
    return editor.volume, editor.node


def test_correct_and_show_3d_act_on_what_the_panel_shows_now(panel, ui, two, settle, process_events_until):
    (head, of_head), (knee, of_knee) = two
    ui.show3DButton.click()
    process_events_until(lambda: mrml.is_shown_in_3d(of_knee), 20)
    assert corrected(ui) == (knee, of_knee)
    panel.parameters.inputVolume = head
    settle()
    assert panel.parameters.outputSegmentation is of_head
    assert ui.resultLabel.text.startswith("MNI152 head")
    assert corrected(ui) == (head, of_head)
    assert not ui.show3DButton.checked
    assert mrml.is_shown_in_3d(of_knee), "switching the scan hides no surface"
    ui.show3DButton.click()
    process_events_until(lambda: mrml.is_shown_in_3d(of_head), 20)
    panel.parameters.outputSegmentation = None
    settle()
    assert not ui.resultFrame.visible


def test_result_of_the_version_before_is_shown_with_its_scan(panel, ui, volume, add_result, settle):
    """That noted the model alone."""
    result, _summary = add_result(volume, panel.bundle)
    result.SetAttribute("MAESegment.Model", f"{panel.bundle.name}@{panel.bundle.version}")
    result.SetAttribute("MAESegment.ModelHash", panel.bundle.content_hash)
    panel.parameters.inputVolume, panel.parameters.outputSegmentation = volume, result
    settle()
    assert (ui.resultFrame.visible, ui.segmentsTable.rowCount) == (True, len(panel.bundle.labels))
    assert ui.resultLabel.text == result.GetName() == f"MNI152 head {panel.bundle.name}"
    assert corrected(ui) == (volume, result)


def test_surfaces_under_way_are_those_of_the_segmentation_that_is_shown(panel, ui, two, fake_logic, add_result, settle):
    (_head, of_head), (knee, _of_knee) = two
    ui.show3DButton.click()
    ui.segmentButton.click()
    again = add_result(knee, panel.bundle)
    fake_logic.jobs[-1].succeed(*again)
    panel.parameters.outputSegmentation = of_head
    settle()
    settle()
    assert not ui.show3DButton.checked
    assert not mrml.is_shown_in_3d(again[0])
    assert not mrml.is_shown_in_3d(of_head)


def test_after_a_job_the_views_show_its_scan_at_the_result_and_no_other_segmentation(panel, ui, views, two, settle):
    (head, of_head), (knee, of_knee) = two
    slices, layers = views
    assert layers.GetBackgroundVolumeID() == knee.GetID()
    middle = mrml.middle_of(of_knee)
    assert middle[0] > 200
    assert [slices.GetSliceToRAS().GetElement(row, 3) for row in range(3)] == pytest.approx(middle)
    assert (is_seen(of_head), is_seen(of_knee)) == (False, True)
    assert ui.resultLabel.text.startswith("Knee")
    panel.parameters.inputVolume = head
    settle()
    assert "by the eye beside them in the Data module" in panel.messages.text
    assert layers.GetBackgroundVolumeID() == head.GetID()
    assert (is_seen(of_head), is_seen(of_knee)) == (True, False)


def test_what_the_user_hid_stays_hidden(panel, two, settle):
    (head, of_head), (knee, of_knee) = two
    of_knee.GetDisplayNode().SetVisibility(False)
    for volume in (head, knee):
        panel.parameters.inputVolume = volume
        settle()
    assert (is_seen(of_head), is_seen(of_knee)) == (False, False)


def test_a_result_that_comes_while_another_scan_is_looked_at_waits_until_its_own_is_chosen(
    panel, ui, views, volume, add_volume, segment, settle
):
    knee = add_volume("Knee")
    ui.segmentButton.click()
    panel.parameters.inputVolume = knee
    settle()
    slicer.util.setSliceViewerLayers(background=knee)
    of_head = segment(volume, press=False)
    assert (is_seen(of_head), ui.resultFrame.visible) == (False, False)
    assert views[1].GetBackgroundVolumeID() == knee.GetID()
    panel.parameters.inputVolume = volume
    settle()
    assert (is_seen(of_head), panel.parameters.outputSegmentation) == (True, of_head)
    assert "2 segments, 6.1 ml" in ui.resultLabel.text


def test_what_came_of_several_scans_is_seen_over_its_own(fake_logic, panel, ui, volume, add_volume, add_result, settle):
    knee = add_volume("Knee")
    settle()
    for node in (volume, knee):
        ui.batchSelector.setCheckState(node, 2)
    ui.batchButton.click()
    results = [add_result(node, panel.bundle) for node in (volume, knee)]
    for node, summary in results:
        fake_logic.last("batch").end_row(JobState.DONE, "", node, summary)
    assert [is_seen(node) for node, _summary in results] == [True, False]
    ui.batchTable.cellDoubleClicked(1, 0)
    settle()
    assert [is_seen(node) for node, _summary in results] == [False, True]
    assert ui.resultLabel.text.startswith("Knee")


def test_a_map_of_differences_is_looked_at_and_nothing_else(panel, ui, volume, segment, add_result, settle):
    segment(volume)
    difference = add_result(volume, panel.bundle)[0]
    mrml.mark_difference(difference)
    ui.improveCollapsibleButton.collapsed = False
    panel.parameters.outputSegmentation = difference
    settle()
    assert (ui.correctButton.enabled, ui.addCaseButton.enabled) == (False, False)
    assert "two versions differ" in ui.correctButton.toolTip


def test_the_result_of_a_scan_that_was_removed_is_not_that_of_the_next_one(panel, ui, views, two, settle):
    (head, of_head), (knee, of_knee) = two
    panel.parameters.inputVolume = head
    settle()
    slicer.mrmlScene.RemoveNode(head)
    settle()
    assert (panel.volume, panel.output) == (knee, of_knee)
    assert (is_seen(of_head), is_seen(of_knee)) == (False, True)
    assert views[1].GetBackgroundVolumeID() == knee.GetID()
    assert ui.resultLabel.text.startswith("Knee")


def test_what_was_drawn_by_hand_appears_again_with_its_scan(panel, views, volume, add_volume, segment, settle):
    drawn = mrml.add_segmentation(volume, panel.bundle.labels, np.ones((4, 6, 8), np.uint8), (2, 2, 2), name="By hand")
    segment(add_volume("Knee"))
    assert not is_seen(drawn)
    panel.parameters.inputVolume = volume
    settle()
    assert (is_seen(drawn), views[1].GetBackgroundVolumeID()) == (True, volume.GetID())


def test_a_result_that_was_chosen_before_its_scan_appears_with_it(panel, two, settle):
    (head, of_head), _knee = two
    panel.parameters.outputSegmentation = of_head
    settle()
    panel.parameters.inputVolume = head
    settle()
    assert is_seen(of_head)


def test_a_result_leaves_the_views_alone_while_the_user_works_in_another_module(
    host, panel, ui, views, volume, add_volume, segment
):
    knee = add_volume("Knee")
    drawn = mrml.add_segmentation(knee, panel.bundle.labels, np.ones((4, 6, 8), np.uint8), (2, 2, 2), name="By hand")
    ui.segmentButton.click()
    host.widget.exit()
    slicer.util.setSliceViewerLayers(background=knee)
    of_head = segment(volume, press=False)
    assert (is_seen(drawn), is_seen(of_head)) == (True, False)
    assert views[1].GetBackgroundVolumeID() == knee.GetID()
    host.widget.enter()
    assert (is_seen(drawn), is_seen(of_head)) == (False, True)
    assert views[1].GetBackgroundVolumeID() == volume.GetID()


def test_correct_shows_the_segmentation_over_its_scan_whatever_the_views_showed(panel, ui, views, two, settle):
    (head, of_head), (_knee, of_knee) = two
    panel.parameters.outputSegmentation = of_head
    settle()
    assert corrected(ui) == (head, of_head)
    assert views[1].GetBackgroundVolumeID() == head.GetID()
    assert (is_seen(of_head), is_seen(of_knee)) == (True, False)


def test_a_map_of_differences_is_not_seen_over_a_scan_that_was_chosen_meanwhile(panel, two, add_result):
    (head, _of_head), _knee = two
    difference = add_result(head, panel.bundle)[0]
    mrml.mark_difference(difference)
    panel.improve.show_comparison(difference)
    assert not is_seen(difference)
