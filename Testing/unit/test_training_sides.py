"""A mirrored patch shows the other side: labels with a side change places, and only then."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from MAESegmentLib.bundle.usage.cleaning import inherited
from MAESegmentLib.bundle.usage.sides import Sides as ModelSides
from MAESegmentLib.bundle.usage.sides import mirrorable_axes, sides_of
from MAESegmentLib.cases.dataset import load_dataset
from MAESegmentLib.errors import ConfigurationError
from MAESegmentLib.training.data.labelling import Sides
from MAESegmentLib.training.data.patches import PatchSamples
from MAESegmentLib.training.finetune import finetune
from MAESegmentLib.training.settings import Augmentation, FineTuneSettings
from Testing.bundles import save_tiny
from Testing.datasets import prepared_case, write_dataset

SHAPE = (20, 24, 18)
MIRRORED = FineTuneSettings(steps=1, augmentation=replace(Augmentation.none(), flip_axes=(0, 1)))


def box_positions(sides: Sides | None, count: int = 40, **changes: object) -> set[tuple[int, bool]]:
    """(class, whether its box lies in the first half of axis 0) over many whole-volume patches."""
    case = replace(prepared_case(shape=SHAPE), **changes)
    samples = PatchSamples([case], SHAPE, MIRRORED, sides=sides)
    found = set()
    for number in range(count):
        classes = samples[number][1]
        assert classes is not None
        found |= {(value, float(np.nonzero(classes[0].numpy() == value)[0].mean()) < 9.5) for value in (1, 2)}
    return found


#: Class 1 lies at voxels 4 to 9 of axis 0 and class 2 at 12 to 15, so each mirror image shows the other's place.
OWN, ALL = {(1, True), (2, False)}, {(1, True), (2, False), (1, False), (2, True)}


@pytest.mark.parametrize(
    ("sides", "unknown", "found"),
    [(Sides(0, ((1, 2),)), (), OWN), (None, (), ALL), (Sides(1, ((1, 2),)), (), ALL), (Sides(0, ((1, 2),)), (2,), OWN)],
    ids=["exchanged", "without sides", "across another axis", "one side not annotated"],
)
def test_labels_with_a_side_stay_on_their_side(sides, unknown, found) -> None:
    assert box_positions(sides, unknown=unknown) == found


@pytest.mark.parametrize(("orientation", "axis"), [("RAS", 0), ("PLI", 1), ("SAL", 2)])
def test_the_axis_between_left_and_right_follows_the_orientation(orientation: str, axis: int) -> None:
    assert Sides.of([("LEFT", "right")], ["Cord", "Left", "Right"], orientation) == Sides(axis, ((2, 3),))


def test_a_name_that_is_not_learnt_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Larynx"):
        Sides.of([("Left", "Larynx")], ["Left", "Right"], "RAS")
    with pytest.raises(ConfigurationError, match="each named once"):
        FineTuneSettings(sides=(("Left", "Right"), ("left", "Cord")))


def test_a_model_with_sides_tells_inference_what_changes_places_across_which_axis(tmp_path) -> None:
    settings = replace(MIRRORED, sides=(("front", "back"),), validate_every=1, device="cpu", threads=1)
    write_dataset(tmp_path / "data", 2)
    model = finetune(
        load_dataset(tmp_path / "data"), save_tiny(tmp_path / "base"), tmp_path / "out", settings, validation="none"
    )
    assert list(model.spec.inference["mirror_axes"]) == [1], "a version that exchanges nothing must not mirror across"
    assert sides_of(model.spec.inference, 2) == ModelSides(0, ((1, 2),))
    assert mirrorable_axes(model.spec.inference, 2) == (0, 1)
    assert mirrorable_axes(inherited(model.spec.inference, model.labels, model.labels), 2) == (1,)
    assert FineTuneSettings.from_dict(dict(model.spec.training["settings"])) == settings
