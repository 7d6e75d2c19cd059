"""Patches from an archive that fits neither into memory nor onto a disk cache: scans are read as they are needed.

A scan is read, prepared and cut into some patches, and only these are kept, so memory grows neither with the scans nor
with the archive. One that cannot be used is noted, and the next one takes its place.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ...errors import MAESegmentError, TrainingError
from ...images.archive import ArchivedScan
from ...images.hashing import FIRST, voxel_hash
from ...preprocessing.grey_values import describe_grey_values
from ...preprocessing.plan import Preprocessing
from ...storage.atomic_file import replacing
from ...text import csv_cell, csv_text, visible
from ..loop.distributed import Team
from ..settings import PretrainSettings
from .patches import Batch, PatchCutter, on_device
from .prepared import PreparedCase, as_array
from .stream_order import StreamOrder

SKIPPED = "skipped.csv"
#: So many scans in a row that cannot be used are no accident.
_IN_A_ROW = 50
#: Parts that are made ahead of their use.
_AHEAD = 4


@dataclass(frozen=True, eq=False)
class ScanPatches:
    """`patches` float32 (K, C, D, H, W) of the scan `name`; `skipped` are (scan, reason) that came before it."""

    patches: Tensor
    name: str
    skipped: tuple[tuple[str, str], ...]


class StreamedScans(Dataset[ScanPatches]):
    """Item (lane, visit): the scan that is due then, or the lane's next one that can be used, cut into patches."""

    def __init__(
        self,
        scans: Sequence[ArchivedScan],
        order: StreamOrder,
        preprocessing: Preprocessing,
        settings: PretrainSettings,
        unusable: Iterable[str] = (),
    ) -> None:
        self.scans, self.order, self.preprocessing, self.settings = scans, order, preprocessing, settings
        self.cutter = PatchCutter(preprocessing.patch_size, settings)
        #: Names of scans that are not tried again.
        self.unusable = set(unusable)

    def __getitem__(self, key: tuple[int, int]) -> ScanPatches:
        lane, visit = key
        skipped: list[tuple[str, str]] = []
        for later in range(_IN_A_ROW):
            scan = self.scans[self.order.volume(lane, visit + later)]
            if scan.name in self.unusable:
                continue
            try:
                case, _ = prepare_scan(scan, self.preprocessing)
            except Exception as error:  # readers let errors of any kind of a broken file through
                self.unusable.add(scan.name)
                skipped.append((scan.name, reason(error)))
                continue
            patches = [self.cutter.cut(case, self._random(lane, visit, k))[0] for k in range(self.order.patches)]
            return ScanPatches(torch.stack(patches), scan.name, tuple(skipped))
        last = skipped[-1] if skipped else (scan.name, "it could not be read before")
        raise TrainingError(
            f"{_IN_A_ROW} scans in a row cannot be used, the last one {last[0]}: {last[1]}",
            "Check that --data holds scans and can be read.",
        )

    def _random(self, lane: int, visit: int, patch: int) -> np.random.Generator:
        return np.random.default_rng((self.settings.seed, 3_000_003, lane, visit, patch))


