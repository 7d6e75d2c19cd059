"""What a user does before, while and after the rest of a scan follows: nothing that was drawn is lost, on any grid."""

from __future__ import annotations

import numpy as np
import pytest
import slicer

from MAESegmentLib import mrml
from MAESegmentLib.errors import Cancelled, NodeError
from MAESegmentLib.jobs import JobState
from MAESegmentLib.mrml.matrices import ijk_to_ras, to_vtk
from MAESegmentLib.mrml.redrawing import mark_made
from Testing.gui.logic_fixtures import segment_names
from Testing.gui.test_logic_drawing import every_third, masks


@pytest.fixture
def volume(scene):
    return scene.oblique("Scan")


@pytest.fixture
def node(draw, volume, truth):
    """Two structures, drawn on every third slice."""
    return draw(volume, front=every_third(truth["front"]), back=every_third(truth["back"]))


def paint(node, volume, name, k, mask=None) -> np.ndarray:
    """Replace a structure on slice `k`; without a mask by a square in a corner."""
    content = node.GetSegmentation()
    segment_id = content.GetSegmentIdBySegmentName(name)
    array = slicer.util.arrayFromSegmentBinaryLabelmap(node, segment_id, volume)
    if mask is None:
        mask = np.zeros(array.shape[1:], bool)
        mask[1:4, 2:6] = True
    array[k] = mask
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, segment_id, volume)
    return mask


def once_it_runs(job, act) -> None:
    """`act()` as soon as the worker has been told."""
    done = []

    def listener(job):
        if job.state is not JobState.PREPARING and not done:
            done.append(act())

    job.add_listener(listener)


def slices_of(mask) -> list[int]:
    return np.flatnonzero(mask.any(axis=(1, 2))).tolist()


def test_what_was_drawn_is_understood_before_anything_is_done(logic, volume, node, truth):
    before = masks(node, volume)
    found = logic.findDrawn(volume, node)
    assert found.problem is None
    assert dict(found.structures) == {name: len(slices_of(every_third(truth[name]))) for name in ("front", "back")}
    assert (found.corrected, found.names, found.has_strokes) == (0, (), True)
    for name, mask in masks(node, volume).items():
        np.testing.assert_array_equal(mask, before[name])


