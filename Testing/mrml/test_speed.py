"""Nothing here may hold up the window: processor time (not that of a busy machine) for 256 x 256 x 256 voxels."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import slicer

from MAESegmentLib import mrml
from MAESegmentLib.labels import Label
from Testing.mrml.nodes import cropped

LABELS = tuple(Label(value, f"part {value}") for value in range(1, 15))


@pytest.fixture(scope="module")
def array() -> np.ndarray:
    """(K, J, I) with 14 boxes, from one corner to the other."""
    array = np.zeros((256, 256, 256), np.uint8)
    for label in LABELS:
        first = 16 * label.value - 14
        array[first : first + 40, 4:250, first : first + 30] = label.value
    return array


def scan(shape: tuple[int, ...]) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "scan")
    slicer.util.updateVolumeFromArray(node, np.zeros(shape, np.uint8))
    return node


def seconds(work: Callable[[], Any]) -> float:
    """The best of three, of this thread."""
    times = []
    for _ in range(3):
        begun = time.thread_time()
        work()
        times.append(time.thread_time() - begun)
    return min(times)


def test_each_takes_a_fraction_of_what_it_is_allowed(array) -> None:
    node = scan(array.shape)
    block, origin = cropped(array)
    segmentation = mrml.add_segmentation(node, LABELS, block, origin, name="result")
    assert seconds(lambda: mrml.image_of([node])) < 0.01
    assert seconds(lambda: mrml.is_edited(segmentation)) < 0.1
    assert seconds(lambda: mrml.add_segmentation(node, LABELS, block, origin, name="", into=segmentation)) < 0.3
    assert seconds(lambda: mrml.label_map_of(segmentation, node, LABELS)) < 0.3


def test_no_step_of_a_large_result_is_long(array) -> None:
    large = np.tile(array, (2, 1, 1))
    node = scan(large.shape)
    steps = mrml.prepare_segments(node, LABELS, large, (0, 0, 0))
    times, segments = [], None
    while segments is None:
        begun = time.thread_time()
        try:
            next(steps)
        except StopIteration as end:
            segments = end.value
        times.append(time.thread_time() - begun)
    assert len(times) > 4
    assert max(times) < 0.2
    begun = time.thread_time()
    result = mrml.put_segments(node, segments, name="result")
    assert time.thread_time() - begun < 0.1
    assert slicer.mrmlScene.IsNodePresent(result)
