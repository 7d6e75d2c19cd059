"""Pictures of README.md that need data and weights, which the report does not have: it shows those that are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from MAESegmentLib.networks import MaskedAutoencoder
from MAESegmentLib.text import plot_text
from MAESegmentLib.training.data.prepared import PreparedCase
from MAESegmentLib.training.saving import png
from MAESegmentLib.training.tasks.masked import reconstruction_figure

from .scores import Cell, Results, aligned

#: Colours of label values 1, 2, ...: Okabe and Ito's.
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#D55E00", "#0072B2")
#: Voxels shown around what is labelled.
MARGIN = 6
Labels = npt.NDArray[np.integer]


def reconstruction_picture(model: MaskedAutoencoder, cases: Sequence[PreparedCase], patch_size: Sequence[int]) -> bytes:
    """PNG, one row a case: original, masked and reconstructed."""
    return reconstruction_figure(model, cases, patch_size, next(model.parameters()).device)


def worst_cases(results: Results, cell: Cell, arms: Sequence[str], count: int) -> list[str]:
    """Cases with the least Dice, mean over labels, the seeds that all arms have, and arms; the worst first."""
    found = [results.final(cell, arm) for arm in arms]
    sums: dict[str, list[float]] = {}
    for scores in found:
        both = aligned(scores, found[0])
        if both is None:
            return []
        with np.errstate(invalid="ignore"):
            means = np.nanmean(both[0].values, axis=(0, 2))
        for case, dice in zip(both[0].cases, means, strict=True):
            sums.setdefault(case, []).append(float(dice))
    known = {case: sum(dice) / len(dice) for case, dice in sums.items() if len(dice) == len(arms)}
    return sorted((case for case in known if np.isfinite(known[case])), key=known.__getitem__)[:count]


def worst_cases_picture(
    images: Sequence[npt.NDArray[np.floating]],
    references: Sequence[Labels],
    predictions: Mapping[str, Sequence[Labels]],
    names: Sequence[str],
    spacings: Sequence[Sequence[float]] | None = None,
) -> bytes:
    """PNG, one row a case: the reference and what each arm made of it, on the slice with most wrong voxels.

    Volumes are (D, H, W); label maps are integer, on the image's grid. `spacings` are in mm.
    """
    from matplotlib.figure import Figure

    columns = {"reference": references, **predictions}
    figure = Figure(figsize=(2.5 * len(columns), 2.6 * len(images)), layout="constrained")
    panels = figure.subplots(len(images), len(columns), squeeze=False)
    for n, (row, image) in enumerate(zip(panels, images, strict=True)):
        axis, place, box = _plane(references[n], [maps[n] for maps in predictions.values()])
        aspect = _aspect(spacings[n] if spacings else (1.0, 1.0, 1.0), axis)
        grey = _cut(np.asarray(image, float), axis, place, box).astype(float)
        low, high = np.percentile(grey, [1, 99])
        for panel, (title, maps) in zip(row, columns.items(), strict=True):
            panel.imshow(grey, cmap="gray", vmin=low, vmax=high, aspect=aspect)
            panel.imshow(_coloured(_cut(maps[n], axis, place, box)), aspect=aspect, interpolation="nearest")
            panel.set_title(title if n == 0 else "", fontsize=9)
            panel.set(xticks=[], yticks=[])
        row[0].set_ylabel(plot_text(names[n]), fontsize=8)
    return png(figure)


def _plane(reference: Labels, predictions: Sequence[Labels]) -> tuple[int, int, tuple[slice, slice]]:
    """The axis with the fewest voxels, the place on it with most wrong voxels, and the box of the labels there."""
    axis = int(np.argmin(reference.shape))
    others = tuple(other for other in range(3) if other != axis)
    wrong = np.sum([(prediction != reference).sum(axis=others) for prediction in predictions], axis=0)
    # Where nothing is wrong, the slice with most of the reference.
    place = int(np.lexsort(((reference > 0).sum(axis=others), wrong))[-1])
    labelled = np.any([np.take(labels, place, axis) > 0 for labels in [reference, *predictions]], axis=0)
    if not labelled.any():
        return axis, place, (slice(None), slice(None))
    rows, columns = (np.flatnonzero(labelled.any(axis=across)) for across in (1, 0))
    box = [slice(max(0, int(found[0]) - MARGIN), int(found[-1]) + MARGIN + 1) for found in (rows, columns)]
    return axis, place, (box[0], box[1])


def _cut(volume: npt.NDArray[np.generic], axis: int, place: int, box: tuple[slice, slice]) -> npt.NDArray[np.generic]:
    """Upright for RAS-like orders."""
    return np.rot90(np.take(volume, place, axis)[box])


def _aspect(spacing: Sequence[float], axis: int) -> float:
    """Height of a pixel by its width, after the turn."""
    first, second = (step for other, step in enumerate(spacing) if other != axis)
    return float(second / first)


def _coloured(labels: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """(H, W) -> RGBA; background is transparent."""
    from matplotlib.colors import to_rgba

    result = np.zeros((*labels.shape, 4))
    for value in np.unique(labels):
        if value > 0:
            result[labels == value] = to_rgba(COLOURS[(int(value) - 1) % len(COLOURS)], 0.55)
    return result
