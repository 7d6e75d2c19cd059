"""Suggest next case in Slicer's panel: clicks reach the presenter, its state the widgets, and its scans the views."""

from __future__ import annotations

from pathlib import Path

import pytest
import slicer

from MAESegmentLib.errors import Cancelled, GeometryError
from Testing.fake_logic import Ranked
from Testing.gui.panel_fixtures import choose, texts_of


@pytest.fixture
def ui(panel):
    return panel.ui


@pytest.fixture
def scans(ui, volume, add_volume, settle):
    """Three scans in the scene; the section is open."""
    ui.nextCollapsibleButton.collapsed = False
    nodes = [volume, add_volume("Second"), add_volume("Third")]
    settle()
    return nodes


@pytest.fixture
def slice_node():
    node = slicer.vtkMRMLSliceNode()
    node.SetName("Red")
    node.SetLayoutName("Red")
    return slicer.mrmlScene.AddNode(node)


def finish(fake_logic, rows):
    job = fake_logic.last("nextCases")
    job.rows[:] = rows
    job.succeed(job.rows)


def ranked(scans):
    return [
        Ranked("Third", scans[2], score=0.42, entropy=0.42, position=(3.0, -4.0, 12.0)),
        Ranked("MNI152 head", scans[0], score=0.11, entropy=0.11),
        Ranked("Second", scans[1], error=GeometryError("Second has 1 slice: it is not a volume.")),
    ]


def test_without_a_scan_there_is_nothing_to_rank(panel, ui):
    ui.improveCollapsibleButton.collapsed = False
    ui.nextCollapsibleButton.collapsed = False
    panel.update()
    assert not ui.rankButton.enabled
    assert ui.rankButton.toolTip == "There is no scan in the scene without a corrected case."


def test_ranked_scans_are_listed_while_others_are_measured(fake_logic, ui, scans):
    ui.rankButton.click()
    assert fake_logic.called("nextCases")[0][0] == scans
    assert ui.rankButton.text == "Cancel"
    job = fake_logic.last("nextCases")
    job.rows[:] = ranked(scans)
    job.go_on("Second", 0.4)
    assert (ui.rankProgressBar.visible, ui.rankProgressBar.value) == (True, 400)
    assert ui.rankLabel.text == "Segmenting Second"
    ui.rankButton.click()
    assert job.cancel_requested
    job.fail(Cancelled())
    assert ui.rankButton.text == "Rank scans"
    assert texts_of(ui.rankTable, 0) == ["1", "2", "\u2013"]
    assert texts_of(ui.rankTable, 1) == ["Third", "MNI152 head", "Second"]
    assert texts_of(ui.rankTable, 2)[0] == "uncertainty 0.42"
    assert not ui.rankProgressBar.visible
    assert not ui.improveNoteFrame.visible


def test_ticked_scans_only_or_those_that_are_not_stored(fake_logic, panel, ui, scans, add_result):
    node, _summary = add_result(scans[0], panel.bundle)
    node.SetAttribute("MAESegment.Case", "hippocampus-mr/case-0001")
    ui.rankButton.click()
    assert fake_logic.called("nextCases")[0][0] == scans[1:]
    fake_logic.last("nextCases").fail(Cancelled())
    ui.nextVolumesSelector.setCheckState(scans[1], 2)
    ui.rankButton.click()
    assert fake_logic.called("nextCases")[1][0] == [scans[1]]


def test_least_certain_slice_is_shown_and_the_scan_chosen(fake_logic, panel, ui, scans, slice_node):
    ui.rankButton.click()
    finish(fake_logic, ranked(scans))
    ui.showSliceButton.click()
    assert panel.parameters.inputVolume is scans[2]
    matrix = slice_node.GetSliceToRAS()
    assert [matrix.GetElement(row, 3) for row in range(3)] == [3.0, -4.0, 12.0]
    ui.rankTable.selectRow(2)
    assert not ui.showSliceButton.enabled
    ui.rankTable.cellDoubleClicked(1, 0)
    assert panel.parameters.inputVolume is scans[0]
    slicer.mrmlScene.RemoveNode(scans[2])
    ui.rankTable.cellDoubleClicked(0, 0)
    assert ui.improveNoteLabel.text == "Third is no longer in the scene."


def test_folder_of_scans(fake_logic, panel, ui, scans, tmp_path, add_volume, monkeypatch):  # noqa: ARG001
    choose(ui.nextSourceComboBox, "A folder")
    assert not ui.nextVolumesSelector.visible
    assert ui.rankButton.toolTip == "Choose a folder of scans."
    ui.nextFolderPathLineEdit.currentPath = str(tmp_path)
    ui.rankButton.click()
    assert fake_logic.called("nextCases")[0][0] == str(tmp_path)
    scan, series = tmp_path / "head.nii.gz", tmp_path / "series"
    scan.write_bytes(b"")
    series.mkdir()
    finish(fake_logic, [Ranked("head", scan, score=0.3), Ranked("series", series, score=0.2)])
    loaded = []

    def load(path: str):
        loaded.append(Path(path))
        return add_volume("head")

    monkeypatch.setattr(slicer.util, "loadVolume", load, raising=False)
    ui.showSliceButton.click()
    assert loaded == [scan]
    assert panel.parameters.inputVolume.GetName() == "head"
    ui.rankTable.cellDoubleClicked(1, 0)
    assert "series is a folder of DICOM files." in ui.improveNoteLabel.text


def test_closing_the_scene_forgets_the_scans(fake_logic, ui, scans):
    ui.rankButton.click()
    finish(fake_logic, ranked(scans))
    slicer.mrmlScene.Clear(0)
    assert not ui.rankTable.visible
