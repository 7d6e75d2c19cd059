"""Small volumes with a known anatomy, defined in world space so that any grid samples the same body."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import nibabel as nib
import numpy as np

from MAESegmentLib.images.labels import Label
from MAESegmentLib.images.volume import LabelMap, Volume

#: The structures of every phantom, in the order of their values.
LABELS = (
    Label(1, "front", (230, 80, 60)),
    Label(2, "back", (70, 110, 220)),
)


@dataclass(frozen=True)
class Ellipsoid:
    """World position and half axes in mm (R, A, S), grey value inside, label value."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    grey: float
    label: int

    def contains(self, points: np.ndarray) -> np.ndarray:
        """(3, I, J, K) world points -> (I, J, K) bool."""
        centre, radii = (np.reshape(v, (3, 1, 1, 1)) for v in (self.centre, self.radii))
        return np.sum(((points - centre) / radii) ** 2, axis=0) <= 1.0


#: No mirror symmetry about any axis, so a wrong flip never goes unnoticed.
HEAD = Ellipsoid((1.0, -1.0, 0.5), (9.0, 10.0, 8.0), 300.0, 0)
STRUCTURES = (
    Ellipsoid((2.0, 4.0, 1.0), (4.0, 3.0, 3.0), 700.0, 1),
    Ellipsoid((-1.0, -4.0, -1.0), (3.0, 4.0, 3.5), 1000.0, 2),
)


def affine(
    orientation: str = "RAS",
    shape: Sequence[int] = (24, 24, 20),
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    rotation_degrees: Sequence[float] = (0.0, 0.0, 0.0),
    centre: Sequence[float] = (0.0, 0.0, 0.0),
) -> np.ndarray:
    """IJK-to-RAS (4, 4): axes named by `orientation`, then turned about R, A, S; the middle is at `centre` (mm)."""
    codes = nib.orientations.axcodes2ornt(tuple(orientation))
    directions = np.zeros((3, 3))
    for axis, (world_axis, sign) in enumerate(codes):
        directions[int(world_axis), axis] = sign
    linear = _rotation(rotation_degrees) @ directions @ np.diag(np.asarray(spacing, dtype=float))
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = np.asarray(centre, dtype=float) - linear @ ((np.asarray(shape) - 1) / 2)
    return matrix


def _rotation(degrees: Sequence[float]) -> np.ndarray:
    r, a, s = np.radians(np.asarray(degrees, dtype=float))
    about_r = np.array([[1, 0, 0], [0, np.cos(r), -np.sin(r)], [0, np.sin(r), np.cos(r)]])
    about_a = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    about_s = np.array([[np.cos(s), -np.sin(s), 0], [np.sin(s), np.cos(s), 0], [0, 0, 1]])
    return about_s @ about_a @ about_r


@dataclass(frozen=True)
class Phantom:
    """One body seen through one grid."""

    volume: Volume
    label_map: LabelMap
    labels: tuple[Label, ...] = LABELS


class PhantomFactory:
    """`phantom()` for a plain RAS volume, `phantom.las()`, `.oblique()`, `.anisotropic()`, or any grid by arguments."""

    def __call__(
        self,
        orientation: str = "RAS",
        *,
        shape: Sequence[int] = (24, 24, 20),
        spacing: Sequence[float] = (1.0, 1.0, 1.0),
        rotation_degrees: Sequence[float] = (0.0, 0.0, 0.0),
        channels: int = 1,
        noise: float = 0.0,
        seed: int = 0,
        dtype: type = np.float32,
    ) -> Phantom:
        """`noise` is the standard deviation of Gaussian noise drawn per voxel from `seed`."""
        matrix = affine(orientation, shape, spacing, rotation_degrees)
        indices = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")).astype(float)
        points = np.einsum("ab,bijk->aijk", matrix[:3, :3], indices) + matrix[:3, 3].reshape(3, 1, 1, 1)
        grey = np.full(tuple(shape), 20.0)
        labels = np.zeros(tuple(shape), np.uint8)
        for body in (HEAD, *STRUCTURES):
            inside = body.contains(points)
            grey[inside] = body.grey
            labels[inside] = body.label
        image = np.stack([grey * (1 + 0.5 * channel) for channel in range(channels)])
        if noise:
            image = image + np.random.default_rng(seed).normal(0.0, noise, image.shape)
        return Phantom(Volume(image.astype(dtype), matrix), LabelMap(labels, matrix))

    def las(self, **arguments) -> Phantom:
        """Left-handed: the first axis runs to the left, as many NIfTI files have it."""
        return self("LAS", **arguments)

    def oblique(self, **arguments) -> Phantom:
        """Turned about all three axes, as a scan angulated to the anatomy."""
        return self("LPS", rotation_degrees=(12.0, -17.0, 25.0), **arguments)

    def anisotropic(self, **arguments) -> Phantom:
        """Thick slices: 1 x 1 x 3 mm."""
        return self("RAS", shape=(26, 24, 9), spacing=(1.0, 1.0, 3.0), **arguments)
