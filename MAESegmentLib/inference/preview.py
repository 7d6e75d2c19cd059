"""A picture of a segmentation for a quick look: three planes, contours, volumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..images.labels import Label
from ..images.volume import LabelMap, Volume
from ..images.volumetry import volumes_ml
from ..preprocessing.grid import NetworkGrid
from ..storage.atomic_file import replacing
from ..text import plot_text

#: Soft-tissue window in HU, used where the darkest voxels are air as on a CT scale.
CT_WINDOW = (-160.0, 240.0)

#: Labels spanning less than this share of the volume get a second, zoomed row.
SMALL = 0.4


@dataclass(frozen=True)
class _Plane:
    """A slice across canonical (RAS) `axis`, shown with `columns` to the right and `rows` upwards (axis, reversed?)."""

    name: str
    axis: int
    columns: tuple[int, bool]
    rows: tuple[int, bool]
    letters: tuple[str, str, str, str]  # left, right, top, bottom


#: Radiological convention: the patient's right is on the left of the picture.
_PLANES = (
    _Plane("Axial", 2, (0, True), (1, False), ("R", "L", "A", "P")),
    _Plane("Coronal", 1, (0, True), (2, False), ("R", "L", "S", "I")),
    _Plane("Sagittal", 0, (1, True), (2, False), ("A", "P", "S", "I")),
)


def write_preview(path: str | Path, volume: Volume, label_map: LabelMap, labels: Sequence[Label]) -> Path:
    """Write a PNG: the axial, coronal and sagittal slices that show most of the labels; zoomed in too if small."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    target = Path(path)
    grid = NetworkGrid(volume.grid, "RAS", (1, 1, 1))
    image, mask = grid.to_canonical(volume.array[0]), grid.to_canonical(label_map.array)
    spacing = grid.canonical_spacing
    box = _bounding_box(mask)
    where = _most_telling_slices(mask, box)
    zoom = _zoom_box(box, mask.shape, spacing)
    views = [[(0, n) for n in mask.shape]] + ([zoom] if zoom else [])

    figure = Figure(figsize=(13, 4.6 * len(views) + 0.6), facecolor="black")
    axes = figure.subplots(len(views), 3, squeeze=False)
    window = _window(image)
    for row, view in zip(axes, views, strict=True):
        for axis, plane in zip(row, _PLANES, strict=True):
            _draw(axis, plane, image, mask, labels, where, view, spacing, window)
    if zoom:
        axes[1][0].set_ylabel("zoomed", color="white")
    _add_legend(figure, label_map, labels)
    figure.subplots_adjust(left=0.03, right=0.99, top=0.94, bottom=0.14 if len(views) == 1 else 0.08, wspace=0.06)
    with replacing(target) as temporary:
        figure.savefig(temporary, format="png", dpi=110, facecolor="black")
    return target


def _draw(
    axis: Any,
    plane: _Plane,
    image: np.ndarray,
    mask: np.ndarray,
    labels: Sequence[Label],
    where: Sequence[int],
    view: Sequence[tuple[int, int]],
    spacing: np.ndarray,
    window: tuple[float, float],
) -> None:
    from matplotlib.patheffects import withStroke

    (column, flip), (row, _) = plane.columns, plane.rows
    grey, segments = (_slice(array, plane, where, view).T for array in (image, mask))  # (row, column)
    # Voxel edges in mm: the picture keeps the body's proportions, whatever the spacing.
    left, right = (bound * spacing[column] for bound in view[column])
    bottom, top = (bound * spacing[row] for bound in view[row])
    axis.imshow(grey, cmap="gray", vmin=window[0], vmax=window[1], origin="lower", extent=(left, right, bottom, top))
    x = (np.arange(*view[column]) + 0.5) * spacing[column]
    y = (np.arange(*view[row]) + 0.5) * spacing[row]
    for label in labels:
        inside = segments == label.value
        if min(inside.shape) > 1 and inside.any():
            axis.contour(x, y, inside.astype(float), levels=[0.5], colors=[_rgb(label)], linewidths=1.2)
    axis.set_xlim((right, left) if flip else (left, right))
    axis.set(xticks=[], yticks=[], facecolor="black", aspect="equal")
    axis.set_title(f"{plane.name} {where[plane.axis] + 1}/{mask.shape[plane.axis]}", color="white", fontsize=10)
    places = ((0.02, 0.5, "left", "center"), (0.98, 0.5, "right", "center"), (0.5, 0.98, "center", "top"))
    for letter, (px, py, ha, va) in zip(plane.letters, (*places, (0.5, 0.02, "center", "bottom")), strict=True):
        text = axis.text(px, py, letter, transform=axis.transAxes, color="#ffd54a", ha=ha, va=va, fontweight="bold")
        text.set_path_effects([withStroke(linewidth=2, foreground="black")])


