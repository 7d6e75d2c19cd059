"""The only reasons for which a test may not run. Any other skip is a failure."""

from __future__ import annotations

import os
from pathlib import Path

NO_GPU = "no CUDA device on this machine"
NO_DATA = "the folder of real data is absent"

_REPOSITORY = Path(__file__).resolve().parents[1]


def real_data_folder() -> Path:
    """`MAESEGMENT_DATA`, or `shared/data` beside the repository; it may not exist."""
    return Path(os.environ.get("MAESEGMENT_DATA") or _REPOSITORY.parent / "shared" / "data")


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def is_expected(reason: str, *, gpu: bool, data: bool) -> bool:
    """Whether a skip with this reason is right on a machine with or without a GPU and the real data."""
    return (NO_GPU in reason and not gpu) or (NO_DATA in reason and not data)
