"""Fix this scan: what is drawn is understood, the rest follows in what was shown, and it can be undone."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from MAESegmentLib.app.drawn import Understood
from MAESegmentLib.app.presenters.presenter import plain
from MAESegmentLib.app.presenters.update import UpdatePresenter
from MAESegmentLib.app.texts.drawing import updated_text
from MAESegmentLib.errors import Cancelled, DrawingError, NodeError, WorkerError

CORRECTED = Understood("axial", corrected=3, names=("left_parotid",), has_strokes=True)
NOTHING = Understood(problem=DrawingError("Nothing is drawn.", "Draw first."))
AMBIGUOUS = Understood(
    problem=DrawingError("It is not clear in which plane.", "Say which."), is_ambiguous=True, has_strokes=True
)
FOLLOWED = {"name": "left_parotid", "slices": [4, 9, 14], "method": "correction"}
SUMMARY = SimpleNamespace(followed=(FOLLOWED,), plane="axial", seconds=2.3, warnings=("A warning.",), changed=())


def segmentation(name="Head - organs"):
    """As far as a presenter looks at it."""
    return SimpleNamespace(GetID=lambda: f"id of {name}", GetName=lambda: name, GetScene=lambda: "scene")


@pytest.fixture
def place(host):
    """The panel around: what it was told, in order."""
    host.told, host.is_looked_at = [], True
    host.segmentation = segmentation()
    host.scribble = lambda: host.told.append("scribble")
    host.changed = lambda node: host.told.append(("changed", node))

    @contextmanager
    def changing(node):
        host.told.append(("before", node))
        yield
        host.told.append(("after", node))

    host.changing = changing
    return host


@pytest.fixture
def fix(logic, place):
    """Three slices were corrected."""
    logic.drawn = CORRECTED
    fix = UpdatePresenter(logic, place, lambda: None)
    fix.double_click_s = 0.0
    fix.update()
    return fix


@pytest.fixture
def updated(logic, place, fix):
    """Press, and let it succeed; the job."""
    fix.press_update()
    job = logic.last("updateScan")
    job.succeed(place.segmentation, SUMMARY)
    return job


def test_it_says_what_it_understood_before_the_button_is_pressed(fix):
    assert fix.state.update.is_enabled
    assert fix.state.line == (
        "3 corrected axial slices of left parotid. All of a corrected slice counts as right. "
        "The rest will follow; what you drew stays."
    )


def test_a_new_structure_on_every_fourth_slice_is_understood_too(logic, fix):
    logic.drawn = Understood("coronal", corrected=1, structures=(("kidney", 6),), has_strokes=True)
    fix.look()
    assert fix.state.line.startswith("1 corrected coronal slice; kidney drawn on 6 coronal slices. All of a")


def test_what_was_drawn_in_two_planes_is_said_of_each_and_so_is_what_cannot_be_used(logic, fix):
    also = (Understood("sagittal", corrected=1, names=("left_parotid",)),)
    logic.drawn = Understood("axial", structures=(("kidney", 6),), also=also, notes=("A cyst stays as it is.",))
    fix.look()
    assert fix.state.line == (
        "kidney drawn on 6 axial slices; 1 corrected sagittal slice of left parotid. All of a corrected slice counts "
        "as right. The rest will follow; what you drew stays. A cyst stays as it is."
    )
    followed = ({**FOLLOWED, "plane": "axial"}, {**FOLLOWED, "plane": "sagittal", "slices": [20]})
    said = updated_text(SimpleNamespace(followed=followed, plane="axial"), 1.0)
    assert "(3 axial slices)" in said
    assert "(1 sagittal slice)" in said


@pytest.mark.parametrize(("missing", "word"), [("volume", "scan"), ("segmentation", "draw")])
def test_what_is_missing_is_the_reason(logic, place, missing, word):
    setattr(place, missing, None)
    fix = UpdatePresenter(logic, place, lambda: None)
    fix.update()
    for button in (fix.state.update, fix.state.grow, fix.state.scribble):
        assert not button.is_enabled
        assert word in button.tip
    assert fix.state.line == fix.state.blocked
    fix.press_update()
    fix.press_grow()
    fix.press_scribble()
    assert logic.calls == []


def test_where_nothing_was_drawn_both_buttons_say_so(logic, fix):
    logic.drawn = NOTHING
    fix.look()
    assert (fix.state.update.is_enabled, fix.state.update.tip) == (False, "Nothing is drawn. Draw first.")
    assert not fix.state.grow.is_enabled
    assert fix.state.scribble.is_enabled


def test_a_region_confines_it_and_that_is_said(place, fix):
    place.roi = "box"
    fix.update()
    assert fix.state.line.endswith("what you drew stays. Nothing changes outside the chosen region.")
    place.roi = None
    fix.update()
    assert fix.state.line.endswith("what you drew stays.")


def test_nothing_is_read_while_nobody_looks(logic, place):
    place.is_looked_at = False
    fix = UpdatePresenter(logic, place, lambda: None)
    fix.update()
    fix.look()
    assert logic.calls == []
    assert not fix.state.update.is_enabled


def test_a_reason_of_the_panel_blocks_it(fix):
    fix.update("No Python was found.")
    assert fix.state.update.tip == "No Python was found."


def test_strokes_in_no_plane_can_grow_and_the_plane_is_asked_for(logic, fix):
    logic.drawn = AMBIGUOUS
    fix.look()
    assert (fix.state.update.is_enabled, fix.state.grow.is_enabled) == (False, True)
    assert [option.key for option in fix.state.asks.options] == ["axial", "coronal", "sagittal"]
    logic.drawn = CORRECTED
    fix.act("coronal")
    assert fix.state.asks is None
    assert logic.called("findDrawn")[-1][-1] == "coronal"
    fix.press_update()
    assert logic.last("updateScan").arguments["plane"] == "coronal"


def test_update_works_on_what_is_shown_and_says_how_it_was_done(logic, place, fix):
    place.roi = "box"
    fix.press_update()
    job = logic.last("updateScan")
    expected = {"volume": "scan", "segmentation": place.segmentation, "roi": "box", "device": "cpu", "plane": ""}
    assert job.arguments.items() >= expected.items()
    assert job.arguments["changing"] == place.changing
    job.go_on("segment", 0.4, eta_s=5)
    assert (fix.state.fraction, fix.state.line) == (0.4, "Segmenting, about 5 s left")
    assert (fix.state.update.text, fix.state.grow.is_enabled) == ("Cancel", False)
    logic.drawn = NOTHING
    job.succeed(place.segmentation, SUMMARY)
    assert fix.state.said.splitlines() == [
        "Updated in 1 s.",
        "left parotid: what was corrected on the slice was carried over to its neighbours, less with every slice "
        "(3 axial slices).",
        "What you drew is as you drew it. The model is unchanged: add the case to teach it.",
        "A warning.",
    ]
    assert fix.state.line == "", "that nothing was drawn since is no news"
    assert place.told == [("changed", place.segmentation)]
    assert fix.state.can_undo
    assert plain(fix.state)["undo"]["text"] == "Undo update"


@pytest.mark.parametrize(("press", "call"), [("press_update", "updateScan"), ("press_grow", "growScribbles")])
def test_double_click_starts_and_does_not_cancel(logic, fix, press, call):
    fix.double_click_s = 60.0
    getattr(fix, press)()
    getattr(fix, press)()
    (job,) = logic.jobs_of[call]
    assert not job.cancel_requested


def test_cancel_leaves_all_as_it_is_and_it_can_begin_again(logic, place, fix):
    fix.press_update()
    job = logic.last("updateScan")
    fix.press_update()
    job.notify()
    assert job.cancel_requested
    assert (fix.state.update.text, fix.state.update.is_enabled) == ("Cancelling...", False)
    job.fail(Cancelled())
    assert (place.errors, place.told, fix.state.can_undo) == ([], [], False)
    assert fix.state.update.is_enabled


@pytest.mark.parametrize("when", ["at once", "later"])
def test_an_error_is_shown_and_what_was_drawn_is_understood_still(logic, place, fix, when):
    if when == "at once":
        logic.refusals["updateScan"] = NodeError("It overlaps.")
        fix.press_update()
    else:
        fix.press_update()
        logic.last("updateScan").fail(WorkerError("It overlaps."))
    assert place.errors == ["It overlaps."]
    assert fix.state.update.is_enabled
    assert not fix.state.can_undo


def test_scribbles_grow_in_what_is_shown(logic, place, fix):
    fix.press_scribble()
    assert logic.called("addBackground") == [[place.segmentation]]
    assert place.told == ["scribble"]
    fix.press_grow()
    assert (fix.state.grow.text, fix.state.update.is_enabled) == ("Cancel", False)
    changed = ({"name": "cord", "more_ml": 0.0, "less_ml": 1.25}, {"name": "jaw", "more_ml": 2, "less_ml": 0.5})
    logic.last("growScribbles").succeed(place.segmentation, SimpleNamespace(**{**vars(SUMMARY), "changed": changed}))
    assert fix.state.said.startswith("Grown in 1 s.\ncord: 1.25 ml less.\njaw: 2 ml more, 0.5 ml less.\nWhat you drew")
    assert fix.state.can_undo


@pytest.mark.parametrize("comes", ["back", "from another segmentation"])
def test_a_background_in_which_nothing_was_drawn_goes_when_the_user(logic, place, fix, comes):
    drawn_in = place.segmentation
    fix.press_scribble()
    fix.look()
    assert logic.called("removeBackground") == [], "the brush is in the hand still"
    if comes == "back":
        fix.end_scribbling()
        fix.end_scribbling()
    else:
        place.segmentation = segmentation("Another")
        fix.update()
    assert logic.called("removeBackground") == [[drawn_in]]


def test_what_is_wrong_with_what_was_drawn_after_an_update_is_said(logic, fix, updated):  # noqa: ARG001
    logic.drawn = NOTHING
    fix.look()
    assert fix.state.line == "", "what was done stands there"
    logic.drawn = Understood(problem=DrawingError("There is nothing to follow from.", "Draw."), has_strokes=True)
    fix.look()
    assert fix.state.line == "There is nothing to follow from. Draw."


def test_an_overlap_that_was_drawn_after_an_update_is_said(logic, fix, updated):  # noqa: ARG001
    logic.refusals["findDrawn"] = NodeError("A and B overlap in 3 voxels.", "Remove it.")
    fix.look()
    assert fix.state.line == "A and B overlap in 3 voxels. Remove it."


def test_undo_takes_the_update_back_once(place, fix, updated):
    place.told.clear()
    fix.press_undo()
    assert updated.undone == 1
    assert place.told == [(what, place.segmentation) for what in ("before", "after", "changed")]
    assert (fix.state.can_undo, fix.state.said) == (False, "Undone: it is as it was before the update.")
    fix.press_undo()
    assert updated.undone == 1


@pytest.mark.parametrize("answer", ["undo_both", "keep"])
def test_undo_asks_before_it_takes_back_what_was_drawn_since(fix, updated, answer):
    updated.is_edited_since = True
    fix.press_undo()
    assert updated.undone == 0
    fix.look()  # the hand comes to rest
    assert "Head - organs was edited since" in fix.state.asks.text
    fix.act(answer)
    assert updated.undone == (answer == "undo_both")
    assert fix.state.can_undo == (answer == "keep")
    assert fix.state.asks is None


def test_another_segmentation_is_neither_undone_nor_said_of(logic, place, fix, updated):
    first, place.segmentation = place.segmentation, segmentation("Knee - bones")
    logic.drawn = NOTHING
    fix.update()
    assert (fix.state.said, fix.state.can_undo, fix.state.update.is_enabled) == ("", False, False)
    fix.press_undo()
    assert updated.undone == 0
    place.segmentation = first
    fix.update()
    assert fix.state.can_undo


def test_one_that_ends_while_another_is_shown_says_of_which(logic, place, fix):
    fix.press_update()
    first, place.segmentation = place.segmentation, segmentation("Knee - bones")
    fix.update()
    assert fix.state.update.text == "Cancel", "it goes on"
    logic.last("updateScan").succeed(first, SUMMARY)
    assert fix.state.said.startswith("Head - organs: Updated")
    assert not fix.state.can_undo
    assert logic.called("findDrawn")[-1][1] is place.segmentation


def test_a_node_that_was_deleted_is_not_undone(place, fix, updated):
    place.segmentation.GetScene = lambda: None
    fix.update()
    assert not fix.state.can_undo
    fix.press_undo()
    assert updated.undone == 0
    assert fix.state.blocked


def test_a_closed_scene_leaves_nothing(logic, place, fix, updated):  # noqa: ARG001
    fix.press_update()
    fix.clear()
    assert logic.last("updateScan").cancel_requested
    logic.last("updateScan").fail(Cancelled())
    assert (fix.state.can_undo, fix.state.said, place.errors) == (False, "", [])


def test_what_was_looked_for_in_another_one_is_not_shown(logic, place, fix):
    logic.drawn = None
    fix.look()
    assert fix.state.update.is_enabled, "it was understood already"
    old = logic.last("findDrawn")
    place.segmentation = segmentation("Knee - bones")
    fix.update()
    assert old.cancel_requested
    old.succeed(CORRECTED)
    assert "Reading" in fix.state.line
    assert not fix.state.update.is_enabled
    logic.last("findDrawn").succeed(CORRECTED)
    assert fix.state.update.is_enabled


def test_what_cannot_be_read_is_said_where_it_would_be_understood(logic, place, fix):
    logic.refusals["findDrawn"] = NodeError("The segments are surfaces.", "Convert them.")
    fix.look()
    assert (fix.state.line, place.errors) == ("The segments are surfaces. Convert them.", [])
    assert not fix.state.update.is_enabled


def test_an_update_that_changed_nothing_says_so():
    said = updated_text(SimpleNamespace(followed=(), plane="axial"), 1.0)
    assert "No other slice changed" in said
