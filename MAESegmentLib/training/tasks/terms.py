"""What scans without labels add to the loss of a segmentation: when, how much, and what every method of it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ...arrays import softmax, to_numpy
from ...inference.segmenter import GPU_BATCH
from ...inference.windows import rows_of_image
from ..data.patches import Batch
from ..data.prepared import PreparedCase
from ..settings import FineTuneSettings

#: A run looks so many times, evenly, at what its model makes of the scans.
LOOKS = 10
#: Volumes up to so many times beyond those of the cases are plausible.
PLAUSIBLE = 2.0


class Ramp:
    """The weight of the scans: 0 for the first half of a share of the training, full after it, rising in between."""

    def __init__(self, settings: FineTuneSettings) -> None:
        self._weight, self._share = settings.unlabelled_weight, settings.unlabelled_ramp
        #: Steps in all, as far as is known after so many.
        self.planned: Callable[[int], int] = lambda _: settings.steps

    def weight(self, step: int) -> float:
        """Of a step, counted from 0.

        >>> ramp = Ramp(FineTuneSettings(steps=100, unlabelled_weight=2.0, unlabelled_ramp=0.4))
        >>> [ramp.weight(step) for step in (19, 29, 39, 99)]
        [0.0, 1.0, 2.0, 2.0]
        """
        half = self._share / 2
        risen = 1.0 if half == 0 else ((step + 1) / max(1, self.planned(step)) - half) / half
        return self._weight * round(min(max(risen, 0.0), 1.0), 6)

    def look(self, step: int) -> int:
        """How many of the `LOOKS` of a training are over before this step: it looks anew when that rises."""
        return LOOKS * step // max(1, self.planned(step))

    def until_next_look(self, step: int) -> int:
        """Steps from one look to the next, about."""
        return max(1, self.planned(step) // LOOKS)


class ScanTerm(Protocol):
    """One more term of the loss. Like a task, a function of the step and of what `state` holds alone."""

    ramp: Ramp

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Of what is trained beside the model."""

    def begin(self, average: nn.Module, device: torch.device) -> None:
        """`average` is the moving average of the model's weights, which changes with every step."""

    def state(self) -> dict[str, Any]:
        """For the checkpoint."""

    def load_state(self, state: Mapping[str, Any]) -> None:
        """What `state` returned at the step that is resumed from."""

    def batches(self, first_step: int, device: torch.device) -> Iterator[Batch]:
        """Patches of scans for each step from `first_step` on; a generator."""

    def loss(self, model: nn.Module, batch: Batch, step: int) -> Tensor:
        """Scalar."""


def beside(labelled: Iterator[Batch], term: ScanTerm, first_step: int, device: torch.device) -> Iterator[Batch]:
    """The `labelled` batches, each with the patches of scans for the same step once these weigh something."""
    scans: Iterator[Batch] | None = None
    with ExitStack() as stack:
        stack.enter_context(closing(labelled))  # type: ignore[type-var]
        for step, batch in enumerate(labelled, first_step):
            if scans is None and term.ramp.weight(step) > 0:
                scans = stack.enter_context(closing(term.batches(step, device)))  # type: ignore[type-var]
            yield batch if scans is None else replace(batch, unlabelled=next(scans))


def settings_of_scans(settings: FineTuneSettings) -> FineTuneSettings:
    """For patches of scans whose grey values stay, with other random numbers than those of the cases' patches."""
    return replace(settings, seed=settings.seed + 1_000_003, augmentation=settings.augmentation.geometry())


@dataclass(frozen=True)
class Volumes:
    """For each output channel from 1 on, the smallest and largest volume (mm3) in the cases that were annotated."""

    smallest: tuple[float, ...]
    largest: tuple[float, ...]

    @classmethod
    def of(cls, cases: Sequence[PreparedCase], channels: int) -> Volumes:
        """Of cases with label maps."""
        rows = [(case.unknown, volumes_of(case.classes, case.spacing, channels)) for case in cases]
        smallest, largest = [], []
        for channel in range(1, channels):
            found = [volumes[channel] for unknown, volumes in rows if channel not in unknown]
            smallest.append(min(found, default=0.0) / PLAUSIBLE)
            largest.append(max(found, default=0.0) * PLAUSIBLE)
        return cls(tuple(smallest), tuple(largest))

    def implausible(self, volumes: np.ndarray) -> tuple[int, ...]:
        """The channels whose `volumes` (of channels 0, 1, ...) no case comes near, a missing structure among them."""
        limits = enumerate(zip(self.smallest, self.largest, strict=True), start=1)
        return tuple(n for n, (low, high) in limits if high == 0 or not low <= volumes[n] <= high)


def volumes_of(classes: np.ndarray | None, spacing: Sequence[float], channels: int) -> np.ndarray:
    """Volume (mm3) of each output channel."""
    assert classes is not None
    counts = np.bincount(classes.ravel(), minlength=256)[:channels]
    result: np.ndarray = counts * float(np.prod(spacing))
    return result


def rows_of_case(
    model: nn.Module, case: PreparedCase, patch_size: Sequence[int], overlap: float, device: torch.device
) -> Iterator[tuple[int, Tensor]]:
    """Each row and its scores (K, H, W) of a whole prepared case, by the windows of inference."""
    d, h, w = patch_size
    batch_size = 2 if device.type == "cpu" else GPU_BATCH
    image = torch.from_numpy(case.image)
    return rows_of_image(image, model, (d, h, w), overlap, batch_size=batch_size, device=device, accumulate_on=device)


@torch.no_grad()
def segmented(
    model: nn.Module, scan: PreparedCase, patch_size: Sequence[int], overlap: float, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """The output channel of every voxel, uint8 (D, H, W), and how sure the model is of it, float32 0..1."""
    found, sure = np.empty(scan.shape, np.uint8), np.empty(scan.shape, np.float32)
    for row, scores in rows_of_case(model, scan, patch_size, overlap, device):
        chances = to_numpy(softmax(scores, 0))
        found[row], sure[row] = chances.argmax(0), chances.max(0)
    return found, sure
