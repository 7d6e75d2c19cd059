"""What is shown of the open scans."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import slicer

from MAESegmentLib import mrml
from MAESegmentLib.web.slicer_scene import roi_node
from MAESegmentLib.web.workspace import Scan, Workspace
from Testing import slicer_core
from Testing.mrml.nodes import GRIDS, labels_for, segmented, volume


@pytest.fixture(autouse=True)
def scene():
    slicer_core.fresh_scene()
    yield
    slicer_core.fresh_scene()


@pytest.fixture
def workspace():
    """With two open scans."""
    workspace = Workspace(SimpleNamespace(show_volume_in_slice_background=lambda _node: None, reset_views=lambda: None))
    workspace.scans += [Scan(volume(GRIDS["oblique"]), None) for _number in range(2)]
    return workspace


def test_a_new_segmentation_is_chosen_on_its_own_scan_only(workspace):
    first, second = workspace.scans
    mine = segmented(second.node, labels_for((9, 11, 13)))
    workspace.show(second)
    other = segmented(first.node, labels_for((9, 11, 13)))
    for node in (mine, other):
        node.CreateDefaultDisplayNodes()
        node.GetDisplayNode().SetVisibility(True)
    workspace.offer(other)
    assert workspace.segmentation is mine
    assert [bool(node.GetDisplayNode().GetVisibility()) for node in (mine, other)] == [True, False]
    workspace.show(first)
    workspace.offer(other)
    assert workspace.segmentation is other


def test_where_two_versions_differ_is_seen_over_the_chosen_segmentation_and_never_chosen(workspace):
    first, second = workspace.scans
    mine, difference = (segmented(first.node, labels_for((9, 11, 13))) for _number in range(2))
    mrml.mark_difference(difference)
    for node in (mine, difference):
        node.CreateDefaultDisplayNodes()
    workspace.show(first)
    workspace.show_difference(difference)
    assert workspace.segmentation is mine
    assert workspace.segmentations() == [mine]
    seen = lambda: [bool(node.GetDisplayNode().GetVisibility()) for node in (mine, difference)]  # noqa: E731
    assert seen() == [True, True]
    workspace.show(second)
    assert (workspace.segmentation, seen()) == (None, [False, False])
    workspace.show(first)
    workspace.show_difference(None)
    assert (workspace.segmentation, seen()) == (mine, [True, False])
    workspace.remove(first)
    assert difference.GetScene() is None


def test_a_scan_that_is_shown_again_has_the_segmentation_that_was_chosen(workspace):
    first, second = workspace.scans
    chosen, later = (segmented(first.node, labels_for((9, 11, 13))) for _number in range(2))
    workspace.show(first)
    assert workspace.segmentation is later
    workspace.choose(chosen)
    workspace.show(second)
    workspace.show(first)
    assert workspace.segmentation is chosen


def test_segmentations_and_boxes_go_with_their_scan(workspace):
    first, second = workspace.scans
    nodes = [[segmented(scan.node, labels_for((9, 11, 13))), roi_node("box", (0, 1) * 3)] for scan in (first, second)]
    for scan, (_segmentation, box) in zip(workspace.scans, nodes, strict=True):
        scan.boxes.append(box)
    slicer.mrmlScene.RemoveNode(nodes[0][1])  # by the user
    workspace.remove(first)
    assert [[node.GetScene() is not None for node in of_scan] for of_scan in nodes] == [[False, False], [True, True]]
    assert workspace.scan is second
    workspace.remove(second)
    assert workspace.scan is workspace.segmentation is None
