"""Cases as the network sees them, prepared once and kept in memory within a budget."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...errors import OutputError
from ...preprocessing.grey_values import GreyValues

#: Voxels the loss must not see (unannotated); no class may use this index.
IGNORED = 255
#: Places remembered per class from which a foreground patch may be centred.
MAX_PLACES = 20_000


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """`image` float32 (C, D, H, W); `classes` uint8 (D, H, W) of network output channels (0 = background), or None.

    `places` holds, per class present, flat voxel indices; `spacing` is in mm, (D, H, W). `unknown` are output channels
    that were not annotated in this case: where it says background, it may be one of these. `grey` describes the scan's
    grey values before they were clipped.
    """

    id: str
    image: np.ndarray
    spacing: tuple[float, float, float]
    classes: np.ndarray | None = None
    places: tuple[tuple[int, np.ndarray], ...] = ()
    unknown: tuple[int, ...] = ()
    grey: GreyValues | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        d, h, w = self.image.shape[1:]
        return d, h, w

    @property
    def bytes(self) -> int:
        return self.image.nbytes + (self.classes.nbytes if self.classes is not None else 0)


def places_of(classes: np.ndarray) -> tuple[tuple[int, np.ndarray], ...]:
    """Per foreground class, evenly chosen flat indices of its voxels, at most `MAX_PLACES`."""
    result = []
    for value in np.unique(classes):
        if value in (0, IGNORED):
            continue
        indices = np.flatnonzero(classes == value)
        result.append((int(value), indices[:: 1 + len(indices) // MAX_PLACES].astype(np.int64)))
    return tuple(result)


class CaseCache(Sequence[PreparedCase]):
    """Prepared cases: in memory up to `budget_gb`, the rest as memory-mapped files in `folder`."""

    def __init__(self, budget_gb: float, folder: Path) -> None:
        self.budget = budget_gb * 1e9
        self.folder = folder
        self.in_memory = 0.0
        self.on_disk = 0.0
        self._cases: list[PreparedCase] = []

    def add(self, case: PreparedCase) -> None:
        if self.in_memory + case.bytes > self.budget:
            self.on_disk += case.bytes
            case = self._spill(case)
        else:
            self.in_memory += case.bytes
        self._cases.append(case)

    def subset(self, ids: Sequence[str]) -> list[PreparedCase]:
        """Cases of these ids, in their order."""
        by_id = {case.id: case for case in self._cases}
        return [by_id[i] for i in ids]

    def describe(self) -> str:
        text = f"{len(self)} prepared cases, {self.in_memory / 1e9:.2f} GB in memory"
        if self.on_disk:
            text += (
                f"; {self.on_disk / 1e9:.2f} GB exceed the budget of {self.budget / 1e9:g} GB (cache_gb) and are read "
                f"from {self.folder}, which is slower"
            )
        return text

    def remove_files(self) -> None:
        """Once nothing reads the cases any more."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _spill(self, case: PreparedCase) -> PreparedCase:
        image = self._mapped(case.image, f"{len(self):05d}_image.npy")
        classes = None if case.classes is None else self._mapped(case.classes, f"{len(self):05d}_classes.npy")
        return replace(case, image=image, classes=classes)

    def _mapped(self, array: np.ndarray, name: str) -> np.ndarray:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            np.save(self.folder / name, array)
        except OSError as error:
            raise OutputError(
                f"Prepared cases do not fit into cache_gb and cannot be written to {self.folder}: {error}",
                "Free disk space, or raise cache_gb.",
            ) from error
        # Copy-on-write, because torch warns about read-only memory; nothing writes to it.
        return np.load(self.folder / name, mmap_mode="c")

    def __len__(self) -> int:
        return len(self._cases)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self._cases[index]

    def __iter__(self) -> Iterator[PreparedCase]:
        return iter(self._cases)


def as_array(image: np.ndarray) -> np.ndarray:
    """Contiguous float32, so that the cache never holds a view of a larger volume."""
    return np.ascontiguousarray(image, dtype=np.float32)
