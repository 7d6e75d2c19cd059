"""Where a run stands, on disk: written whole or not at all, read back without executing anything."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from ..errors import ConfigurationError, OutputError, TrainingError

CHECKPOINT = "checkpoint.pt"


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Replace the folder's checkpoint by `state` (tensors and plain values)."""
    try:
        handle, name = tempfile.mkstemp(dir=folder, prefix=".checkpoint-", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(folder / CHECKPOINT)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except (OSError, RuntimeError) as error:
        raise OutputError(
            f"The checkpoint cannot be written to {folder}: {error}",
            "Free disk space and start the same command again; it goes on from the last good checkpoint.",
        ) from error


def load_checkpoint(folder: Path, fingerprint: str) -> dict[str, Any] | None:
    """The folder's checkpoint, or None at the start of a run; refuses one of a run with other settings or cases."""
    for left_over in folder.glob(".checkpoint-*.tmp"):
        left_over.unlink(missing_ok=True)
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise TypeError("it holds no run")
    except Exception as error:  # of any kind: a damaged pickle raises what its bytes say
        raise TrainingError(f"The checkpoint {path} cannot be read: {error}", "Delete it to start over.") from error
    if state.get("fingerprint") != fingerprint:
        raise ConfigurationError(
            f"{folder} holds a run with other settings, cases or base model.",
            "Give another output folder, or delete this one to start over.",
        )
    return state
