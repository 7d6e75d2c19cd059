"""The rest of a scan follows from what was drawn in a scene, with a real worker; and scribbles grow."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from scipy import ndimage

from MAESegmentLib.errors import Cancelled, DrawingError, NodeError
from Testing.gui.logic_fixtures import segment_names


@pytest.fixture(params=["plain", "oblique"])
def volume(scene, request):
    return getattr(scene, request.param)("Scan")


def masks(node, volume) -> dict[str, np.ndarray]:
    content = node.GetSegmentation()
    return {
        content.GetNthSegment(number).GetName(): slicer.util.arrayFromSegmentBinaryLabelmap(
            node, content.GetNthSegmentID(number), volume
        ).astype(bool)
        for number in range(content.GetNumberOfSegments())
    }


def every_third(mask: np.ndarray) -> np.ndarray:
    """What of a (K, J, I) mask lies on its first, fourth, ... slice, and on its last."""
    slices = np.flatnonzero(mask.any(axis=(1, 2)))
    drawn = {*slices[::3].tolist(), int(slices[-1])}
    return mask & np.isin(np.arange(len(mask)), sorted(drawn))[:, None, None]


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * float((one & other).sum()) / float(one.sum() + other.sum())


def test_structures_drawn_on_some_slices_are_filled_and_what_was_drawn_stays(logic, volume, draw, truth):
    drawn = {name: every_third(truth[name]) for name in ("front", "back")}
    node = draw(volume, **drawn)
    colour = node.GetSegmentation().GetNthSegment(0).GetColor()
    job = logic.updateScan(volume, node, wait=False)
    assert job.result(120) is node
    found = masks(node, volume)
    assert segment_names(node) == ["front", "back"]
    assert node.GetSegmentation().GetNthSegment(0).GetColor() == colour
    for name, mask in drawn.items():
        on = mask.any(axis=(1, 2))
        np.testing.assert_array_equal(found[name][on], mask[on])
        assert dice(found[name], truth[name]) > 0.85
    assert not (found["front"] & found["back"]).any()
    assert all(one["method"].startswith("interpolation") for one in job.summary.followed)
    assert len(job.summary.followed) == 2
    assert job.undo()
    for name, mask in masks(node, volume).items():
        np.testing.assert_array_equal(mask, drawn[name])
    assert not job.undo()


def write(node, name, mask, volume):
    """Replace a segment's voxels, as Segment Editor does."""
    segment_id = node.GetSegmentation().GetSegmentIdBySegmentName(name)
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), node, segment_id, volume)


def corrected_result(logic, volume, truth, slices):
    """A result of the model of which slices were corrected so that "front" has what the truth says, and a rim."""
    node = logic.process(volume)
    before = masks(node, volume)
    mask = before["front"].copy()
    for k in slices:
        mask[k] = ndimage.binary_dilation(truth["front"][k], iterations=2) & ~before["back"][k]
    write(node, "front", mask, volume)
    return node, before, mask


def test_corrected_slices_of_a_result_stay_and_their_neighbours_follow(logic, volume, truth):
    middle = int(np.median(np.flatnonzero(truth["front"].any(axis=(1, 2)))))
    node, before, drawn = corrected_result(logic, volume, truth, [middle])
    job = logic.updateScan(volume, node, wait=False)
    job.result(120)
    found = masks(node, volume)
    np.testing.assert_array_equal(found["front"][middle], drawn[middle])
    assert found["front"][middle + 1].sum() > before["front"][middle + 1].sum()
    np.testing.assert_array_equal(found["back"], before["back"])
    assert not found["absent"].any()
    # Again: what was drawn first is still the user's, and a second correction follows, too.
    second = found["front"].copy()
    second[middle + 2] = before["front"][middle + 2]
    write(node, "front", second, volume)
    logic.updateScan(volume, node)
    again = masks(node, volume)["front"]
    np.testing.assert_array_equal(again[middle], drawn[middle])
    np.testing.assert_array_equal(again[middle + 2], before["front"][middle + 2])
    assert job.undo()
    np.testing.assert_array_equal(masks(node, volume)["front"], drawn)


