"""A whole head in which another model finds two hippocampi for one that is made for a box around each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from MAESegmentLib.bundle import Bundle, ModelStore
from MAESegmentLib.bundle.usage.sizes import Volumes
from MAESegmentLib.images.labels import Label
from MAESegmentLib.images.roi import Roi
from MAESegmentLib.images.volume import LabelMap, Volume
from MAESegmentLib.preprocessing.intensity import IntensityRecipe
from MAESegmentLib.preprocessing.plan import Preprocessing
from Testing.bundles import LABELS, save_by_grey, tiny_spec
from Testing.phantoms import affine

#: Grey values: of the head, and of the anterior and posterior part on each side.
HEAD = 300.0
PARTS = {"left": (500.0, 600.0), "right": (900.0, 1000.0)}
#: World RAS mm. The tilt brings the boxes into each other.
CENTRES = {"left": (-7.0, -4.0, 2.0), "right": (7.0, 4.0, -2.0)}
_RADII = (4.5, 9.0, 4.5)
SPACING = 1.5
LOCATOR = {
    "model": "brain-test",
    "boxes": [{"structures": [f"{side} hippocampus"], "side": side} for side in PARTS],
    "margin_mm": 4.5,
    "smallest_ml": 0.2,
    "naming": "{side} {label} hippocampus",
}


def head(shape: tuple[int, int, int] = (44, 44, 40), orientation: str = "LPS") -> tuple[Volume, LabelMap]:
    """With the truth: 1 anterior and 2 posterior on the left, 3 and 4 on the right."""
    matrix = affine(orientation, shape, (SPACING,) * 3, centre=(1.0, 2.0, -1.0))
    points = np.einsum("ab,bijk->aijk", matrix[:3, :3], np.indices(shape)) + matrix[:3, 3].reshape(3, 1, 1, 1)
    grey, truth = np.full(shape, 20.0, np.float32), np.zeros(shape, np.uint8)
    grey[np.sum((points / np.reshape((27, 27, 24), (3, 1, 1, 1))) ** 2, axis=0) <= 1] = HEAD
    for number, (side, centre) in enumerate(CENTRES.items()):
        from_centre = points - np.reshape(centre, (3, 1, 1, 1))
        inside = np.sum((from_centre / np.reshape(_RADII, (3, 1, 1, 1))) ** 2, axis=0) <= 1
        for part, chosen in enumerate((from_centre[1] >= 0, from_centre[1] < 0)):
            grey[inside & chosen] = PARTS[side][part]
            truth[inside & chosen] = 1 + 2 * number + part
    return Volume(grey[None], matrix), LabelMap(truth, matrix)


def crop_of(volume: Volume, side: str) -> Volume:
    """Of about the size that the model of the hippocampus was trained on."""
    return _crop(volume, CENTRES[side])


def _crop(volume: Volume, centre: Sequence[float]) -> Volume:
    (r0, a0, s0), (r1, a1, s1) = (np.array(centre) + sign * (np.array(_RADII) + 4.5) for sign in (-1, 1))
    return volume.crop(Roi.of((r0, r1, a0, a1, s0, s1)).voxels(volume.grid))


def save_models(folder: Path, *, locates: bool = True, largest_ml: float = 1e3, **locator: Any) -> ModelStore:
    """A store with "hippo-test", made for a box, and "brain-test", which finds both sides, unless not `locates`.
    `largest_ml` is what "brain-test" learnt from; `locator` changes the entry of that name."""
    store = ModelStore(folder / "models", shipped_folder=folder / "none")
    volume, _truth = head()
    # The last are of what lies around: a whole head is to look like these scans, but for its size.
    crops = [_crop(volume, centre) for centre in (*CENTRES.values(), (0, 0, 15), (24, 0, 0), (24, 24, 0))]
    recipe = IntensityRecipe("ct", lower=0.0, upper=1200.0, mean=500.0, std=300.0)
    plan = Preprocessing("RAS", (SPACING,) * 3, (16, 16, 16), recipe)
    spec = tiny_spec(preprocessing=plan, modality="unknown", training={})
    hippo = replace(
        spec, name="hippo-test", inference={"overlap": 0.0, "locator": {**LOCATOR, **locator}}, labels=LABELS
    )
    background = {20.0: 0, HEAD: 0}
    save_by_grey(
        store.user_folder / "hippo-test" / "1.0.0",
        background | {grey: 1 + part for parts in PARTS.values() for part, grey in enumerate(parts)},
        hippo,
        crops,
    )
    if locates:
        names = tuple(Label(1 + n, f"{side} hippocampus") for n, side in enumerate(PARTS))
        greys = background | {grey: 1 + n for n, parts in enumerate(PARTS.values()) for grey in parts}
        learnt = {str(label.value): Volumes(1e-3, largest_ml, 20).to_dict() for label in names}
        brain = replace(spec, name="brain-test", labels=names, inference={"mirroring": False, "volumes": learnt})
        save_by_grey(store.user_folder / "brain-test" / "1.0.0", greys, brain)
    return store


def model_of(store: ModelStore) -> Bundle:
    return store.find("hippo-test")