def test_corrected_slices_of_a_result_are_known_and_followed(logic, model, volume):
    node = logic.process(volume, model)
    made = masks(node, volume)
    nothing = logic.findDrawn(volume, node)
    assert str(nothing.problem).startswith("Nothing was drawn since")
    assert not nothing.has_strokes
    k = slices_of(made["front"])[len(slices_of(made["front"])) // 2]
    wider = made["front"][k] | np.roll(made["front"][k], 2, axis=1)
    paint(node, volume, "front", k, wider & ~made["back"][k])
    found = logic.findDrawn(volume, node)
    assert (found.corrected, found.names, found.structures) == (1, ("front",), ())
    drawn = masks(node, volume)
    job = logic.updateScan(volume, node, wait=False)
    assert job.result(120) is node
    after = masks(node, volume)
    for name in drawn:
        np.testing.assert_array_equal(after[name][k], drawn[name][k])
    assert after["front"][k + 1].sum() > made["front"][k + 1].sum(), "the next slice follows"
    assert job.summary.followed[0]["name"] == "front"
    assert not job.is_edited_since
    paint(node, volume, "front", 0)
    assert job.is_edited_since
    assert job.undo()
    for name, mask in masks(node, volume).items():
        np.testing.assert_array_equal(mask, drawn[name])
    assert logic.findDrawn(volume, node) == found


def test_what_was_drawn_in_two_planes_stays_in_the_next_update_too(logic, volume, draw, truth):
    across = every_third(truth["back"].transpose(2, 1, 0)).transpose(2, 1, 0)
    node = draw(volume, front=every_third(truth["front"]), back=across)
    found = logic.findDrawn(volume, node)
    assert {found.structures[0][0], found.also[0].structures[0][0]} == {"front", "back"}
    logic.updateScan(volume, node)
    drawn = masks(node, volume)["front"]
    k = slices_of(drawn)[1]
    drawn[k] = np.roll(drawn[k], 1, axis=0)
    paint(node, volume, "front", k, drawn[k] & ~masks(node, volume)["back"][k])
    logic.updateScan(volume, node)
    back = masks(node, volume)["back"]
    assert back[across].all()
    assert back.sum() > 2 * across.sum()


def test_what_is_drawn_while_it_runs_stays(logic, volume, node, truth):
    slices = slices_of(every_third(truth["front"]))
    between, other = slices[1] + 1, slices[2] + 1
    job = logic.updateScan(volume, node, wait=False)
    square = []
    once_it_runs(job, lambda: square.append(paint(node, volume, "front", between)))
    job.result(120)
    found = masks(node, volume)["front"]
    np.testing.assert_array_equal(found[between], square[0])
    assert found[other].any(), "the others follow"
    for k in slices:
        np.testing.assert_array_equal(found[k], truth["front"][k])


def test_renamed_or_removed_segments_and_new_ones_are_left_as_the_user_left_them(logic, volume, node):
    content = node.GetSegmentation()

    def act():
        content.GetSegment(content.GetSegmentIdBySegmentName("front")).SetName("renamed")
        content.RemoveSegment(content.GetSegmentIdBySegmentName("back"))
        content.AddEmptySegment("", "new")
        paint(node, volume, "new", 0)

    job = logic.updateScan(volume, node, wait=False)
    once_it_runs(job, act)
    job.result(120)
    found = masks(node, volume)
    assert list(found) == ["renamed", "new"]
    assert slices_of(found["new"]) == [0]
    assert np.all(np.diff(slices_of(found["renamed"])) == 1)


def test_segment_editors_own_undo_takes_an_update_for_no_correction(logic, volume, node):
    before = logic.findDrawn(volume, node)
    history = slicer.vtkSegmentationHistory()
    history.SetMaximumNumberOfStates(5)
    history.SetSegmentation(node.GetSegmentation())
    drawn = masks(node, volume)
    history.SaveState()
    logic.updateScan(volume, node)
    after = logic.findDrawn(volume, node)
    assert str(after.problem).startswith("Nothing was drawn since")
    history.RestorePreviousState()
    for name, mask in masks(node, volume).items():
        np.testing.assert_array_equal(mask, drawn[name])
    assert logic.findDrawn(volume, node) == before
    history.RestoreNextState()
    assert str(logic.findDrawn(volume, node).problem) == str(after.problem)


def test_a_segmentation_on_a_finer_grid_keeps_what_was_drawn_to_the_voxel(logic, volume, truth):
    """The user chose twice the slices in Segment Editor's geometry."""
    matrix = ijk_to_ras(volume)
    matrix[:3, :3] = matrix[:3, :3] / 2
    matrix[:3, 3] = (ijk_to_ras(volume) @ [-0.25, -0.25, -0.25, 1.0])[:3]
    fine = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "finer")
    drawn = every_third(truth["front"]).repeat(2, 0).repeat(2, 1).repeat(2, 2)
    drawn[:, ::7] = False  # finer than a voxel of the scan
    slicer.util.updateVolumeFromArray(fine, drawn.astype(np.uint8))
    fine.SetIJKToRASMatrix(to_vtk(matrix))
    fine.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Drawn")
    node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    node.SetReferenceImageGeometryParameterFromVolumeNode(fine)
    segment_id = node.GetSegmentation().AddEmptySegment("", "front")
    slicer.util.updateSegmentBinaryLabelmapFromArray(drawn.astype(np.uint8), node, segment_id, fine)
    logic.updateScan(volume, node)
    found = slicer.util.arrayFromSegmentBinaryLabelmap(node, segment_id, fine)
    on = drawn.any(axis=(1, 2))
    np.testing.assert_array_equal(found[on], drawn[on])
    assert np.all(np.diff(slices_of(found)) == 1)


@pytest.mark.parametrize("gone", ["segmentation", "scan", "scene"])
def test_what_is_removed_or_closed_meanwhile_cancels_it(logic, volume, node, gone, process_events_until):
    job = logic.updateScan(volume, node, wait=False)
    act = {
        "segmentation": lambda: slicer.mrmlScene.RemoveNode(node),
        "scan": lambda: slicer.mrmlScene.RemoveNode(volume),
        "scene": lambda: slicer.mrmlScene.Clear(0),
    }[gone]
    once_it_runs(job, act)
    process_events_until(lambda: job.is_finished, 60)
    assert isinstance(job.error, Cancelled)
    assert not job.undo()


