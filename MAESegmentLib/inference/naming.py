"""Where a segmentation goes if nobody says."""

from __future__ import annotations

from pathlib import Path

from ..images.scans import without_ending


def default_output(scan: str | Path) -> Path:
    """`<name>.seg.nrrd` in the current folder: where the user is, never onto the scan."""
    path = Path(scan).resolve()
    stem = path.name if path.is_dir() else without_ending(path.name)
    return Path(f"{stem or 'segmentation'}.seg.nrrd")
