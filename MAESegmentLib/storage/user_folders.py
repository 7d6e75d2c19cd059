"""Where a user's models, cases, runs and temporary files are, and how a folder with patients' data is made."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def default_models_folder() -> Path:
    """`MAESEGMENT_MODELS`, or a folder among the user's application data."""
    return _chosen("MAESEGMENT_MODELS") or user_data_folder() / "models"


def conversion_file(models_folder: Path, content_hash: str) -> Path:
    """What OpenVINO runs of the model with this content: hidden among the user's models, never in a model."""
    return models_folder / ".converted" / f"{content_hash}.2"  # 2: as networks are converted now


def default_shipped_folder() -> Path:
    """The models that ship: inside the package in a wheel and in the Slicer extension, beside it in a source tree."""
    inside = _PACKAGE / "Resources" / "Models"
    return inside if inside.is_dir() else _PACKAGE.parent / "Resources" / "Models"


def default_cases_folder() -> Path:
    """`MAESEGMENT_CASES`, or "MAESegment cases" among the user's documents: one case store per family of models."""
    return _chosen("MAESEGMENT_CASES") or Path.home() / "Documents" / "MAESegment cases"


def default_runs_folder() -> Path:
    """`MAESEGMENT_RUNS`, or a folder among the user's application data."""
    return _chosen("MAESEGMENT_RUNS") or user_data_folder() / "fine-tuning"


def default_working_folder() -> Path:
    """Below the folder for temporary files, which users of one computer share: a folder for each of them."""
    own = "maesegment" if os.name == "nt" else f"maesegment-{os.getuid()}"
    return Path(tempfile.gettempdir()) / own


def user_data_folder() -> Path:
    """Where the operating system keeps a user's application data, as platformdirs has it."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = os.environ.get("XDG_DATA_HOME", "").strip() or Path.home() / ".local" / "share"
    return Path(base) / "maesegment"


def make_private_folder(folder: Path) -> None:
    """Make `folder` and what is missing above it with mode 0700 (on Windows as its parent); `OSError` if that fails.

    What is there already keeps its mode: it may be shared with a group on purpose.
    """
    missing = [folder]
    while not missing[-1].parent.is_dir() and missing[-1].parent != missing[-1]:
        missing.append(missing[-1].parent)
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)


def _chosen(variable: str) -> Path | None:
    chosen = os.environ.get(variable)
    return Path(chosen).expanduser() if chosen else None
