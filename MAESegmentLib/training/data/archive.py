"""An archive to pretrain on: which of its scans are learnt from, which are held out, and what they are like."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ...errors import ConfigurationError, DatasetError, MAESegmentError
from ...images.archive import ArchivedScan, ArchiveIndex
from ...preprocessing.grid import NetworkGrid
from ..loop.distributed import SOLO, Team
from ..run_context import UNATTENDED, Progress, RunContext

INDEX = "archive.jsonl"
#: An archive with at least this many folders at its top has one for each patient.
MANY_FOLDERS = 20
#: Scans that are read to learn the usual voxel size, and how many of them may be unreadable.
SAMPLED = 24
_TRIED = 3 * SAMPLED


@dataclass(frozen=True)
class Archive:
    """Scans of one channel. The share `held_out` is chosen by the hash of their names, so that it stays the same when
    the archive grows; scans in one folder of the top level stay together where these are many (one for each patient).
    """

    scans: tuple[ArchivedScan, ...]
    held_out_share: float = 0.0

    @cached_property
    def training(self) -> tuple[ArchivedScan, ...]:
        """Scans to learn from."""
        return tuple(scan for scan in self.scans if not self._is_held_out(scan))

    @cached_property
    def held_out(self) -> tuple[ArchivedScan, ...]:
        """Scans that are never learnt from, in the order of their hashes."""
        return _by_hash(scan for scan in self.scans if self._is_held_out(scan))

    @cached_property
    def identity(self) -> str:
        """Changes with the names of the scans."""
        return hashlib.sha256("\n".join(scan.name for scan in self.scans).encode(errors="surrogateescape")).hexdigest()[
            :16
        ]

    def median_spacing(self, orientation: str, team: Team = SOLO) -> tuple[float, float, float]:
        """Median voxel size in mm, in the order of `orientation`, of a sample of the readable scans."""
        tried = _by_hash(self.scans)[:_TRIED]
        found = team.map(lambda scan: _spacing(scan, orientation), tried[:SAMPLED])
        spacings = [spacing for spacing in found if spacing is not None]
        if not spacings:
            more = team.map(lambda scan: _spacing(scan, orientation), tried[SAMPLED:])
            spacings = [spacing for spacing in more if spacing is not None]
        if not spacings:
            raise ConfigurationError(
                f"None of {len(tried)} scans of the archive could be read, so their usual voxel size is not known.",
                "Check the folder, or give the voxel size: --spacing 1,1,1.",
            )
        d, h, w = (float(round(s, 3)) for s in np.median(spacings, axis=0))
        return d, h, w

    @cached_property
    def _has_patient_folders(self) -> bool:
        return len({scan.name.split("/")[0] for scan in self.scans if "/" in scan.name}) >= MANY_FOLDERS

    def _is_held_out(self, scan: ArchivedScan) -> bool:
        patient = scan.name.split("/")[0] if self._has_patient_folders else scan.name
        return _fraction(patient) < self.held_out_share


def open_archive(
    folders: Sequence[Path], out: Path, held_out_share: float, context: RunContext = UNATTENDED
) -> Archive:
    """Every scan below `folders`. What was found is kept in `out`, so that a large archive is searched once."""
    missing = [folder for folder in folders if not folder.exists()]
    if missing:
        raise DatasetError(f"There is nothing at {missing[0]}.", "Give a folder of scans with --data.")

    def search() -> list[ArchivedScan]:
        def on_folder(number: int, folder: Path) -> None:
            context.check_cancelled("The search for scans was stopped.", "Start it again; it resumes there.")
            context.report(Progress("prepare", message=f"searching folder {number + 1}: {folder.name}"))

        return ArchiveIndex(out / INDEX).scans(folders, leave_out=[out], on_folder=on_folder)

    # One process notes what it finds; the others then find everything noted.
    scans = context.team.first(search)
    if scans is None:
        scans = search()
    archive = Archive(tuple(scans), held_out_share)
    context.team.check_same(archive.identity, "the scans of the archive")
    if not archive.training:
        raise DatasetError(
            f"There is no scan to learn from in {', '.join(map(str, folders))}.",
            "Give folders with NIfTI, NRRD, MetaImage, MGH or DICOM files, or hold fewer out (held_out).",
        )
    return archive


def _by_hash(scans: Iterator[ArchivedScan] | Sequence[ArchivedScan]) -> tuple[ArchivedScan, ...]:
    return tuple(sorted(scans, key=lambda scan: (_fraction(scan.name), scan.name)))


def _fraction(name: str) -> float:
    """From 0 to below 1, evenly spread over names."""
    return int.from_bytes(hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:7], "big") / 2**56


def _spacing(scan: ArchivedScan, orientation: str) -> list[float] | None:
    try:
        grid = NetworkGrid(scan.read().grid, orientation, (1, 1, 1))
    except MAESegmentError:
        return None
    return [float(s) for s in grid.canonical_spacing]
