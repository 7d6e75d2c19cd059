"""What is shown of the open scans."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from MAESegmentLib.web.workspace import Workspace
from Testing import slicer_core
from Testing.mrml.nodes import GRIDS, labels_for, segmented, volume


@pytest.fixture(autouse=True)
def scene():
    slicer_core.fresh_scene()
    yield
    slicer_core.fresh_scene()


def test_a_new_segmentation_is_chosen_on_its_own_scan_only():
    display = SimpleNamespace(show_volume_in_slice_background=lambda _node: None, reset_views=lambda: None)
    workspace = Workspace(display)
    first, second = (SimpleNamespace(node=volume(GRIDS["oblique"])) for _number in range(2))
    workspace.scans += [first, second]
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