def _slice(
    array: np.ndarray, plane: _Plane, where: Sequence[int], view: Sequence[tuple[int, int]]
) -> np.ndarray:  # (column, row)
    index: list[Any] = [slice(*bounds) for bounds in view]
    index[plane.axis] = where[plane.axis]
    return array[tuple(index)]  # the remaining two axes are in rising order, which is (column, row) in every plane


def _bounding_box(mask: np.ndarray) -> list[tuple[int, int]]:
    """First and one past the last labelled index along each axis; the whole array if nothing is labelled."""
    box = []
    for axis in range(3):
        found = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append((int(found[0]), int(found[-1]) + 1) if len(found) else (0, mask.shape[axis]))
    return box


def _most_telling_slices(mask: np.ndarray, box: Sequence[tuple[int, int]]) -> list[int]:
    """Along each axis, the slice that shows the most of all structures, small ones counting as much as large ones."""
    inner = mask[tuple(slice(*bounds) for bounds in box)]
    length = int(inner.max(initial=0)) + 1
    where = []
    for axis, (start, stop) in enumerate(box):
        slices = np.moveaxis(inner, axis, 0)
        areas = np.array([np.bincount(part.ravel(), minlength=length)[1:] for part in slices], dtype=float)
        shown = (areas / np.maximum(areas.max(axis=0, initial=0), 1)).sum(axis=1)
        where.append(start + int(shown.argmax()) if shown.any() else (start + stop) // 2)
    return where


def _zoom_box(
    box: Sequence[tuple[int, int]], shape: Sequence[int], spacing: np.ndarray
) -> list[tuple[int, int]] | None:
    """The labels with a margin of a quarter of their extent, or None if they fill the picture anyway."""
    extent = np.array([stop - start for start, stop in box]) * spacing
    if np.max(extent / (np.array(shape) * spacing)) > SMALL:
        return None
    margin = np.ceil(0.25 * extent.max() / spacing).astype(int)
    return [
        (max(0, start - int(m)), min(n, stop + int(m))) for (start, stop), m, n in zip(box, margin, shape, strict=True)
    ]


def _window(image: np.ndarray) -> tuple[float, float]:
    """Grey values shown as black and white."""
    step = max(1, round((image.size / 1e6) ** (1 / 3)))
    low, high = np.percentile(image[::step, ::step, ::step], [1, 99.5])
    if low < -500:
        return CT_WINDOW
    return float(low), float(high) if high > low else float(low) + 1.0


def _add_legend(figure: Any, label_map: LabelMap, labels: Sequence[Label]) -> None:
    from matplotlib.lines import Line2D

    volumes = volumes_ml(label_map, labels)
    handles = [
        Line2D([], [], color=_rgb(label), linewidth=3, label=f"{plot_text(label.name)}  {volumes[label.value]:.2f} ml")
        for label in labels
    ]
    figure.legend(
        handles=handles, loc="lower center", ncols=min(5, len(handles)), frameon=False, labelcolor="white", fontsize=10
    )


def _rgb(label: Label) -> tuple[float, float, float]:
    red, green, blue = (channel / 255 for channel in label.colour)
    return red, green, blue
