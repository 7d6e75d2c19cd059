"""Which anatomical direction each axis of a grid is nearest to, and how to bring one order of axes into another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: The letters of each world axis, towards its lower and its upper end.
_LETTERS = ("LR", "PA", "IS")


@dataclass(frozen=True)
class Reordering:
    """Output axis n is input axis `axes[n]`, run through backwards where `flips[n]`: exact, no voxel is computed."""

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    @classmethod
    def to(cls, orientation: str, ijk_to_ras: np.ndarray) -> Reordering:
        """From the grid of `ijk_to_ras` to the order nearest to `orientation`.

        >>> Reordering.to("RAS", np.diag([-0.5, -0.5, 2.0, 1.0]))
        Reordering(axes=(0, 1, 2), flips=(True, True, False))
        """
        nearest = _nearest_axes(ijk_to_ras)
        axes, flips = [], []
        for letter in orientation:
            world = next(axis for axis, letters in enumerate(_LETTERS) if letter in letters)
            axis = next(axis for axis, (other, _) in enumerate(nearest) if other == world)
            axes.append(axis)
            flips.append(nearest[axis][1] != (letter == _LETTERS[world][1]))
        return cls((axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2]))

    def apply(self, array: np.ndarray) -> np.ndarray:
        """(..., I, J, K) in the new order; a view, so that writing into it fills `array`."""
        first = array.ndim - 3
        turned = array.transpose(*range(first), *(first + axis for axis in self.axes))
        i, j, k = (slice(None, None, -1 if flip else 1) for flip in self.flips)
        return turned[..., i, j, k]

    def indices(self, shape: tuple[int, ...]) -> np.ndarray:
        """(4, 4) from voxel indices in the new order to those in the old one, whose shape is `shape`."""
        matrix = np.zeros((4, 4))
        matrix[3, 3] = 1.0
        for new, (old, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            matrix[old, new] = -1.0 if flip else 1.0
            matrix[old, 3] = shape[old] - 1.0 if flip else 0.0
        return matrix


def axis_codes(ijk_to_ras: np.ndarray) -> str:
    """The nearest anatomical direction of each axis.

    >>> axis_codes(np.diag([-0.5, -0.5, 2.0, 1.0]))
    'LPS'
    """
    return "".join(_LETTERS[world][towards_upper] for world, towards_upper in _nearest_axes(ijk_to_ras))


def _nearest_axes(ijk_to_ras: np.ndarray) -> list[tuple[int, bool]]:
    """For each voxel axis the world axis it follows, each one once, and whether towards its upper end."""
    linear = np.asarray(ijk_to_ras, dtype=float)[:3, :3]
    u, _, v = np.linalg.svd(linear / np.linalg.norm(linear, axis=0))
    cosines = u @ v  # of the axes at right angles that are nearest to the given ones
    found = [(0, True)] * 3
    # The clearest first, so that the order in which the axes are stored cannot decide.
    for axis in np.argsort(-(cosines**2).max(axis=0), kind="stable"):
        world = int(np.argmax(np.abs(cosines[:, axis])))
        found[axis] = (world, bool(cosines[world, axis] > 0))
        cosines[world] = 0.0
    return found
