"""The rest of a scan follows from what was drawn in a scene, with a real worker; and scribbles grow."""

from __future__ import annotations

import numpy as np
import pytest
import slicer

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
    assert [one["method"] for one in job.summary.followed] == ["interpolation", "interpolation"]
    assert job.undo()
    for name, mask in masks(node, volume).items():
        np.testing.assert_array_equal(mask, drawn[name])
    assert not job.undo()
