"""How scans without labels are learnt from, by the name of the setting."""

from __future__ import annotations

from collections.abc import Sequence

from ...bundle import Bundle
from ...errors import ConfigurationError
from ...networks import NnFormer
from ..data.labelling import Sides
from ..data.prepared import PreparedCase
from ..settings import FineTuneSettings
from .mean_teacher import MeanTeacher
from .reconstruction import Reconstruction
from .self_training import SelfTraining
from .terms import ScanTerm


def check_one_part(settings: FineTuneSettings, processes: int) -> None:
    """Raise `ConfigurationError` where a step is computed in parts: its scans are not divided."""
    if processes > 1 or len(settings.parts()) > 1:
        raise ConfigurationError(
            "Scans without labels can only be learnt from by one process that computes a step at once.",
            "Start one process and leave micro_batch unset, or leave these scans out.",
        )


def scan_term(
    model: NnFormer,
    base: Bundle,
    channels: int,
    scans: Sequence[PreparedCase],
    cases: Sequence[PreparedCase],
    patch_size: Sequence[int],
    settings: FineTuneSettings,
    sides: Sides | None = None,
) -> ScanTerm:
    """What `scans` add to a training of `model`, made from `base`, with so many output `channels`, on `cases`."""
    if settings.unlabelled_method == "masked":
        return Reconstruction(scans, model, base.load_autoencoder(), patch_size, settings)
    if settings.unlabelled_method == "mean_teacher":
        return MeanTeacher(scans, cases, channels, patch_size, settings)
    return SelfTraining(scans, cases, model, channels, patch_size, settings, sides)