def test_a_segmentation_that_is_made_anew_meanwhile_is_left_alone(logic, volume, node):
    drawn = masks(node, volume)
    job = logic.updateScan(volume, node, wait=False)
    once_it_runs(job, lambda: mark_made(node, "by another job"))
    with pytest.raises(NodeError, match="made anew"):
        job.result(120)
    for name, mask in masks(node, volume).items():
        np.testing.assert_array_equal(mask, drawn[name])


def test_the_segmentation_of_another_scan_is_refused(logic, model, scene, volume, node):
    other = scene.plain("Other")
    result = logic.process(volume, model)
    for call in (logic.updateScan, logic.growScribbles, logic.findDrawn):
        with pytest.raises(NodeError, match="was not made on Other"):
            call(other, result)
    other.SetOrigin(500.0, 0.0, 0.0)
    for call in (logic.updateScan, logic.growScribbles, logic.findDrawn):
        with pytest.raises(NodeError, match="lies within Other"):
            call(other, node)


def test_a_drawing_of_which_nobody_knew_the_scan_is_of_this_one_from_now_on(logic, volume, node):
    """What was made here and has no scan would be taken for that of a scan that was removed."""
    node.SetNodeReferenceID(node.GetReferenceImageGeometryReferenceRole(), None)
    logic.updateScan(volume, node)
    assert mrml.volume_of(node) is volume


def test_an_updated_drawing_is_of_its_scan_also_where_no_model_made_it(logic, scene, volume, node):
    """What is known of its slices would be taken for that of another scan's."""
    logic.updateScan(volume, node)
    for call in (logic.updateScan, logic.growScribbles, logic.findDrawn):
        with pytest.raises(NodeError, match="was not made on Other"):
            call(scene.oblique("Other"), node)


def test_a_background_is_no_structure_of_a_case_and_an_empty_one_does_not_stay(logic, volume, draw, truth):
    node = draw(volume, front=truth["front"])
    logic.addBackground(node)
    logic.removeBackground(node)
    assert segment_names(node) == ["front"]
    logic.addBackground(node)
    edge = np.zeros(truth["front"].shape[1:], bool)
    edge[2, 2:-2] = True
    paint(node, volume, "background", 0, edge)
    logic.removeBackground(node)
    assert segment_names(node) == ["front", "background"], "something was drawn"
    kinds = {one.segment: one.kind for one in logic.proposeCase(volume, node, logic.models()[0].name).choices}
    assert kinds["background"] == "left out"


def test_the_background_of_scribbles_goes_once_they_have_grown(logic, volume, draw, truth):
    node = draw(volume, front=None)
    logic.addBackground(node)
    logic.addBackground(node)
    assert segment_names(node) == ["front", "background"]
    middle = slices_of(truth["front"])[len(slices_of(truth["front"])) // 2]
    inside = np.zeros(truth["front"].shape[1:], bool)
    rows, columns = np.nonzero(truth["front"][middle])
    inside[int(np.median(rows)), columns.min() + 2 : columns.max() - 1] = True
    paint(node, volume, "front", middle, inside & truth["front"][middle])
    edge = np.zeros_like(inside)
    edge[2, 2:-2] = True
    paint(node, volume, "background", middle, edge)
    assert logic.findDrawn(volume, node).has_strokes
    strokes = masks(node, volume)
    around = []
    job = logic.growScribbles(volume, node, wait=False, changing=lambda node: Noting(around, node))
    job.result(120)
    assert around == [("before", node), ("after", node)]
    assert segment_names(node) == ["front"]
    found = masks(node, volume)["front"]
    assert found[strokes["front"]].all()
    assert not found[strokes["background"]].any()
    assert (found & truth["front"]).sum() > 5 * strokes["front"].sum()
    assert job.undo()
    for name, mask in masks(node, volume).items():
        np.testing.assert_array_equal(mask, strokes[name])


class Noting:
    """What a panel does around a change."""

    def __init__(self, told, node):
        self.told, self.node = told, node

    def __enter__(self):
        self.told.append(("before", self.node))

    def __exit__(self, *_error):
        self.told.append(("after", self.node))
