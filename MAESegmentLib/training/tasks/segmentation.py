"""Supervised segmentation as a task of the loop, and its Dice on held-out cases."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...arrays import largest
from ...errors import explaining_memory
from ...evaluation.metrics import dice
from ..data.drawing import Drawing
from ..data.labelling import Sides
from ..data.patches import Batch, PatchSamples, batches
from ..data.prepared import IGNORED, PreparedCase
from ..loop.distributed import SOLO, Team
from ..loop.optimiser import parameter_groups, stage_scale
from ..saving import dice_markdown
from ..settings import FineTuneSettings
from .losses import SegmentationLoss
from .terms import ScanTerm, beside, rows_of_case

#: Dice per case and label; NaN where neither reference nor prediction has the label, or it was not annotated.
DiceTable = dict[str, dict[str, float]]


class SegmentationTask:
    """Train `model` (patches in, one or several logits out) on `training`, watch Dice on `held_out`."""

    def __init__(
        self,
        model: nn.Module,
        training: Sequence[PreparedCase],
        held_out: Sequence[PreparedCase],
        label_names: Sequence[str],
        patch_size: Sequence[int],
        settings: FineTuneSettings,
        identity: str = "",
        encoder_stages: int | None = None,
        team: Team = SOLO,
        *,
        sides: Sides | None = None,
        drawing: Drawing | None = None,
        scans: ScanTerm | None = None,
    ) -> None:
        """`encoder_stages` turns layer-wise learning-rate decay on, for an NnFormer of that many stages.

        `sides` says which labels change places in a mirrored patch, `drawing` how images are drawn where `training`
        holds tissues. `scans` adds what scans without labels say to the loss.
        """
        self.model = model
        self.held_out = held_out
        self.label_names = tuple(label_names)
        self.patch_size = tuple(patch_size)
        self.settings = settings
        self.identity = identity
        self.encoder_stages = encoder_stages
        self.team = team
        self.scans = scans
        self._samples = PatchSamples(training, patch_size, settings, settings.foreground_fraction, sides, drawing)
        self._loss = SegmentationLoss(settings.deep_supervision_weights)
        self._unknown = {case.id: case.unknown for case in training if case.unknown}

    def parameter_groups(self) -> list[dict[str, Any]]:
        more = [] if self.scans is None else self.scans.parameter_groups()
        if self.encoder_stages is None:
            return parameter_groups(self.model, self.settings) + more
        scale = stage_scale(self.encoder_stages, self.settings.layer_decay)
        return parameter_groups(self.model, self.settings, scale) + more

    def begin(self, average: nn.Module, device: torch.device, planned: Callable[[int], int]) -> None:
        if self.scans is not None:
            self.scans.ramp.planned = planned
            self.scans.begin(average, device)

    def state(self) -> dict[str, Any]:
        return {} if self.scans is None else self.scans.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        if self.scans is not None:
            self.scans.load_state(state)

    def batches(self, first_step: int, device: torch.device) -> Iterator[Batch]:
        labelled = batches(self._samples, first_step, device, self.team)
        return labelled if self.scans is None else beside(labelled, self.scans, first_step, device)

    def loss(self, model: nn.Module, batch: Batch, step: int, of: Sequence[float] | None = None) -> Tensor:
        assert batch.classes is not None
        share = (1.0, 1.0)
        if of is not None:
            samples, voxels = self.amounts(batch, step)
            share = (samples / of[0], voxels / max(of[1], 1.0))
        loss: Tensor = self._loss(model(batch.image), batch.classes, self._not_annotated(batch), share)
        if self.scans is not None and batch.unlabelled is not None:
            loss = loss + self.scans.ramp.weight(step) * self.scans.loss(model, batch.unlabelled, step)
        return loss

    def amounts(self, batch: Batch, step: int) -> list[float]:  # noqa: ARG002
        """Samples, over which parts of the pooled Dice are averaged, and annotated voxels, for the cross-entropy."""
        assert batch.classes is not None
        return [float(len(batch.case_ids)), float((batch.classes != IGNORED).sum())]

    def _not_annotated(self, batch: Batch) -> Tensor | None:
        """(B, K) bool, or None if everything was annotated."""
        if not any(name in self._unknown for name in batch.case_ids):
            return None
        marks = torch.zeros(len(batch.case_ids), len(self.label_names) + 1, dtype=torch.bool)
        for row, name in zip(marks, batch.case_ids, strict=True):
            row[list(self._unknown.get(name, ()))] = True
        return marks.to(batch.image.device)

    def validate(self, model: nn.Module, device: torch.device) -> Mapping[str, float]:
        if not self.held_out:
            return {}
        overlap = self.settings.validation_overlap
        table = dice_table(model, self.held_out, self.label_names, self.patch_size, device, overlap, self.team)
        per_label = mean_by_label(table)
        mean = mean_dice(table)
        results = {**{f"dice {name}": value for name, value in per_label.items()}, "dice": mean}
        return results if math.isnan(mean) else {**results, "score": mean}


def dice_table(
    model: nn.Module,
    cases: Sequence[PreparedCase],
    label_names: Sequence[str],
    patch_size: Sequence[int],
    device: torch.device,
    overlap: float = 0.25,
    team: Team = SOLO,
) -> DiceTable:
    """Dice of whole prepared cases, segmented in sliding windows, on the network's grid; the `team` shares them out."""
    rows = team.map(lambda case: _dice(_segment(model, case, patch_size, device, overlap), case), cases)
    return {case.id: dict(zip(label_names, row, strict=True)) for case, row in zip(cases, rows, strict=True)}


