"""Drawings that were not exported: on disk as they are, for the same scan only, and never too many."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import time
from types import SimpleNamespace

import numpy as np
import pytest
import slicer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from MAESegmentLib import mrml
from MAESegmentLib.app.outputs import proper_output, sign
from MAESegmentLib.app.result_notes import note_summary, summary_of
from MAESegmentLib.app.texts.messages import result_text
from MAESegmentLib.errors import VolumeReadError
from MAESegmentLib.inference.settings import SegmentationSummary
from MAESegmentLib.mrml.case_nodes import CONTENT
from MAESegmentLib.web import unsaved
from MAESegmentLib.web.exporting import content_stamp
from MAESegmentLib.web.unsaved import Unsaved
from Testing import slicer_core
from Testing.mrml.nodes import GRIDS, LABELS, labels_for, segmented, volume


@pytest.fixture(autouse=True)
def scene():
    slicer_core.fresh_scene()
    yield
    slicer_core.fresh_scene()


@pytest.fixture
def scan():
    return volume(GRIDS["oblique"])


@pytest.fixture
def drawing(scan):
    """A result with a segment that a user drew over it, and an empty one."""
    node = segmented(scan, labels_for((9, 11, 13)))
    segmentation = node.GetSegmentation()
    for name in ("drawn over it", "empty"):
        segmentation.AddEmptySegment(name, name, [0.25, 0.5, 0.75])
    over = np.zeros((13, 11, 9), np.uint8)
    over[2:5, 3:7, 1:8] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(over, node, "drawn over it", scan)
    node.SetAttribute("MAESegment.Model", "some-model@1.0")
    return node


def kept(scan, node, folder):
    asyncio.run(Unsaved(folder).keep(node, scan))
    return folder


def found(scan, folder):
    return asyncio.run(Unsaved(folder).found(scan))


def masks(node, scan):
    segmentation = node.GetSegmentation()
    ids = [segmentation.GetNthSegmentID(number) for number in range(segmentation.GetNumberOfSegments())]
    return {
        (segmentation.GetSegment(one).GetName(), segmentation.GetSegment(one).GetColor()): (
            slicer.util.arrayFromSegmentBinaryLabelmap(node, one, scan)
        )
        for one in ids
    }


def test_a_drawing_comes_back_as_it_was_segments_that_overlap_too(scan, drawing, tmp_path):
    (one,) = found(scan, kept(scan, drawing, tmp_path / "unsaved/own"))
    again = asyncio.run(Unsaved(tmp_path / "unsaved/own").restore(one, scan))
    before, after = masks(drawing, scan), masks(again, scan)
    assert list(before) == list(after)
    for key, mask in before.items():
        np.testing.assert_array_equal(after[key], mask)
    assert mrml.looks_of(again) == mrml.looks_of(drawing)
    assert again.GetAttribute("MAESegment.Model") == "some-model@1.0"
    assert mrml.is_edited(again)
    assert mrml.volume_of(again) is scan


def test_a_result_that_was_not_edited_is_none_after_a_restart_either(scan, tmp_path):
    result = segmented(scan, labels_for((9, 11, 13)))
    (one,) = found(scan, kept(scan, result, tmp_path))
    assert not mrml.is_edited(asyncio.run(Unsaved(tmp_path).restore(one, scan)))


MODEL = SimpleNamespace(name="some-model", version="1.0", content_hash="0" * 64, labels=LABELS)
BOX = (-3.0, 4.0, -5.0, 6.0, -7.0, 8.25)


@pytest.fixture
def result(scan):
    """Of a model in a box."""
    node = segmented(scan, labels_for((9, 11, 13)))
    sign(node, [scan], MODEL, BOX, "left box", "")
    reply = {"volumes_ml": {1: 2.5, 3: 0.0}, "device": "cpu", "device_title": "A processor", "warnings": ["Dark."]}
    reply["cleaned"] = {"front": {"islands": 2, "removed_ml": 0.25}}
    note_summary(node, SegmentationSummary.of_reply(reply, MODEL, seconds=4.5))
    return node


def test_a_result_is_the_result_of_the_same_again_and_says_how_it_was_made(scan, result, tmp_path):
    said = result_text(summary_of(result))
    assert "some-model 1.0: 1 of 3 segments found, 2.5 ml, 4.5 s on A processor. Cleaned: front" in said
    kept(scan, result, tmp_path)
    slicer_core.fresh_scene()  # the program ended
    scan = volume(GRIDS["oblique"])
    (one,) = found(scan, tmp_path)
    again = asyncio.run(Unsaved(tmp_path).restore(one, scan))
    assert proper_output(again, [scan], MODEL, BOX) is again
    for box in (None, (0.0, *BOX[1:])):
        assert proper_output(again, [scan], MODEL, box) is None
    assert proper_output(again, [volume(GRIDS["oblique"])], MODEL, BOX) is None
    summary = summary_of(again)
    assert (result_text(summary), summary.warnings) == (said, ("Dark.",))


@pytest.mark.parametrize(
    "notes",
    [
        {"MAESegment.Region": "[1, 2, 3]"},
        {"MAESegment.Region": "[1, 2, 3, 4, 5, NaN]"},
        {"MAESegment.Region": "{"},
        {"MAESegment.Model": 1},
        {"MAESegment.Model": "m" * 200_000},
        {"references": "vtkMRMLScalarVolumeNode1"},
        ["MAESegment.Model"],
    ],
)
def test_notes_that_were_not_written_here_are_refused(scan, result, tmp_path, monkeypatch, notes):
    packed = unsaved._packed

    def forged(*arguments):
        arrays = packed(*arguments)
        about = json.loads(arrays["about"].tobytes()) | {"attributes": notes}
        return {**arrays, "about": np.frombuffer(json.dumps(about).encode(), np.uint8)}

    monkeypatch.setattr(unsaved, "_packed", forged)
    (one,) = found(scan, kept(scan, result, tmp_path))
    with pytest.raises(VolumeReadError):
        asyncio.run(Unsaved(tmp_path).restore(one, scan))
    assert mrml.segmentations_of(scan) == [result]


@pytest.mark.parametrize(
    "change",
    [
        {"seconds": float("nan")},
        {"seconds": "1"},
        {"volumes_ml": {"1": -1}},
        {"volumes_ml": {"one": 1}},
        {"labels": [[0, "front"]]},
        {"labels": [[1]]},
        {"cleaned": {"front": {"islands": "many"}}},
        {"cleaned": {"front": {"other": 1}}},
        {"warnings": ["w" * 100_000]},
        {"warnings": 1},
    ],
)
def test_how_a_result_was_made_is_not_said_if_its_note_is_damaged(result, change):
    noted = json.loads(result.GetAttribute("MAESegment.Summary"))
    result.SetAttribute("MAESegment.Summary", json.dumps(noted | change))
    assert summary_of(result) is None
    result.SetAttribute("MAESegment.Summary", "[" * 60_000)
    assert summary_of(result) is None


def test_it_is_never_offered_for_another_scan(scan, drawing, tmp_path):
    kept(scan, drawing, tmp_path)
    other_voxels, moved = volume(GRIDS["oblique"]), volume(GRIDS["oblique"])
    slicer.util.arrayFromVolume(other_voxels)[0, 0, 0] += 1
    moved.SetOrigin(*(mm + 0.01 for mm in scan.GetOrigin()))
    assert found(other_voxels, tmp_path) == found(moved, tmp_path) == []
    (one,) = found(volume(GRIDS["oblique"]), tmp_path)
    with pytest.raises(VolumeReadError):  # nor put onto it, whatever its file is called
        asyncio.run(Unsaved(tmp_path).restore(one, moved))


def test_only_this_account_can_read_it(scan, drawing, tmp_path):
    (one,) = found(scan, kept(scan, drawing, tmp_path / "unsaved/own"))
    assert stat.S_IMODE(one.path.stat().st_mode) == 0o600
    for folder in (one.path.parent, one.path.parent.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_what_is_exported_forgotten_or_empty_is_not_kept(scan, drawing, tmp_path):
    work = Unsaved(tmp_path)

    async def walk():
        await work.keep(drawing, scan)
        assert work.is_unsaved(drawing)
        work.saved(drawing, content_stamp(drawing))
        assert not work.is_unsaved(drawing)
        await work.keep(drawing, scan)
        assert list(tmp_path.iterdir()) == []
        drawing.GetSegmentation().GetNthSegment(0).SetName("renamed since")
        assert work.is_unsaved(drawing)
        await work.keep(drawing, scan)
        await work.keep(drawing, scan)
        assert len(list(tmp_path.iterdir())) == 1, "one file a segmentation"
        assert await work.found(scan) == [], "it is open"
        drawing.SetAttribute(CONTENT, mrml.content_of(drawing))
        assert not work.is_unsaved(drawing), "it is stored as a case"
        await work.keep(drawing, scan)
        assert list(tmp_path.iterdir()) == []
        drawing.RemoveAttribute(CONTENT)
        await work.keep(drawing, scan)
        await work.forget(drawing)
        empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "empty")
        empty.GetSegmentation().AddEmptySegment("nothing")
        await work.keep(empty, scan)
        assert not work.is_unsaved(empty)
        assert list(tmp_path.iterdir()) == []

    asyncio.run(walk())


def test_the_oldest_go_first_and_never_the_newest(scan, drawing, tmp_path, monkeypatch):
    monkeypatch.setattr(unsaved, "_MOST_FILES", 3)
    for number in range(5):
        kept(scan, drawing, tmp_path / f"user {number % 2}")
        for one in (files := [*tmp_path.glob("*/*")]):
            os.utime(one, (age := one.stat().st_mtime - 60, age))
    assert len(files) == 3
    for one in files:
        os.utime(one, (time.time() - 31 * 86400,) * 2)
    kept(scan, drawing, tmp_path / "user 0")
    assert len([*tmp_path.glob("*/*")]) == 1


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_file_is_said_and_can_be_discarded(scan, drawing, tmp_path_factory, data):
    folder = kept(scan, drawing, tmp_path_factory.mktemp("unsaved"))
    (one,) = found(scan, folder)
    content = bytearray(one.path.read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        for _byte in range(data.draw(st.integers(1, 20))):
            content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    one.path.write_bytes(content)
    work, before = Unsaved(folder), len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode"))
    (one,) = asyncio.run(work.found(scan))
    try:
        again = asyncio.run(work.restore(one, scan))
    except VolumeReadError:
        assert len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")) == before
        work.discard([one])
        assert list(folder.iterdir()) == []
    else:
        assert masks(again, scan).keys() == masks(drawing, scan).keys()
