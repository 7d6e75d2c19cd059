"""A clinic's scans for the study: cases of the pool as they are, or some of them as if from another scanner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np

from MAESegmentLib.cases.case import Case
from MAESegmentLib.cases.dataset import CaseDataset

#: Slices of the other scanner, in slices of the original.
_THICKNESS = 3
_GAMMA = 2.0
_NOISE = 0.06


#: Which candidates, and which tests, are altered.
CANDIDATES_SEED, TESTS_SEED = 1, 2


@dataclass(frozen=True)
class Clinic:
    """One simulated clinic; ranges are places in the pool."""

    name: str
    mixed: bool
    base: tuple[int, int]
    candidates: tuple[int, int]

    @property
    def base_name(self) -> str:
        return f"base {self.base[0]}-{self.base[1]}"


def part(dataset: CaseDataset, places: Sequence[int]) -> tuple[Case, ...]:
    first, last = places
    return dataset.select(f"pool:{first}:{last}")


def with_altered(cases: Sequence[Case], share: float, seed: int, folder: Path) -> tuple[Case, ...]:
    """`cases`, the `share` of them that `seed` draws with images as if from another scanner, written to `folder`."""
    drawn = draw(len(cases), seed)[: round(share * len(cases))]
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(_altered(case, folder) if index in drawn else case for index, case in enumerate(cases))


def draw(count: int, seed: int) -> list[int]:
    """0 to `count` - 1 in random order."""
    return [int(index) for index in np.random.default_rng(seed).permutation(count)]


def is_altered(case: Case) -> bool:
    return case.image[0].name.startswith("altered-")


def _altered(case: Case, folder: Path) -> Case:
    """Slices three times as thick, another contrast and more noise; the grid and so the label map stay the same."""
    target = folder / f"altered-{case.id}.nii.gz"
    if not target.exists():
        image = nib.load(case.image[0])
        temporary = folder / f".part-{target.name}"
        nib.save(nib.Nifti1Image(_other_scanner(image.get_fdata(), case.id), image.affine), temporary)
        temporary.replace(target)
    return replace(case, image=(target,))


def _other_scanner(voxels: np.ndarray, case_id: str) -> np.ndarray:  # (I, J, K)
    low, high = np.percentile(voxels, (0.5, 99.5))
    scaled = np.clip((voxels - low) / (high - low), 0, 1) ** _GAMMA
    starts = range(0, scaled.shape[1], _THICKNESS)
    thick = np.stack([scaled[:, start : start + _THICKNESS].mean(axis=1) for start in starts], axis=1)
    centres = [min(start + (_THICKNESS - 1) / 2, scaled.shape[1] - 1) for start in starts]
    rows = np.arange(scaled.shape[1])
    after = np.clip(np.searchsorted(centres, rows), 1, len(centres) - 1)
    share = np.clip((rows - np.take(centres, after - 1)) / _THICKNESS, 0, 1)[None, :, None]
    blurred = thick[:, after - 1] * (1 - share) + thick[:, after] * share
    generator = np.random.default_rng(int.from_bytes(case_id.encode(), "little") % 2**32)
    noisy = blurred + generator.normal(0, _NOISE, blurred.shape)
    return (noisy * 1000).astype(np.float32)