def test_corrected_slices_stay_while_strokes_on_another_grow_and_are_known_after(logic, volume, truth):
    slices = np.flatnonzero(truth["front"].any(axis=(1, 2)))
    first, second, third = (int(slices[len(slices) // 2 + n]) for n in (-1, 1, 2))
    node, _before, mask = corrected_result(logic, volume, truth, [first])
    logic.updateScan(volume, node)
    for k, grows in ((second, True), (third, False)):
        now = masks(node, volume)["front"]
        row = int(np.flatnonzero(now[k].any(axis=1))[0])
        now[k, row - 2 : row] = now[k, row]
        write(node, "front", now, volume)
        if grows:
            logic.growScribbles(volume, node)
        np.testing.assert_array_equal(masks(node, volume)["front"][first], mask[first])
    assert logic.findDrawn(volume, node).corrected == 2


def test_segments_that_overlap_follow_each_in_its_own_layer(logic, volume, draw, truth):
    inner = ndimage.binary_erosion(truth["front"], iterations=2)
    drawn = {"front": every_third(truth["front"]), "inside": every_third(inner), "back": truth["back"]}
    node = draw(volume, **drawn)
    understood = logic.findDrawn(volume, node)
    assert {name for one in (understood, *understood.also) for name, _n in one.structures} == {"front", "inside"}
    job = logic.updateScan(volume, node, wait=False)
    job.result(120)
    found = masks(node, volume)
    for name, mask in {"front": truth["front"], "inside": inner}.items():
        np.testing.assert_array_equal(found[name] & every_third(mask), drawn[name])
        assert dice(found[name], mask) > 0.8
    np.testing.assert_array_equal(found["back"], truth["back"])
    assert {one["name"] for one in job.summary.followed} == {"front", "inside"}
    assert not logic.findDrawn(volume, node).has_strokes
    # One of both is corrected: only that follows, and what was drawn before stays.
    k = int(np.median(np.flatnonzero(inner.any(axis=(1, 2))))) + 1
    now = found["inside"].copy()
    now[k] = found["front"][k]
    write(node, "inside", now, volume)
    logic.updateScan(volume, node)
    again = masks(node, volume)
    np.testing.assert_array_equal(again["front"], found["front"])
    np.testing.assert_array_equal(again["inside"][k], now[k])
    assert again["inside"].sum() > now.sum()
    assert again["inside"][drawn["inside"]].all()


def test_a_background_that_overlaps_a_structure_is_refused(logic, volume, draw, truth):
    drawn = every_third(truth["front"])
    node = draw(volume, front=drawn, background=drawn)
    with pytest.raises(NodeError, match="overlap in"):
        logic.growScribbles(volume, node)
    np.testing.assert_array_equal(masks(node, volume)["front"], drawn)


def test_nothing_to_follow_from_is_said(logic, volume, draw, truth):
    with pytest.raises(DrawingError, match="nothing for the rest of the scan"):
        logic.updateScan(volume, draw(volume, front=truth["front"]))
    with pytest.raises(NodeError, match="Nothing is drawn"):
        logic.updateScan(volume, draw(volume, front=None))


def test_cancelled_leaves_the_segmentation_alone(logic, volume, draw, truth, session):
    drawn = every_third(truth["front"])
    node = draw(volume, front=drawn)
    job = logic.updateScan(volume, node, wait=False)
    job.cancel()
    with pytest.raises(Cancelled):
        job.result(60)
    np.testing.assert_array_equal(masks(node, volume)["front"], drawn)
    assert [*session.working_folder.glob("*")] == []


def test_scribbles_grow_into_what_is_there_and_stay(logic, volume, draw, truth):
    line = {}
    for name in ("front", "back"):
        k = int(np.median(np.flatnonzero(truth[name].any(axis=(1, 2)))))
        line[name] = (
            ndimage.binary_erosion(truth[name], iterations=2) & (np.arange(len(truth[name])) == k)[:, None, None]
        )
    outside = ~ndimage.binary_dilation(truth["front"] | truth["back"], iterations=3)
    line["background"] = outside & (np.arange(outside.shape[0]) % 5 == 0)[:, None, None]
    node = draw(volume, **line)
    logic.growScribbles(volume, node)
    found = masks(node, volume)
    assert segment_names(node) == ["front", "back"]
    for name, mask in found.items():
        assert mask[line[name]].all()
        assert dice(mask, truth[name]) > 0.8


def test_strokes_into_a_result_are_guided_by_its_model(logic, volume, truth):
    node = logic.process(volume)
    before = masks(node, volume)
    k = int(np.median(np.flatnonzero(truth["front"].any(axis=(1, 2)))))
    erased = before["front"].copy()
    rows = np.flatnonzero(erased[k].any(axis=1))
    stroke = np.zeros_like(erased)
    stroke[k, rows[0] : rows[0] + 2] = erased[k, rows[0] : rows[0] + 2]
    write(node, "front", erased & ~stroke, volume)
    job = logic.growScribbles(volume, node, wait=False)
    job.result(120)
    found = masks(node, volume)
    assert not found["front"][stroke].any()
    (front,) = (one for one in job.summary.changed if one["name"] == "front")
    less = np.count_nonzero(erased & ~stroke & ~found["front"]) * np.prod(volume.GetSpacing()) / 1000
    assert front["less_ml"] == pytest.approx(less, abs=1e-3)
    assert less > 0
    assert dice(found["front"], before["front"]) > 0.6
    assert dice(found["back"], before["back"]) > 0.8
