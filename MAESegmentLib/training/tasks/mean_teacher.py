"""Mean teacher (arXiv 1703.01780): the model agrees with its moving average on scans that nobody labelled.

Both see the same patch; the model's is made noisier, blurred and changed in contrast.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...device import autocast
from ...errors import ConfigurationError
from ..data.patches import Batch, PatchSamples, batches
from ..data.perturbation import change_intensities
from ..data.prepared import PreparedCase
from ..settings import FineTuneSettings
from .terms import Ramp, Volumes, segmented, settings_of_scans, volumes_of

#: Voxels of which the teacher is less sure count for nothing.
CONFIDENT = 0.8
#: Scans that are looked at to see which structures the teacher finds.
_LOOKED_AT = 3


class MeanTeacher:
    """A structure whose volume is implausible in most of the scans looked at is one with the background until the next
    look, for teacher and model alike."""

    def __init__(
        self,
        scans: Sequence[PreparedCase],
        cases: Sequence[PreparedCase],
        channels: int,
        patch_size: Sequence[int],
        settings: FineTuneSettings,
    ) -> None:
        """`channels` are those of the output, the background's among them."""
        if not settings.ema_decay:
            raise ConfigurationError(
                "A mean teacher is a moving average of the weights, and ema_decay is 0.",
                'Set ema_decay to 0.99, or unlabelled_method to "self_training".',
            )
        self.ramp = Ramp(settings)
        self._scans, self._channels, self._settings = scans, channels, settings
        self._patch = tuple(patch_size)
        self._volumes = Volumes.of(cases, channels)
        self._samples = TwoViews(scans, patch_size, settings)
        self._look = -1
        self._ignored: tuple[int, ...] = ()
        self._average: nn.Module | None = None
        self._device = torch.device("cpu")

    def parameter_groups(self) -> list[dict[str, Any]]:
        return []

    def begin(self, average: nn.Module, device: torch.device) -> None:
        self._average, self._device = average, device

    def state(self) -> dict[str, Any]:
        return {"look": self._look, "ignored": list(self._ignored)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._look, self._ignored = int(state["look"]), tuple(state["ignored"])

    def batches(self, first_step: int, device: torch.device) -> Iterator[Batch]:
        return batches(self._samples, first_step, device)

    def loss(self, model: nn.Module, batch: Batch, step: int) -> Tensor:
        assert self._average is not None
        look = self.ramp.look(step)
        if look > self._look:
            self._look, self._ignored = look, self._unlike_the_cases(look)
        changed, as_it_is = batch.image.chunk(2, dim=1)
        with torch.no_grad():
            aim = self._chances(_finest(self._average(as_it_is)))
        return agreement(self._chances(_finest(model(changed))), aim)

    def _chances(self, logits: Tensor) -> Tensor:
        return merged(logits.float().softmax(1), self._ignored)

    def _unlike_the_cases(self, look: int) -> tuple[int, ...]:
        """The channels that are implausible in most of some scans."""
        assert self._average is not None
        order = np.random.default_rng((self._settings.seed, 3_000_029, look)).permutation(len(self._scans))
        found: list[int] = []
        for index in order[:_LOOKED_AT]:
            scan = self._scans[index]
            with autocast(self._device, self._settings.precision):
                classes, _ = segmented(self._average, scan, self._patch, 0.0, self._device)
            found += self._volumes.implausible(volumes_of(classes, scan.spacing, self._channels))
        most = len(order[:_LOOKED_AT]) / 2
        return tuple(channel for channel in range(1, self._channels) if found.count(channel) > most)


class TwoViews(PatchSamples):
    """Patches of scans (2 C, D, H, W): as the model is shown them, and as they are; moved and mirrored alike."""

    def __init__(self, scans: Sequence[PreparedCase], patch_size: Sequence[int], settings: FineTuneSettings) -> None:
        super().__init__(scans, patch_size, settings_of_scans(settings))
        self._changes = settings.augmentation

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor | None, str]:
        image, _, name = super().__getitem__(number)
        inside = image != 0  # what lies beyond the scan stays as inference has it
        seed = int(np.random.default_rng((self.settings.seed, 5, number)).integers(2**31))
        changed = change_intensities(image, self._changes, seed) * inside
        return torch.cat([changed, image]), None, name


def agreement(chances: Tensor, aim: Tensor) -> Tensor:
    """Mean square difference of probabilities (B, K, D, H, W), summed over classes, where the `aim` is confident."""
    sure = (aim.amax(1) >= CONFIDENT).float()
    return ((chances - aim).square().sum(1) * sure).sum() / sure.sum().clamp(min=1)


def merged(chances: Tensor, ignored: Sequence[int]) -> Tensor:
    """Probabilities with those of the `ignored` channels added to the background's."""
    if not ignored:
        return chances
    kept = [channel for channel in range(1, chances.shape[1]) if channel not in ignored]
    return torch.cat([1 - chances[:, kept].sum(1, keepdim=True), chances[:, kept]], dim=1)


def _finest(outputs: Tensor | Sequence[Tensor]) -> Tensor:
    return outputs if isinstance(outputs, Tensor) else outputs[0]
