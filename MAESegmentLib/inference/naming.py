"""Where a segmentation goes if nobody says."""

from __future__ import annotations

from pathlib import Path

_EXTENSIONS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh", ".dcm")


def default_output(scan: str | Path) -> Path:
    """`<name>.seg.nrrd` in the current folder: next to the person, never onto the scan."""
    path = Path(scan).resolve()
    extension = next((e for e in _EXTENSIONS if path.name.lower().endswith(e)), "") if not path.is_dir() else ""
    stem = path.name[: len(path.name) - len(extension)] or "segmentation"
    return Path(f"{stem}.seg.nrrd")