def _segment(
    model: nn.Module, case: PreparedCase, patch_size: Sequence[int], device: torch.device, overlap: float
) -> tuple[np.ndarray, int]:
    """Output channel of every voxel (D, H, W), and the number of channels, by the windows of inference."""
    found, channels = np.empty(case.shape, np.uint8), 0
    size = " x ".join(map(str, case.shape))
    with explaining_memory(
        f"The memory of {device} is too small to segment the held-out case {case.id} ({size} voxels).",
        "Close other programs that use this device, choose another device, or hold out a smaller scan.",
    ):
        for row, scores in rows_of_case(model, case, patch_size, overlap, device):
            found[row], channels = largest(scores), len(scores)
    return found, channels


def _dice(segmented: tuple[np.ndarray, int], case: PreparedCase) -> list[float]:
    found, channels = segmented
    assert case.classes is not None
    known = case.classes != IGNORED
    return [
        math.nan if channel in case.unknown else dice((case.classes == channel) & known, (found == channel) & known)
        for channel in range(1, channels)
    ]


def mean_by_label(table: DiceTable) -> dict[str, float]:
    """Mean over the cases that have the label."""
    names = next(iter(table.values()), {})
    return {name: _mean([row[name] for row in table.values()]) for name in names}


def mean_dice(table: DiceTable) -> float:
    """Mean over labels of their means over cases."""
    return _mean(list(mean_by_label(table).values()))


def _mean(values: Sequence[float]) -> float:
    present = [value for value in values if not math.isnan(value)]
    return sum(present) / len(present) if present else math.nan


@dataclass(frozen=True)
class Measured:
    """Dice on cases the model never saw: of the base (None where it lacks the labels) and of the new model."""

    before: DiceTable | None
    after: DiceTable
    how: str
    indicative_only: bool = False

    def to_dict(self, hashes: dict[str, dict[str, str]]) -> dict[str, Any]:
        """For the bundle: cases by the hashes of their voxels, because their ids may be names."""
        return {
            "held_out": self.how,
            "cases": len(self.after),
            "grid": "network",
            "indicative_only": self.indicative_only,
            "dice_before": None if self.before is None else mean_by_label(self.before),
            "dice_after": mean_by_label(self.after),
            "mean_dice_before": None if self.before is None else mean_dice(self.before),
            "mean_dice_after": mean_dice(self.after),
            "per_case": [
                {
                    "image": hashes[name]["image"],
                    "dice_before": None if self.before is None else self.before[name],
                    "dice_after": after,
                }
                for name, after in self.after.items()
            ],
        }

    def markdown(self) -> str:
        title = f"## Dice on held-out cases ({self.how}; n = {len(self.after)}; on the network's grid)"
        title += "\nIndicative only." if self.indicative_only else ""
        before = None if self.before is None else mean_by_label(self.before)
        return dice_markdown(title, before, mean_by_label(self.after))
