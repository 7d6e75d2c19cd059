"""Self-training: the model learns its own confident labels of scans that nobody labelled, as if these were cases."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...device import autocast
from ...inference.window_count import window_count
from ..data.labelling import Sides
from ..data.patches import Batch, PatchCutter
from ..data.prepared import IGNORED, PreparedCase, places_of
from ..settings import FineTuneSettings
from .losses import SegmentationLoss
from .terms import Ramp, Volumes, segmented, volumes_of

#: Voxels of which the model is less sure are not learnt.
CONFIDENT = 0.9
#: Labelling scans may take up to this share of what the steps on the cases take.
_SHARE = 0.5
#: A patch of a step costs as much as so many windows.
_WINDOWS_A_PATCH = 3


class SelfTraining:
    """A teacher, the moving average as it was at the last look, labels whole scans, each when it is first needed.

    A structure whose volume in a scan is unlike that in every case counts there as not annotated.
    """

    def __init__(
        self,
        scans: Sequence[PreparedCase],
        cases: Sequence[PreparedCase],
        model: nn.Module,
        channels: int,
        patch_size: Sequence[int],
        settings: FineTuneSettings,
        sides: Sides | None = None,
    ) -> None:
        """`channels` are those of the output, the background's among them."""
        self.ramp = Ramp(settings)
        self._scans, self._channels, self._settings = scans, channels, settings
        self._patch = tuple(patch_size)
        self._volumes = Volumes.of(cases, channels)
        self._cutter = PatchCutter(patch_size, settings, settings.foreground_fraction, sides)
        self._loss = SegmentationLoss(settings.deep_supervision_weights)
        self._teacher = copy.deepcopy(model).eval().requires_grad_(False)
        #: Of the last look, and how many windows may be labelled after it.
        self._look, self._windows = -1, 0
        self._labelled: dict[int, PreparedCase] = {}
        self._average: nn.Module | None = None
        self._device = torch.device("cpu")

    def parameter_groups(self) -> list[dict[str, Any]]:
        return []

    def begin(self, average: nn.Module, device: torch.device) -> None:
        self._average, self._device = average, device
        self._teacher.to(device)

    def state(self) -> dict[str, Any]:
        teacher = self._teacher.state_dict() if self._look >= 0 else None
        return {"look": self._look, "windows": self._windows, "teacher": teacher}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._look, self._windows = int(state["look"]), int(state["windows"])
        if state["teacher"] is not None:
            self._teacher.load_state_dict(state["teacher"])

    def batches(self, first_step: int, device: torch.device) -> Iterator[Batch]:
        """Made when it is asked for, never ahead: the labels are those of the model as it is by then."""
        for step in count(first_step):
            self._look_anew(step)
            chosen = self._chosen()
            size = self._settings.batch_size
            numbers = range(step * size, (step + 1) * size)
            cases = [self._with_labels(chosen[number % len(chosen)]) for number in numbers]
            patches = [
                self._cutter.cut(case, np.random.default_rng((self._settings.seed, 3_000_017, number)))
                for case, number in zip(cases, numbers, strict=True)
            ]
            classes = torch.stack([labels for _, labels in patches if labels is not None])
            image = torch.stack([image for image, _ in patches])
            yield Batch(image, classes, tuple(case.id for case in cases)).to(device)

    def loss(self, model: nn.Module, batch: Batch, step: int) -> Tensor:  # noqa: ARG002
        assert batch.classes is not None
        unknown = torch.zeros(len(batch.case_ids), self._channels, dtype=torch.bool)
        by_id = {case.id: case.unknown for case in self._labelled.values()}
        for row, name in zip(unknown, batch.case_ids, strict=True):
            row[list(by_id[name])] = True
        loss: Tensor = self._loss(model(batch.image), batch.classes, unknown.to(batch.image.device))
        return loss

    def _look_anew(self, step: int) -> None:
        look = self.ramp.look(step)
        if look <= self._look:
            return
        assert self._average is not None
        self._teacher.load_state_dict(self._average.state_dict())
        patches = self.ramp.until_next_look(step) * self._settings.batch_size
        self._look, self._windows = look, round(_SHARE * _WINDOWS_A_PATCH * patches)
        self._labelled.clear()

    def _chosen(self) -> list[int]:
        """Scans of this look: as many, in random order, as can be labelled in the time there is."""
        left = self._windows
        chosen: list[int] = []
        for index in np.random.default_rng((self._settings.seed, 3_000_029, self._look)).permutation(len(self._scans)):
            left -= window_count(self._scans[index].shape, self._patch, self._settings.validation_overlap)
            if chosen and left < 0:
                break
            chosen.append(int(index))
        return chosen

    def _with_labels(self, index: int) -> PreparedCase:
        if index not in self._labelled:
            scan = self._scans[index]
            with autocast(self._device, self._settings.precision):
                overlap = self._settings.validation_overlap
                found, sure = segmented(self._teacher, scan, self._patch, overlap, self._device)
            unlike = self._volumes.implausible(volumes_of(found, scan.spacing, self._channels))
            known = (sure >= CONFIDENT) & ~np.isin(found, unlike)
            classes = np.where(known, found, np.uint8(IGNORED))
            self._labelled[index] = replace(scan, classes=classes, places=places_of(classes), unknown=unlike)
        return self._labelled[index]
