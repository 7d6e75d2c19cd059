"""Sequences: every frame is found, and the results are a sequence in the same browser."""

from __future__ import annotations

import numpy as np
import pytest
import slicer

from MAESegmentLib import mrml
from MAESegmentLib.errors import NodeError
from MAESegmentLib.mrml.frames import frame_in_scene
from Testing import slicer_core
from Testing.mrml.nodes import GRIDS, LABELS, cropped, labels_for, volume


@pytest.fixture
def cine():
    """A sequence of three frames with a browser; returns (sequence, browser, proxy volume)."""
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "cine")
    sequence.SetIndexName("time")
    sequence.SetIndexUnit("s")
    for number in range(3):
        node = volume(GRIDS["oblique"], name="frame")
        slicer.util.updateVolumeFromArray(node, np.full((9, 11, 13), number, np.int16))
        sequence.SetDataNodeAtValue(node, str(number * 0.5))
        slicer.mrmlScene.RemoveNode(node)
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    return sequence, browser, browser.GetProxyNode(sequence)


@pytest.mark.parametrize("which", [0, 2], ids=["sequence", "proxy"])
def test_frames_of_a_sequence_and_of_its_proxy(cine, which) -> None:
    frames = mrml.frames_of(cine[which])
    assert [frame.value for frame in frames] == ["0.0", "0.5", "1.0"]
    assert "2/3 (0.5 s)" in frames[1].title
    assert [int(slicer.util.arrayFromVolume(frame.volume)[0, 0, 0]) for frame in frames] == [0, 1, 2]


def test_a_volume_of_its_own_has_no_frames() -> None:
    assert mrml.frames_of(volume(GRIDS["RAS"])) == []
    assert mrml.frames_of(None) == []


def test_a_frame_in_the_scene_lies_where_the_proxy_lies(cine) -> None:
    _sequence, _browser, proxy = cine
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    proxy.SetAndObserveTransformNodeID(transform.GetID())
    node = frame_in_scene(mrml.frames_of(proxy)[2], proxy)
    assert node.GetTransformNodeID() == transform.GetID()
    np.testing.assert_allclose(mrml.image_of([node]).ijk_to_world, GRIDS["oblique"], atol=1e-6)
    assert slicer.util.arrayFromVolume(node)[0, 0, 0] == 2


def test_results_follow_the_browser(cine) -> None:
    _sequence, browser, proxy = cine
    pairs = []
    for number, frame in enumerate(mrml.frames_of(proxy)):
        array = np.roll(labels_for((9, 11, 13)), number, axis=2)
        block, origin = cropped(array)
        pairs.append((frame, mrml.add_segmentation(proxy, LABELS, block, origin, name=f"result {number}")))
    result = mrml.add_segmentation_sequence(proxy, pairs, name="cine segmentation")
    for _, segmentation in pairs:
        slicer.mrmlScene.RemoveNode(segmentation)
    shown = browser.GetProxyNode(result)
    assert mrml.volume_of(shown) is proxy
    for number in (2, 0, 1):
        browser.SetSelectedItemNumber(number)
        slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
        expected = np.roll(labels_for((9, 11, 13)), number, axis=2)
        found = mrml.label_map_of(shown, proxy, LABELS).array.transpose(2, 1, 0)
        np.testing.assert_array_equal(found, expected)


def test_saved_sequences_of_results_show_what_was_found(cine, tmp_path) -> None:
    _sequence, _browser, proxy = cine
    arrays = [np.roll(labels_for((9, 11, 13)), number, axis=2) for number in range(3)]
    pairs = [
        (frame, mrml.add_segmentation(proxy, LABELS, *cropped(array), name="result"))
        for frame, array in zip(mrml.frames_of(proxy), arrays, strict=True)
    ]
    mrml.add_segmentation_sequence(proxy, pairs, name="found")
    for _, segmentation in pairs:
        mrml.remove_node(segmentation)
    assert slicer.mrmlScene.WriteToMRB(str(tmp_path / "scene.mrb"))
    slicer_core.fresh_scene()
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "scene.mrb"), False)
    (browser,) = slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode")
    sequences = {one.GetName(): one for one in slicer.util.getNodesByClass("vtkMRMLSequenceNode")}
    for number in (2, 0, 1):
        browser.SetSelectedItemNumber(number)
        slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
        shown, scan = browser.GetProxyNode(sequences["found"]), browser.GetProxyNode(sequences["cine"])
        assert not mrml.is_edited(shown)
        found = mrml.label_map_of(shown, scan, LABELS).array.transpose(2, 1, 0)
        np.testing.assert_array_equal(found, arrays[number])


def test_a_removed_result_leaves_nothing_behind() -> None:
    node = volume(GRIDS["RAS"])
    segmentation = mrml.add_segmentation(node, LABELS, *cropped(labels_for((9, 11, 13))), name="result")
    segmentation.AddDefaultStorageNode()
    assert len(slicer.util.getNodesByClass("vtkMRMLSegmentationDisplayNode")) == 1
    for one in (segmentation, segmentation, None):
        mrml.remove_node(one)
    for kind in ("vtkMRMLSegmentationNode", "vtkMRMLSegmentationDisplayNode", "vtkMRMLSegmentationStorageNode"):
        assert not slicer.util.getNodesByClass(kind)


def test_a_frame_is_shown(cine) -> None:
    _sequence, browser, proxy = cine
    mrml.show_frame(proxy, 2)
    assert browser.GetSelectedItemNumber() == 2
    mrml.show_frame(volume(GRIDS["RAS"]), 1)


def test_results_need_a_sequence() -> None:
    with pytest.raises(NodeError, match="belongs to no sequence"):
        mrml.add_segmentation_sequence(volume(GRIDS["RAS"]), [], name="x")
