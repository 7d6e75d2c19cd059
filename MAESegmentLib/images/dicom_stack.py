"""From the slices of one DICOM series to one regular grid, or the reason why they do not make one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import GeometryError, VolumeReadError
from .decoded import LPS_TO_RAS
from .dicom_headers import Instance
from .volume import Grid

#: With two slices a missing one between them could not be noticed.
_FEWEST_SLICES = 3
_COMPLETE_EXPORT = "Export the complete series again from the archive (PACS)."
_ONE_FRAME = "Export or pick one phase (in 3D Slicer: load with the MultiVolume importer, choose one frame, save it)."
_PIXEL_SPACING_TOLERANCE = 1e-3  # relative
_DIRECTION_TOLERANCE = 1e-3
#: How far a slice may lie off the regular grid: 1 % of the spacing, or what rounding in the header explains.
_RELATIVE_OFFSET, _ROUNDING_MM, _ROUNDING_AT_MOST = 0.01, 0.06, 0.25


@dataclass(frozen=True, eq=False)
class SliceStack:
    """Files in slice order (along the normal of the slices) and their grid."""

    files: tuple[Path, ...]
    grid: Grid


def stack_slices(name: str, instances: Sequence[Instance]) -> SliceStack:
    """Check one series of single-frame images and order it; `name` is the series for messages."""
    _check_images(name, instances)
    _check_alike(name, instances)
    row, column = np.asarray(instances[0].orientation).reshape(2, 3)
    normal = np.cross(row, column)
    ordered = sorted(instances, key=lambda instance: float(np.asarray(instance.position) @ normal))
    positions = np.array([instance.position for instance in ordered])
    _check_duplicates(name, ordered, positions @ normal)
    if len(ordered) < _FEWEST_SLICES:
        raise VolumeReadError(
            f"{name} has only {len(ordered)} slice(s); at least {_FEWEST_SLICES} are needed for a 3D volume.",
            _COMPLETE_EXPORT,
        )
    origin, step = _fit_line(positions)
    _check_even(name, ordered, positions, origin + np.arange(len(ordered))[:, None] * step, normal)
    between_rows, between_columns = np.asarray(instances[0].pixel_spacing)
    ijk_to_lps = np.eye(4)
    ijk_to_lps[:3] = np.column_stack([row * between_columns, column * between_rows, step, origin])
    grid = Grid((instances[0].columns, instances[0].rows, len(ordered)), LPS_TO_RAS @ ijk_to_lps)
    try:
        grid.check()
    except GeometryError as error:
        raise GeometryError(f"{name}: {error.message}", error.hint) from None
    return SliceStack(tuple(instance.path for instance in ordered), grid)


def _check_images(name: str, instances: Sequence[Instance]) -> None:
    if any(instance.is_colour for instance in instances):
        raise VolumeReadError(
            f"{name} is a colour image; the models need grey values.", "Choose the original scan rather than a capture."
        )
    if any(instance.frames > 1 for instance in instances):
        raise VolumeReadError(
            f"{name} consists of several multi-frame files; one such file, or one file per slice, is needed.",
            "Load it in 3D Slicer, pick one volume and save it as NRRD or NIfTI.",
        )
    placed = [
        i for i in instances if i.position is not None and i.orientation is not None and i.pixel_spacing is not None
    ]
    if len(placed) < len(instances):
        raise VolumeReadError(
            f"{name}: {len(instances) - len(placed)} of {len(instances)} images do not say where they lie in the "
            "patient (position, orientation or pixel spacing is missing).",
            "Choose the original scan rather than a screenshot or secondary capture.",
        )


def _check_alike(name: str, instances: Sequence[Instance]) -> None:
    """All slices have one direction, size, pixel spacing and frame of reference."""
    orientations = np.array([instance.orientation for instance in instances])
    if np.abs(orientations - orientations[0]).max() > _DIRECTION_TOLERANCE:
        raise VolumeReadError(
            f"{name} has slices in different directions (a localizer, or several stacks in one series).",
            "Choose the series with the scan itself, or split the stacks on export.",
        )
    sizes = sorted({(instance.columns, instance.rows) for instance in instances})
    if len(sizes) > 1:
        raise VolumeReadError(
            f"{name} mixes slices of different sizes: {', '.join(f'{i} x {j}' for i, j in sizes)} pixels.",
            _COMPLETE_EXPORT,
        )
    spacings = np.array([instance.pixel_spacing for instance in instances])
    if np.any(np.abs(spacings / spacings[0] - 1) > _PIXEL_SPACING_TOLERANCE):
        raise VolumeReadError(
            f"{name} mixes slices of different pixel spacing ({spacings.min():.4g} to {spacings.max():.4g} mm).",
            _COMPLETE_EXPORT,
        )
    if len({instance.frame_of_reference for instance in instances}) > 1:
        raise VolumeReadError(
            f"{name} mixes slices of different frames of reference: the patient was repositioned in between.",
            "Export each acquisition as a series of its own.",
        )


def _check_duplicates(name: str, ordered: Sequence[Instance], heights: np.ndarray) -> None:
    gaps = np.diff(heights)
    if not gaps.size or gaps.max() <= 0:
        same = np.arange(len(gaps))
    else:
        same = np.flatnonzero(gaps < 0.05 * gaps.max())
    if same.size:
        a, b = ordered[same[0]].path.name, ordered[same[0] + 1].path.name
        raise VolumeReadError(
            f"{name} has {same.size} slice position(s) more than once (e.g. {a} and {b}): "
            "several phases, echoes or b-values, or an export mixed with an older one.",
            _ONE_FRAME,
        )


def _fit_line(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First position and step of the evenly spaced points nearest to `positions` (K, 3), by least squares."""
    index = np.arange(len(positions)) - (len(positions) - 1) / 2
    step = index @ positions / (index @ index)
    return positions.mean(axis=0) + index[0] * step, step


def _check_even(
    name: str, ordered: Sequence[Instance], positions: np.ndarray, expected: np.ndarray, normal: np.ndarray
) -> None:
    """Every slice lies where the regular grid expects it."""
    gaps = np.diff(positions @ normal)
    typical = float(np.median(gaps))
    offset = np.linalg.norm(positions - expected, axis=1).max()
    if offset <= max(_RELATIVE_OFFSET * typical, min(_ROUNDING_MM, _ROUNDING_AT_MOST * typical)):
        return
    worst = int(np.argmax(np.abs(gaps - typical)))
    a, b = ordered[worst].path.name, ordered[worst + 1].path.name
    missing = round(float(gaps[worst]) / typical) - 1
    if missing >= 1 and abs(gaps[worst] - (missing + 1) * typical) < 0.1 * typical:
        raise VolumeReadError(
            f"{name} is incomplete: {missing} slice(s) missing between {a} and {b} "
            f"(gap {gaps[worst]:.4g} mm, elsewhere {typical:.4g} mm).",
            _COMPLETE_EXPORT,
        )
    raise VolumeReadError(
        f"{name} has unevenly spaced slices: {gaps.min():.4g} to {gaps.max():.4g} mm (between {a} and {b} "
        f"{gaps[worst]:.4g} mm).",
        "If slices are missing, export the series again; otherwise resample it to even spacing first.",
    )
