"""What follows from drawn slices and scribbles, on shapes whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from MAESegmentLib.errors import Cancelled, DrawingError
from MAESegmentLib.images.volume import LabelMap, Volume
from MAESegmentLib.propagation.drawn import Drawn, find_drawn
from MAESegmentLib.propagation.interpolation import between
from MAESegmentLib.propagation.planes import find_all
from MAESegmentLib.propagation.scribbles import grow_scribbles
from MAESegmentLib.propagation.update import INTERPOLATION, REFINED, update_scan

GRID = np.meshgrid(*[np.arange(n) for n in (40, 36, 30)], indexing="ij")
MATRIX = np.diag([1.0, 1.0, 2.0, 1.0])
NAMES = {1: "one", 2: "two"}


def ball(centre, radii) -> np.ndarray:
    return sum(((axis - c) / r) ** 2 for axis, c, r in zip(GRID, centre, radii, strict=True)) <= 1


def disc(centre, radius, shape=(40, 40)) -> np.ndarray:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2


def on(mask: np.ndarray, slices) -> np.ndarray:
    kept = np.zeros_like(mask)
    kept[..., slices] = mask[..., slices]
    return kept


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_drawn_slices_are_met_exactly(share):
    first, last = disc((12, 12), 6), disc((22, 25), 4) | disc((8, 30), 3)
    (found,) = between(first, last, [share], (1.0, 1.0))
    np.testing.assert_array_equal(found > 0, first if share == 0 else last)


def test_what_moves_farther_than_it_is_wide_moves_and_does_not_vanish():
    (found,) = between(disc((10, 10), 3), disc((10, 16), 3), [0.5], (1.0, 1.0))
    middle = np.argwhere(found > 0).mean(axis=0)
    np.testing.assert_allclose(middle, (10, 13), atol=0.5)
    assert 20 <= (found > 0).sum() <= 36


def test_one_piece_that_splits_is_two_on_the_way_and_one_that_ends_shrinks():
    one, two = disc((20, 20), 9), disc((20, 12), 5) | disc((20, 28), 5)
    near, far = between(one, two, [0.1, 0.9], (1.0, 1.0))
    assert (near > 0)[20, 20]
    assert not (far > 0)[20, 20]
    early, late = between(one, np.zeros_like(one), [0.25, 0.75], (1.0, 1.0))
    assert 0 < (early > 0).sum() < one.sum()
    assert not (late > 0).any()


def test_structures_never_overlap_and_do_not_cover_what_was_drawn_whole():
    other = ball((20, 26, 15), (8, 6, 8))
    masks = {1: ball((14, 14, 15), (9, 9, 12)) & ~other, 2: ball((27, 14, 15), (9, 9, 12)) & ~other}
    masks[1] &= ~masks[2]
    now = np.zeros(other.shape, np.uint8)
    for value, mask in masks.items():
        now[on(mask, slice(3, 28, 4))] = value
    now[other] = 3
    updated = update_scan(LabelMap(now, MATRIX), None, {**NAMES, 3: "whole"})
    array = updated.label_map.array
    np.testing.assert_array_equal(array == 3, other)
    np.testing.assert_array_equal(array[now != 0], now[now != 0])
    for value, mask in masks.items():
        assert 2 * ((array == value) & mask).sum() / ((array == value).sum() + mask.sum()) > 0.9
    assert (updated.plane, updated.drawn.axis) == ("axial", 2)


def test_grey_values_move_the_outline_where_they_foretell_drawn_slices():
    """A tube that winds from slice to slice: no interpolation can know how."""
    slices = range(0, 30, 4)
    path = 18 + 6 * np.sin(np.arange(30) * 0.8)
    mask = (GRID[0] - path[GRID[2]]) ** 2 + (GRID[1] - 18) ** 2 <= 36
    noise = np.random.default_rng(0).normal(0, 20, mask.shape)
    volume = Volume((100.0 * mask + noise)[None].astype(np.float32), MATRIX)
    now = LabelMap(on(mask, list(slices)).astype(np.uint8), MATRIX)
    scores, methods = [], []
    for scan in (None, volume):
        updated = update_scan(now, None, {1: "tube"}, volume=scan)
        found = updated.label_map.array[..., : slices[-1]] == 1
        truth = mask[..., : slices[-1]]
        np.testing.assert_array_equal(updated.label_map.array[..., slices], now.array[..., slices])
        scores.append(2 * (found & truth).sum() / (found.sum() + truth.sum()))
        methods.append(updated.followed[0].method)
    assert methods == [INTERPOLATION, REFINED]
    assert scores[1] > scores[0] + 0.05
    blank = Volume(noise[None].astype(np.float32), MATRIX)
    found = update_scan(now, None, {1: "tube"}, volume=blank).label_map.array[..., : slices[-1]] == 1
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > scores[0] - 0.03


def test_nothing_changes_outside_the_box_and_a_cancel_is_heard():
    now = LabelMap(on(ball((20, 18, 15), (9, 9, 12)), slice(3, 28, 4)).astype(np.uint8), MATRIX)
    box = (slice(0, 20), slice(0, 36), slice(0, 30))
    array = update_scan(now, None, {1: "one"}, within=box).label_map.array
    np.testing.assert_array_equal(array[20:], now.array[20:])
    assert (array[:20] != now.array[:20]).any()
    with pytest.raises(Cancelled):
        update_scan(now, None, {1: "one"}, should_cancel=lambda: True)


@pytest.mark.parametrize("is_grown", [False, True])
def test_a_cancel_is_heard_at_every_step_and_after_the_last(is_grown):
    """Also between the features of grey values, each of which takes seconds on a large scan."""
    now = LabelMap(on(ball((20, 18, 15), (9, 9, 12)), slice(3, 28, 4)).astype(np.uint8), MATRIX)
    volume = Volume(100.0 * BALL[None].astype(np.float32), MATRIX)

    def run(should_cancel):
        if is_grown:
            return grow_scribbles(volume, now, None, {1: "one"}, should_cancel=should_cancel)
        return update_scan(now, None, {1: "one"}, volume=volume, should_cancel=should_cancel)

    asked = []
    run(lambda: bool(asked.append(None)))
    features, between, learnt, end = 4, 18, 1, 1
    assert is_grown or len(asked) == features + learnt + between + end
    for last in (1, 2, len(asked)):
        left = iter(range(1, last))
        with pytest.raises(Cancelled):
            run(lambda left=left: next(left, None) is None)


def test_a_result_that_has_gaps_by_itself_is_not_taken_for_drawn():
    before = on(ball((20, 18, 15), (9, 9, 12)), [8, 12, 16]).astype(np.uint8)
    now = before.copy()
    now[14:22, 14:22, 12] = 0
    drawn = find_drawn(now, before, {1: "one"})
    assert drawn == Drawn(2, (12,), {})


BALL = ball((20, 18, 15), (9, 9, 12)).astype(np.uint8)


@pytest.mark.parametrize(("axis", "earlier"), [(None, None), (2, None), (None, Drawn(2, (5,)))])
def test_a_slice_erased_from_a_result_or_added_beyond_its_end_is_a_correction(axis, earlier):
    """Also where the plane is known, so that any gap of a new structure would count as left out."""
    known = earlier.corrected if earlier else ()
    erased = BALL.copy()
    erased[..., 15] = 0
    updated = update_scan(LabelMap(erased, MATRIX), BALL, NAMES, axis=axis, earlier=earlier)
    assert updated.drawn == Drawn(2, (*known, 15), {})
    np.testing.assert_array_equal(updated.label_map.array, erased)
    added = BALL.copy()
    added[15:25, 13:23, 29] = 1
    updated = update_scan(LabelMap(added, MATRIX), BALL, NAMES, axis=axis, earlier=earlier)
    assert updated.drawn == Drawn(2, (*known, 29), {})
    assert updated.label_map.array[..., 28].any()


TUBE = ((GRID[0] - 20) ** 2 + (GRID[1] - 18) ** 2 <= 64).astype(np.uint8)


@pytest.mark.parametrize(
    ("erased", "left"),
    [
        ([15], [*range(15), *range(16, 30)]),  # the middle of a long structure
        ([25], range(25)),  # an end that ran too far goes
        ([29], range(29)),  # so it does slice after slice, and no more than that
        ([5, 25], range(6, 25)),
        ([10, 13], [*range(10), *range(14, 30)]),  # what is left between two goes
    ],
)
def test_an_erased_slice_takes_the_end_that_it_cuts_off_and_shrinks_nothing(erased, left):
    now = TUBE.copy()
    now[..., erased] = 0
    found = update_scan(LabelMap(now, MATRIX), TUBE, NAMES).label_map.array
    np.testing.assert_array_equal(found, on(TUBE, list(left)))
    kept = now.copy()
    kept[20, 18, 28] = 0  # the user looked at that slice, too: it is there on purpose
    if erased == [25]:
        found = update_scan(LabelMap(kept, MATRIX), TUBE, NAMES).label_map.array
        assert found[..., 26:].any(axis=(0, 1)).all()


def test_a_slice_that_was_given_to_another_structure_leaves_no_hole_beside():
    now = TUBE.copy()
    now[..., 15] *= 2
    found = update_scan(LabelMap(now, MATRIX), TUBE, NAMES).label_map.array
    np.testing.assert_array_equal(found > 0, TUBE > 0)
    assert (found[..., [13, 17]][TUBE[..., [13, 17]] > 0] == 2).all()
    assert (found[..., [9, 21]][TUBE[..., [9, 21]] > 0] == 1).all()


def test_a_structure_of_a_result_that_was_drawn_anew_on_every_fourth_slice_is_filled():
    now = on(BALL, slice(3, 28, 4))
    updated = update_scan(LabelMap(now, MATRIX), BALL, NAMES)
    found = updated.label_map.array
    assert updated.drawn == Drawn(2, (), {1: tuple(range(3, 28, 4))})
    np.testing.assert_array_equal(found[..., 3:28:4], now[..., 3:28:4])
    assert 2 * (found & BALL).sum() / (found.sum() + BALL.sum()) > 0.95


@pytest.mark.parametrize("earlier", [None, Drawn(2, (), {2: (12, 16, 20)}), Drawn(2, (90,), {2: (12, 99)})])
def test_a_structure_that_was_removed_altogether_stays_so_and_hides_no_correction(earlier):
    before = BALL.copy()
    before[2:6, 2:6, 4:29] = 2
    now = BALL.copy()
    now[22:, :, 15] = 0
    volume = Volume(100.0 * before[None].astype(np.float32), MATRIX)
    updated = update_scan(LabelMap(now, MATRIX), before, NAMES, volume=volume, earlier=earlier)
    assert updated.drawn == Drawn(2, (15,), {})
    found = updated.label_map.array
    assert not (found == 2).any()
    assert found[22:, :, 16].sum() < now[22:, :, 16].sum()
    with pytest.raises(DrawingError, match="nothing for the rest"):
        update_scan(LabelMap(BALL, MATRIX), before, NAMES, earlier=earlier)


@pytest.mark.parametrize("earlier", [None, Drawn(2, (13,))])
def test_a_new_structure_goes_through_a_slice_on_which_another_was_corrected(earlier):
    before = np.where(ball((8, 18, 15), (7, 9, 12)), 2, 0).astype(np.uint8)
    new = ball((30, 18, 15), (8, 9, 12))
    now = np.where(on(new, slice(3, 28, 4)), 1, before).astype(np.uint8)
    if earlier is None:
        now[2:5, :, 13] = 0
    found = update_scan(LabelMap(now, MATRIX), before, NAMES, earlier=earlier).label_map.array
    np.testing.assert_array_equal(found[:20, :, 13], now[:20, :, 13])
    assert 2 * ((found == 1) & new).sum() / ((found == 1).sum() + new.sum()) > 0.95


@given(st.data())
def test_what_was_drawn_stays_to_the_voxel_whatever_it_is(data):
    """Random corrections of a random result, new structures on some slices, an update before, any plane."""
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    shape = tuple(data.draw(st.tuples(*[st.integers(3, 12)] * 3)))
    axis = data.draw(st.integers(0, 2))
    before = data.draw(st.sampled_from([None, random.integers(0, 3, shape).astype(np.uint8)]))
    now = np.zeros(shape, np.uint8) if before is None else before.copy()
    planes = np.moveaxis(now, axis, 0)
    corrected = data.draw(st.lists(st.integers(0, shape[axis] - 1), max_size=2)) if before is not None else []
    planes[corrected] = random.integers(0, 3, planes[corrected].shape)
    sparse = range(data.draw(st.integers(0, 1)), shape[axis], 2)
    planes[sparse] = np.where(random.random(planes[sparse].shape) < 0.5, 3, planes[sparse])
    earlier = data.draw(st.sampled_from([None, Drawn(axis, (1,), {2: (0, 2)})])) if before is not None else None
    if data.draw(st.booleans()):
        other = np.moveaxis(now, (axis + 1) % 3, 0)
        other[:1] = random.integers(0, 5, other[:1].shape)
        other[2:3] = np.where(random.random(other[2:3].shape) < 0.9, 4, other[2:3])
    volume = data.draw(st.sampled_from([None, Volume(random.normal(size=(1, *shape)).astype(np.float32), MATRIX)]))
    try:
        updated = update_scan(
            LabelMap(now.copy(), MATRIX),
            before,
            {1: "one", 2: "two", 3: "new", 4: "across"},
            volume=volume,
            axis=data.draw(st.sampled_from([axis, None])),
            earlier=earlier,
        )
    except DrawingError:
        return
    found = updated.label_map.array
    drawn = now != (0 if before is None else before)
    np.testing.assert_array_equal(found[drawn], now[drawn])
    for value, slices in updated.drawn.structures.items():
        had, has = (np.moveaxis(one, updated.drawn.axis, 0)[list(slices)] == value for one in (now, found))
        assert (has >= had).all()


def test_scribbles_stay_and_a_new_structure_takes_nothing_from_what_is_there():
    one, two = ball((12, 18, 15), (8, 8, 8)), ball((29, 18, 15), (8, 8, 8))
    grey = np.where(one, 100, np.where(two, 60, 0)) + np.random.default_rng(0).normal(0, 5, one.shape)
    volume = Volume(grey[None].astype(np.float32), MATRIX)
    before = one.astype(np.uint8)
    now = before.copy()
    now[26:33, 18, 15] = 2
    found = grow_scribbles(volume, LabelMap(now, MATRIX), before, NAMES).label_map.array
    np.testing.assert_array_equal(found == 1, one)
    assert (found[26:33, 18, 15] == 2).all()
    assert 2 * ((found == 2) & two).sum() / ((found == 2).sum() + two.sum()) > 0.85
    with pytest.raises(DrawingError, match="no scribbles"):
        grow_scribbles(volume, LabelMap(before, MATRIX), before, NAMES)


def test_a_background_is_left_in_no_result():
    now = on(BALL, slice(3, 28, 4))
    now[1:3, 2:30, 3:28:4] = 2
    names = {1: "one", 2: "Background"}
    updated = update_scan(LabelMap(now, MATRIX), None, names)
    assert (set(np.unique(updated.label_map.array)), len(updated.notes)) == ({0, 1}, 1)
    volume = Volume(100.0 * BALL[None].astype(np.float32), MATRIX)
    assert set(np.unique(grow_scribbles(volume, LabelMap(now, MATRIX), None, names).label_map.array)) == {0, 1}


@pytest.mark.parametrize("earlier", [Drawn(2, (13, 99), {}), Drawn(2, (), {1: (13,)})])
def test_slices_drawn_before_stay_while_scribbles_grow_and_after(earlier):
    volume = Volume(100.0 * ball((20, 18, 15), (11, 11, 12))[None].astype(np.float32), MATRIX)
    before = BALL.copy()
    before[..., 13] = 0
    before[15:25, 15:21, 13] = 1
    now = before.copy()
    now[10:30, 18, 15] = 1
    now[4:8, 4:30, 15] = 0
    plain = grow_scribbles(volume, LabelMap(now, MATRIX), before, NAMES).label_map.array
    assert (plain[..., 13] != now[..., 13]).any()
    grown = grow_scribbles(volume, LabelMap(now, MATRIX), before, NAMES, earlier=earlier)
    np.testing.assert_array_equal(grown.label_map.array[..., 13], now[..., 13])
    assert (grown.label_map.array[..., 15] != now[..., 15]).any()
    assert grown.drawn == Drawn(2, (13,), {})
    scribbled = now.copy()
    scribbled[10:14, 18, 13] = 1
    assert grow_scribbles(volume, LabelMap(scribbled, MATRIX), before, NAMES, earlier=earlier).drawn is None


def test_another_plane_than_that_of_the_slices_drawn_before_is_refused():
    now = BALL.copy()
    now[20] = 0
    for axis in (0, None):
        for earlier in (Drawn(2, (5,)), Drawn(2, (), {1: (3, 7, 11, 15, 19, 23, 27)})):
            with pytest.raises(DrawingError, match="another plane"):
                find_drawn(now, BALL, NAMES, axis=axis, earlier=earlier)


ONE, TWO = ball((11, 18, 15), (8, 12, 13)), ball((29, 18, 15), (8, 12, 13))


def across(mask, **slices) -> np.ndarray:
    """What of it lies on these slices across I, J or K."""
    return np.logical_or.reduce([mask & np.isin(GRID["ijk".index(axis)], list(of)) for axis, of in slices.items()])


def dice(found, truth) -> float:
    return 2 * (found & truth).sum() / (found.sum() + truth.sum())


@pytest.mark.parametrize("axis", [None, 0, 2])
def test_structures_that_were_drawn_in_different_planes_are_both_filled(axis):
    now = across(ONE, k=range(3, 28, 4)) + 2 * across(TWO, i=range(21, 38, 4)).astype(np.uint8)
    updated = update_scan(LabelMap(now, MATRIX), None, NAMES, axis=axis)
    found = updated.label_map.array
    np.testing.assert_array_equal(found[now > 0], now[now > 0])
    for value, across_axis in ((1, 2), (2, 0)):
        alone = update_scan(LabelMap(np.where(now == value, now, 0), MATRIX), None, NAMES, axis=across_axis)
        assert dice(found == value, alone.label_map.array == value) > 0.98
    assert {(one.name, one.plane) for one in updated.followed} == {("one", "axial"), ("two", "sagittal")}
    assert Drawn.from_dict(updated.drawn.to_dict()) == updated.drawn
    # What was drawn in either plane stays, whatever follows in the next update.
    again = found.copy()
    again[5:17, 10:26, 13] = 0
    later = update_scan(LabelMap(again, MATRIX), found, NAMES, earlier=updated.drawn)
    assert later.plane == "axial"
    np.testing.assert_array_equal(later.label_map.array[now == 2], 2)


def test_a_structure_that_was_drawn_in_two_planes_follows_from_both():
    truth = ONE & ~((GRID[1] > 14) & (GRID[1] < 22) & (np.abs(GRID[2] - 15) < 3))  # no axial slice tells of this hole
    now = across(truth, k=[3, 8, 12, 18, 22, 27], i=[9, 13]).astype(np.uint8)
    updated = update_scan(LabelMap(now, MATRIX), None, NAMES)
    found = updated.label_map.array
    np.testing.assert_array_equal(found[9], truth[9])
    alone = update_scan(LabelMap(across(truth, k=[3, 8, 12, 18, 22, 27]).astype(np.uint8), MATRIX), None, NAMES)
    assert dice(found == 1, truth) > dice(alone.label_map.array == 1, truth) + 0.02
    assert [one.plane for one in updated.followed] == ["axial", "sagittal"]


def test_corrections_in_two_planes_are_both_carried_over_and_none_is_twice():
    truth, now, alone = ball((20, 18, 15), (12, 12, 15)), BALL.copy(), []
    for index in ((..., 10), (24,)):
        now[index] = truth[index]
        one = BALL.copy()
        one[index] = truth[index]
        alone.append(update_scan(LabelMap(one, MATRIX), BALL, NAMES).label_map.array)
    updated = update_scan(LabelMap(now, MATRIX), BALL, NAMES)
    assert {part.axis: part.corrected for part in (updated.drawn, *updated.drawn.also)} == {0: (24,), 2: (10,)}
    found = updated.label_map.array
    assert dice(found == 1, truth) > max(dice(one == 1, truth) for one in alone) + 0.03
    assert (found > truth).sum() < 100, "what one plane moved is not moved again"
    np.testing.assert_array_equal(found[..., 10], now[..., 10])
    np.testing.assert_array_equal(found[24], now[24])


def test_a_slice_of_another_plane_from_before_stays_where_it_is_nothing_and_two_at_once_are_refused():
    """Nineteen sagittal slices would count as corrected, and stay as they are."""
    truth, now = ball((20, 18, 15), (12, 10, 11)), BALL.copy()
    now[20], now[..., 15] = truth[20], truth[..., 15]
    first = update_scan(LabelMap(now, MATRIX), BALL, NAMES)
    now = first.label_map.array.copy()
    now[..., [8, 11, 20]] = truth[..., [8, 11, 20]]
    second = update_scan(LabelMap(now, MATRIX), first.label_map.array, NAMES, earlier=first.drawn)
    assert second.plane == "axial"
    np.testing.assert_array_equal(second.label_map.array[20], now[20])
    now[12] = truth[12]
    with pytest.raises(DrawingError, match="several planes were drawn since"):
        update_scan(LabelMap(now, MATRIX), first.label_map.array, NAMES, earlier=first.drawn)


@pytest.mark.parametrize("radius", [1, 2, 4])
def test_what_a_ball_has_drawn_is_in_no_plane(radius):
    now = np.where(ball((6, 6, 8), [radius + 0.5] * 3), 1, BALL)
    with pytest.raises(DrawingError, match="not clear in which plane"):
        find_all(now, BALL, NAMES)


def test_a_structure_on_one_slice_from_which_nothing_follows_is_named():
    now = across(ONE, k=range(3, 28, 4)) + 2 * across(TWO, i=[29]).astype(np.uint8)
    updated = update_scan(LabelMap(now, MATRIX), None, NAMES)
    np.testing.assert_array_equal(updated.label_map.array == 2, now == 2)
    assert "two is drawn on 1 sagittal slice" in updated.notes[0]
    assert not update_scan(LabelMap(np.where(TWO, 2, now), MATRIX), None, NAMES).notes, "a whole structure is no slice"


def test_a_structure_that_others_cover_between_its_slices_is_named():
    inner = ball((14, 18, 15), (3, 3, 4))
    now = across(ball((14, 18, 15), (12, 12, 13)), k=[3, 9, 15, 21, 27]).astype(np.uint8)
    now[across(inner, k=[12, 18])] = 2
    updated = update_scan(LabelMap(now, MATRIX), None, NAMES)
    assert "Nothing of two follows" in updated.notes[0]
    now[across(inner, k=[15])] = 2
    assert not update_scan(LabelMap(now, MATRIX), None, NAMES).notes
