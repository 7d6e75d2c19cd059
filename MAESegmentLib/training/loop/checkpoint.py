"""Where a run stands, on disk: written whole or not at all, read back without executing anything."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ...errors import ConfigurationError, OutputError, TrainingError, refusal_by_system
from ...storage.atomic_file import remove_unfinished_files, replacing
from ..settings import LoopSettings

CHECKPOINT = "checkpoint.pt"


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Replace the folder's checkpoint by `state` (tensors and plain values)."""
    try:
        with replacing(folder / CHECKPOINT) as temporary, temporary.open("wb") as file:
            torch.save(state, file)
    except (OutputError, RuntimeError) as error:
        raise OutputError(
            f"The checkpoint cannot be written to {folder}: {_reason(error, 'it could not be written whole')}.",
            "Free disk space and start the same command again; it resumes from the last good checkpoint.",
        ) from error


def load_checkpoint(folder: Path, fingerprint: str) -> dict[str, Any] | None:
    """The folder's checkpoint, or None at the start of a run; refuses one of a run with other settings or cases."""
    remove_unfinished_files(folder, Path(CHECKPOINT).suffix)
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise TypeError("it holds no run")
    except Exception as error:  # of any kind: a damaged pickle raises what its bytes say
        # torch seeks to before the start of a file that is cut short.
        known = None if isinstance(error, OSError) and error.errno == errno.EINVAL else refusal_by_system(error)
        reason = known.message if known else "it is damaged, or was not written by this program."
        hint = known.hint if known else "Delete it to start over."
        raise TrainingError(f"The checkpoint {path} cannot be read: {reason}", hint) from error
    if state.get("fingerprint") != fingerprint:
        raise ConfigurationError(
            f"{folder} holds a run with other settings, cases or base model.",
            "Give another output folder, or delete this one to start over.",
        )
    return state


def is_run_of(folder: Path) -> Callable[[LoopSettings], bool] | None:
    """Whether the folder's run has some settings; None without a run, or where it cannot be read, which
    `load_checkpoint` says."""
    try:
        state = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True, mmap=True)
        fingerprint = str(state["fingerprint"])
    except Exception:  # of any kind: see there
        return None
    return lambda settings: fingerprint.startswith(f"{settings.fingerprint()}-")


def _reason(error: BaseException, otherwise: str) -> str:
    """What the operating system said, in place of the state of torch's code; `otherwise` if it said nothing."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            return seen.strerror
        seen = seen.__cause__ or seen.__context__
    return otherwise
