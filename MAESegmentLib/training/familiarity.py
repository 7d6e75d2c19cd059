"""What a model's own training scans are like, for its bundle: what inference compares a new scan with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..bundle.scan_statistics import ENOUGH_TO_CALIBRATE
from ..bundle.training_statistics import ScanDescription
from ..inference.familiarity import describe_scan, fit_familiarity
from .data.prepared import PreparedCase

#: More training scans make the statistics no better.
MAX_SCANS = 128
#: Windows described of each scan, where there are few.
WINDOWS_OF_FEW = 4


def familiarity_of(
    encoder: nn.Module,
    cases: Sequence[PreparedCase],
    patch_size: Sequence[int],
    device: torch.device,
) -> dict[str, Any] | None:
    """For the description of a model whose `encoder` was trained on `cases`; None if their grey values are not known.

    At most `MAX_SCANS` of them count, evenly chosen.
    """
    known = [case for case in cases if case.grey is not None]
    if not known:
        return None
    chosen = known[:: -(-len(known) // MAX_SCANS)]
    windows = 1 if len(chosen) >= ENOUGH_TO_CALIBRATE else WINDOWS_OF_FEW
    encode = encoder.to(device).eval()

    def describe(case: PreparedCase) -> ScanDescription:
        assert case.grey is not None
        image = torch.from_numpy(case.image)
        return describe_scan(case.grey, image, case.spacing, patch_size, encode, windows=windows, device=device)

    return fit_familiarity([describe(case) for case in chosen]).to_dict()
