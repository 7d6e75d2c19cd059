"""Fix this scan, in Slicer's panel: clicks reach the presenter, its state the widgets, a change Segment Editor."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import slicer

from MAESegmentLib import mrml
from MAESegmentLib.app.drawn import Understood
from MAESegmentLib.errors import DrawingError, WorkerError
from Testing.gui.standin import SegmentEditor

CORRECTED = Understood("axial", corrected=2, names=("anterior",), has_strokes=True)
FOLLOWED = {"name": "anterior", "slices": [3, 5], "method": "correction"}
SUMMARY = SimpleNamespace(followed=(FOLLOWED,), plane="axial", seconds=1.2, warnings=(), changed=())


@pytest.fixture
def editor(monkeypatch):
    editor = SegmentEditor()
    monkeypatch.setattr(slicer.util.getModuleWidget("SegmentEditor"), "editor", editor)
    return editor


@pytest.fixture
def fix(fake_logic, panel, ui, segmentation, settle, editor):  # noqa: ARG001
    """The section, unfolded, over a result of which two slices were corrected."""
    fake_logic.drawn = CORRECTED
    panel.fix.presenter.double_click_s = 0.0
    ui.fixCollapsibleButton.collapsed = False
    settle()
    return panel.fix


def erase(segmentation) -> None:
    segmentation.GetSegmentation().RemoveSegment("Segment_1")


def test_nothing_is_read_before_the_section_is_unfolded(fake_logic, panel, ui, segmentation):
    assert fake_logic.called("findDrawn") == []
    fake_logic.drawn = CORRECTED
    ui.fixCollapsibleButton.collapsed = False
    assert fake_logic.called("findDrawn") == [[panel.volume, segmentation, ""]]
    assert ui.updateLabel.text.startswith("2 corrected axial slices of anterior.")
    panel.enter()
    assert len(fake_logic.called("findDrawn")) == 2, "the user may have come from Segment Editor"


def test_update_is_shown_cancelled_and_ends_with_what_was_done(fake_logic, ui, fix, segmentation):  # noqa: ARG001
    ui.updateButton.click()
    job = fake_logic.last("updateScan")
    assert job.arguments["segmentation"] is segmentation
    job.go_on("segment", 0.5, eta_s=3)
    assert (ui.updateProgressBar.visible, ui.updateProgressBar.value) == (True, 500)
    assert (ui.updateButton.text, ui.growButton.enabled) == ("Cancel", False)
    ui.updateButton.click()
    assert job.cancel_requested
    job.succeed(segmentation, SUMMARY)
    assert (ui.updateButton.text, ui.updateProgressBar.visible) == ("Update this scan", False)
    assert ui.updateSaidLabel.text.startswith("Updated in 1 s.")
    assert ui.undoUpdateButton.visible
    ui.undoUpdateButton.click()
    assert job.undone == 1
    assert not ui.undoUpdateButton.visible


def test_segment_editors_undo_takes_it_back_too(fix, segmentation, editor):
    editor.setSegmentationNode(segmentation)
    before = mrml.drawn_segments(segmentation)
    with fix.changing(segmentation):
        erase(segmentation)
    assert mrml.drawn_segments(segmentation) != before
    editor.undo()
    assert mrml.drawn_segments(segmentation) == before


def test_an_editor_that_has_another_segmentation_is_left_alone(fix, segmentation, editor):
    editor.setSegmentationNode(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "other"))
    with fix.changing(segmentation):
        erase(segmentation)
    assert not editor._history.IsRestorePreviousStateAvailable()


def test_scribble_opens_the_brush_on_what_is_shown(fake_logic, panel, ui, fix, segmentation, editor):  # noqa: ARG001
    ui.scribbleButton.click()
    assert fake_logic.called("addBackground") == [[segmentation]]
    assert slicer.util.selected_modules == ["SegmentEditor"]
    assert (editor.segmentationNode(), editor.volume, editor.effect) == (segmentation, panel.volume, "Paint")
    panel.enter()
    assert fake_logic.called("removeBackground") == [[segmentation]]
    ui.growButton.click()
    assert fake_logic.last("growScribbles").arguments["segmentation"] is segmentation


def test_the_plane_is_asked_for_below_the_buttons(fake_logic, ui, fix):
    problem = DrawingError("It is not clear in which plane.")
    fake_logic.drawn = Understood(problem=problem, is_ambiguous=True, has_strokes=True)
    fix.presenter.look()
    assert (ui.updateAskFrame.visible, ui.updateLabel.visible) == (True, False)
    assert [ui.updateAsk1Button.text, ui.updateAsk3Button.text] == ["Axial", "Sagittal"]
    fake_logic.drawn = CORRECTED
    ui.updateAsk2Button.click()
    assert (ui.updateAskFrame.visible, ui.updateButton.enabled) == (False, True)


def test_an_error_is_shown_in_the_message_bar(fake_logic, ui, fix):  # noqa: ARG001
    ui.updateButton.click()
    fake_logic.last("updateScan").fail(WorkerError("The worker ended.", "Press again."))
    assert ui.messageLabel.text == "The worker ended. Press again."
    assert ui.updateButton.enabled


def test_closing_the_scene_cancels_and_forgets(fake_logic, ui, fix, segmentation, settle):  # noqa: ARG001
    ui.updateButton.click()
    slicer.mrmlScene.Clear(0)
    settle()
    assert fake_logic.last("updateScan").cancel_requested
    assert not ui.undoUpdateButton.visible