class Stream:
    """The batches of a streamed pretraining: this process's parts of each step."""

    def __init__(
        self,
        scans: Sequence[ArchivedScan],
        preprocessing: Preprocessing,
        settings: PretrainSettings,
        folder: Path,
        team: Team,
    ) -> None:
        assert settings.patches_per_volume is not None
        self.settings, self.team = settings, team
        self.lanes = team.own(list(enumerate(settings.parts())))
        self.order = StreamOrder(
            len(scans),
            len(settings.parts()),
            open_volumes=settings.open_volumes,
            patches_per_volume=settings.patches_per_volume,
            seed=settings.seed,
        )
        self.skipped = SkippedScans(folder, team)
        unusable = [scan.name for scan in scans if scan.name in self.skipped]
        self.scans = StreamedScans(scans, self.order, preprocessing, settings, unusable)
        patch_bytes = 4 * float(np.prod(preprocessing.patch_size))
        kept = len(self.lanes) * self.order.open * self.order.patches + _AHEAD * len(settings.parts()[0])
        self.megabytes = kept * patch_bytes / 1e6

    def batches(self, first_step: int, device: torch.device) -> Iterator[Batch]:
        """From `first_step` on, made ahead of their use."""
        return on_device(self._batches(first_step), device, self.settings, depth=_AHEAD)

    def _batches(self, first_step: int) -> Iterator[Batch]:
        read = iter(self._loader(first_step))
        opened: dict[tuple[int, int], ScanPatches] = {}
        for lane, draws in self._draws(first_step):
            images, names = [], []
            for key, patch, is_first in draws:
                if is_first:
                    opened[key] = next(read)
                    self.skipped.note(opened[key].skipped)
                scan = opened.pop(key) if patch == self.order.patches - 1 else opened[key]
                images.append(scan.patches[patch])
                names.append(scan.name)
            yield Batch(torch.stack(images), None, tuple(names), lane)

    def _loader(self, first_step: int) -> Iterable[ScanPatches]:
        """What is read for each visit, when its first patch is due."""
        workers = self.settings.num_workers
        needed = (key for _, draws in self._draws(first_step) for key, _, is_first in draws if is_first)
        if not workers:
            return (self.scans[key] for key in needed)
        options: dict[str, Any] = {"num_workers": workers, "prefetch_factor": 2}
        return DataLoader(self.scans, batch_size=None, sampler=needed, collate_fn=_as_it_is, **options)  # type: ignore[arg-type]

    def _draws(self, first_step: int) -> Iterator[tuple[int, list[tuple[tuple[int, int], int, bool]]]]:
        """Of each of this process's parts its lane, and of its patches: (lane, visit), which of the visit's patches,
        whether the visit's scan was not read before."""
        opened: set[tuple[int, int]] = set()
        for step in range(first_step, self.settings.steps):
            for lane, part in self.lanes:
                draws = []
                for number in range(step * len(part), (step + 1) * len(part)):
                    visit, patch = self.order.draw(lane, number)
                    draws.append(((lane, visit), patch, (lane, visit) not in opened))
                    opened.add((lane, visit))
                    if patch == self.order.patches - 1:
                        opened.discard((lane, visit))
                yield lane, draws


class SkippedScans:
    """`skipped.csv`: the scans that could not be used, and why. To try one again, delete its line."""

    def __init__(self, folder: Path, team: Team) -> None:
        self._folder = folder
        self.file = folder / (SKIPPED if team.size == 1 else f"skipped-{team.rank}.csv")
        self._names = {name for name, _ in _rows(self._files())}

    def note(self, scans: Iterable[tuple[str, str]]) -> None:
        new = [(csv_cell(name), csv_cell(why)) for name, why in scans if name not in self]
        if not new:
            return
        is_new = not self.file.exists()
        with self.file.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([*([("volume", "reason")] if is_new else []), *new])
        self._names.update(csv_text(name) for name, _ in new)

    def __contains__(self, name: object) -> bool:
        """Whether the scan of this name was noted."""
        return isinstance(name, str) and visible(name) in self._names

    def merge(self) -> list[tuple[str, str]]:
        """One file of what all processes noted; only one process may do this, once all are through."""
        files = self._files()
        rows = sorted(dict(_rows(files)).items())
        if rows:
            with replacing(self._folder / SKIPPED) as part, part.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([("volume", "reason"), *((csv_cell(name), why) for name, why in rows)])
        for file_of_one in files:
            if file_of_one.name != SKIPPED:
                file_of_one.unlink()
        return rows

    def _files(self) -> list[Path]:
        return sorted([*self._folder.glob(SKIPPED), *self._folder.glob("skipped-*.csv")])


def prepare_scan(scan: ArchivedScan, preprocessing: Preprocessing) -> tuple[PreparedCase, str]:
    """The scan as the network sees it, and the hash of its voxels; raises what its reader raises."""
    volume = scan.read()
    prepared = preprocessing.prepare(volume)
    d, h, w = (float(s) for s in prepared.grid.spacing)
    grey = describe_grey_values(volume.crop(prepared.region).array, preprocessing.intensity)
    return PreparedCase(scan.name, as_array(prepared.image), (d, h, w), grey=grey), voxel_hash(volume.array, FIRST)


def reason(error: Exception) -> str:
    """Why a scan cannot be used, in one line."""
    text = error.message if isinstance(error, MAESegmentError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())


def _rows(files: Iterable[Path]) -> list[tuple[str, str]]:
    """Complete rows; the last one may have been cut off."""
    rows: list[tuple[str, str]] = []
    for file in files:
        with file.open(newline="", encoding="utf-8") as stream:
            rows += [(csv_text(row[0]), row[1]) for row in csv.reader(stream) if len(row) == 2 and row[0] != "volume"]
    return rows


def _as_it_is(scan: ScanPatches) -> ScanPatches:
    return scan
