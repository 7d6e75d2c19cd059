"""The only reasons for which a test may not run. Any other skip is a failure."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

NO_GPU = "no CUDA device on this machine"
NO_DATA = "the folder of real data is absent"
NO_CASES = "the folder of inputs that went wrong is absent"
NO_BROWSER = "no Chromium with its driver on this machine"

REPOSITORY = Path(__file__).resolve().parents[1]


def real_data_folder() -> Path:
    """`MAESEGMENT_DATA`, or `shared/data` beside the repository; it may not exist."""
    return Path(os.environ.get("MAESEGMENT_DATA") or REPOSITORY.parent / "shared" / "data")


def shared_cases_folder() -> Path:
    """Small inputs that went wrong once, with the right values, beside the real data; it may not exist."""
    return real_data_folder().parent / "cases"


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def has_browser() -> bool:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    return bool(chromium and shutil.which("chromedriver"))


def is_expected(reason: str, *, gpu: bool, data: bool) -> bool:
    """Whether a skip with this reason is right on a machine with or without a GPU and the real data."""
    absent = (NO_GPU in reason and not gpu) or (NO_DATA in reason and not data)
    absent = absent or (NO_CASES in reason and not shared_cases_folder().is_dir())
    return absent or (NO_BROWSER in reason and not has_browser())
