"""Where a NIfTI image lies: its header may say so twice (sform, qform), and readers differ in which one they believe.

The rule is ITK's, and so 3D Slicer's, so that a result lies on the scan that Slicer shows: the qform, unless it has no
code or the sform says scanner coordinates (code 1). nibabel and FSL take every sform with a code. Where it matters,
a note names both. Two that differ by mirrored axes or right angles alone are refused: which one ITK takes then hangs
on rounding.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from nibabel.spatialimages import HeaderDataError

from ...errors import GeometryError
from ..volume import Grid
from .decoded import refuse_unoriented

#: NIfTI `xyzt_units` & 7 -> mm; 0 is unknown, by custom mm.
_MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_CODES = {1: "scanner", 2: "aligned", 3: "Talairach", 4: "MNI", 5: "template"}
_SCANNER = 1
#: Voxel sizes are rounded in many headers: together they may move the last voxel by so many mm.
_ROUNDING_MM = 0.05
#: Origins (mm) and direction cosines so close are the same to ITK, or nearly so (it stops at 1e-4).
_SAME = 1e-3


def nifti_affine(path: Path, header: Any, shape: tuple[int, int, int]) -> tuple[np.ndarray, tuple[str, ...]]:
    """(4, 4) IJK to RAS in mm, and what a user should know about how it was chosen."""
    scale = _to_mm(header)
    sform, qform = header.get_sform(coded=True)[0], _qform(header)
    codes = {name: int(header[f"{name}_code"]) for name in ("sform", "qform")}
    if sform is None and qform is None:
        refuse_unoriented(path)
    forms = {name: form for name, form in (("sform", sform), ("qform", qform)) if form is not None}
    with np.errstate(invalid="ignore", over="ignore"):
        grids = {name: Grid(shape, scale @ form) for name, form in forms.items()}
    usable = {name: grid for name, grid in grids.items() if not grid.is_singular}
    if not usable:
        raise GeometryError(
            f"{path.name}: its direction matrices (sform, qform) are singular: voxel positions are not defined.",
            "Export the scan again from its source, or repair the header.",
        )
    if len(usable) == 1:
        used = next(iter(usable))
        other = "qform" if used == "sform" else "sform"
        notes = (f"The header's {other} is singular; its {used} was used instead.",) if codes[other] > 0 else ()
        return usable[used].ijk_to_ras, notes
    difference = usable["sform"].difference(usable["qform"])
    # A sheared sform tells of a tilted gantry, which no qform can: it is taken, and refused.
    used = "qform" if difference and codes["sform"] != _SCANNER and _is_regular(usable["sform"]) else "sform"
    both = (
        f"{path.name} says twice where it lies: sform (code {_code(codes['sform'])}) and qform (code "
        f"{_code(codes['qform'])}): {difference}."
    )
    if used == "qform" and _are_mirrored(usable["sform"], usable["qform"]):
        raise GeometryError(
            f"{both} Their axes are mirrored, or turned by right angles, about one origin, and readers differ in which "
            "one they take.",
            "Export the scan again from its source, or set the right one as both sform and qform.",
        )
    return usable[used].ijk_to_ras, (f"{both} The {used} was used, as by 3D Slicer and ITK.",) if difference else ()


def check_voxel_size(path: Path, header: Any, grid: Grid) -> None:
    """Raise `GeometryError` if `pixdim`, which ITK and 3D Slicer take the voxel size from, is not that of `grid`."""
    stored = np.abs(np.asarray(header["pixdim"], dtype=float)[1:4]) * _to_mm(header)[0, 0]
    if np.any(np.abs(stored - grid.spacing) * grid.shape > _ROUNDING_MM):
        raise GeometryError(
            f"{path.name} gives two voxel sizes: {_size(grid.spacing)} mm by its sform, {_size(stored)} mm by pixdim.",
            "Readers differ in which one they take: export the scan again, or repair the header.",
        )


def _to_mm(header: Any) -> np.ndarray:
    return np.diag([_MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)] * 3 + [1.0])


def _qform(header: Any) -> np.ndarray | None:
    """None without a code; an impossible quaternion is a singular matrix."""
    try:
        form = header.get_qform(coded=True)[0]
    except (HeaderDataError, ValueError):
        return np.zeros((4, 4))
    return None if form is None else np.asarray(form, dtype=float)


def _is_regular(grid: Grid) -> bool:
    try:
        grid.check()
    except GeometryError:
        return False
    return True


def _are_mirrored(first: Grid, second: Grid) -> bool:
    """Whether the two differ by the sense, or the order, of axes of one length, about the same origin.

    ITK compares singular vectors of both, whose signs are anybody's: it takes the sform of some such files.
    """
    if np.abs(first.ijk_to_ras[:3, 3] - second.ijk_to_ras[:3, 3]).max() > _SAME:
        return False
    axes, others = first.ijk_to_ras[:3, :3], second.ijk_to_ras[:3, :3]
    cosines = (axes / first.spacing).T @ (others / second.spacing)
    swapped = np.rint(cosines)
    if np.abs(cosines - swapped).max() > _SAME or np.array_equal(swapped, np.eye(3)):
        return False
    lengths = np.abs(swapped) @ second.spacing
    return bool(np.abs(lengths - first.spacing).max() <= _SAME * first.spacing.max())


def _code(code: int) -> str:
    return f"{code}, {_CODES[code]}" if code in _CODES else str(code)


def _size(lengths: np.ndarray) -> str:
    return " x ".join(f"{length:.6g}" for length in lengths)
