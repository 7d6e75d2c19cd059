"""Random patches as a function of the sample number alone, so that a resumed run sees exactly the same ones."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import cycle
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..loop.distributed import SOLO, Team
from ..settings import LoopSettings
from .augment import random_displacement, random_geometry, sample_patch
from .drawing import Drawing
from .labelling import Sides
from .perturbation import change_intensities
from .prepared import PreparedCase


@dataclass(frozen=True, eq=False)
class Batch:
    """`image` float32 (B, C, D, H, W); `classes` int64 (B, 1, D, H, W) or None; the cases they were cut from.

    `part` says which part of its step this is; `unlabelled` are patches of scans without labels for the same step.
    """

    image: Tensor
    classes: Tensor | None
    case_ids: tuple[str, ...]
    part: int = 0
    unlabelled: Batch | None = None

    def to(self, device: torch.device) -> Batch:
        classes = None if self.classes is None else self.classes.to(device, non_blocking=True)
        return replace(self, image=self.image.to(device, non_blocking=True), classes=classes)


class PatchCutter:
    """Cuts augmented patches out of cases."""

    def __init__(
        self,
        patch_size: Sequence[int],
        settings: LoopSettings,
        foreground_fraction: float = 0.0,
        sides: Sides | None = None,
    ) -> None:
        self.patch_size = tuple(patch_size)
        self.augmentation = settings.augmentation
        self.sides = sides
        self.foreground_fraction = foreground_fraction

    def cut(self, case: PreparedCase, rng: np.random.Generator) -> tuple[Tensor, Tensor | None]:
        """Patch (C, D, H, W), classes (1, D, H, W) int64; every random choice is drawn from `rng`."""
        start = self._start(case, rng)
        augmentation = self.augmentation if self.sides is None else self.sides.allowed(self.augmentation, case.unknown)
        geometry, mirrored = random_geometry(augmentation, case.spacing, self.patch_size, rng)
        displacement = random_displacement(augmentation, case.spacing, self.patch_size, rng)
        volume = torch.from_numpy(case.image)
        labels = None if case.classes is None else torch.from_numpy(case.classes)
        image, classes, inside = sample_patch(
            volume,
            labels,
            start,
            self.patch_size,
            geometry,
            displacement,
            label_shares=augmentation.label_shares,
        )
        if self.sides is not None and classes is not None and self.sides.axis in mirrored:
            classes = self.sides.exchange(classes)
        image = change_intensities(image, self.augmentation, int(rng.integers(2**31))) * inside
        return image, None if classes is None else classes[None].long()

    def _start(self, case: PreparedCase, rng: np.random.Generator) -> list[int]:
        """First voxel of the patch: around a voxel of a random label, or anywhere; small volumes are centred."""
        room = [size - patch for size, patch in zip(case.shape, self.patch_size, strict=True)]
        if case.places and rng.random() < self.foreground_fraction:
            _, places = case.places[rng.integers(len(case.places))]
            centre = np.unravel_index(places[rng.integers(len(places))], case.shape)
            wanted = [int(c) - patch // 2 for c, patch in zip(centre, self.patch_size, strict=True)]
        else:
            wanted = [int(rng.integers(max(r, 0) + 1)) for r in room]
        return [min(max(w, 0), r) if r > 0 else -(-r // 2) for w, r in zip(wanted, room, strict=True)]


class PatchSamples(Dataset[tuple[Tensor, Tensor | None, str]]):
    """Sample n of an endless series of augmented patches; a function of n and the seed alone.

    Every case comes once before any comes again. With `drawing`, the cases hold tissues, and a few patches are cut of
    each image that is drawn from them.
    """

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        patch_size: Sequence[int],
        settings: LoopSettings,
        foreground_fraction: float = 0.0,
        sides: Sides | None = None,
        drawing: Drawing | None = None,
    ) -> None:
        self.cases, self.settings, self.drawing = cases, settings, drawing
        self.patch_size = tuple(patch_size)
        self.cutter = PatchCutter(patch_size, settings, foreground_fraction, sides)
        self._order = lru_cache(maxsize=2)(self._shuffled)
        self._drawn = lru_cache(maxsize=1)(self._volume)

    def __len__(self) -> int:
        return self.settings.most_steps * self.settings.batch_size

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor | None, str]:
        """Patch (C, D, H, W), classes (1, D, H, W) int64, case id."""
        if self.drawing is None:
            case = self._volume(number)
        else:
            case = self._drawn(number // self.drawing.synthesis.patches_per_volume)
        image, classes = self.cutter.cut(case, np.random.default_rng((self.settings.seed, number)))
        return image, classes, case.id

    def _volume(self, number: int) -> PreparedCase:
        epoch, position = divmod(number, len(self.cases))
        case = self.cases[self._order(epoch)[position]]
        return case if self.drawing is None else self.drawing.draw(case, (self.settings.seed, 1_000_033, number))

    def _shuffled(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self.settings.seed, 1_000_003, epoch)).permutation(len(self.cases))


def batches(samples: PatchSamples, first_step: int, device: torch.device, team: Team = SOLO) -> Iterator[Batch]:
    """This process's parts of steps `first_step`, `first_step` + 1, ... up to the last, made ahead of their use."""
    settings = samples.settings
    own = team.own(list(enumerate(settings.parts())))
    numbers = (
        [step * settings.batch_size + position for position in part]
        for step in range(first_step, settings.most_steps)
        for _, part in own
    )
    part_of = cycle(number for number, _ in own)
    loader: Iterable[Any] = DataLoader(
        samples,
        batch_sampler=numbers,
        num_workers=settings.num_workers,
        collate_fn=_collate,
        pin_memory=device.type == "cuda",
        persistent_workers=settings.num_workers > 0,
    )
    made = (Batch(image, classes, ids, next(part_of)) for image, classes, ids in loader)
    return on_device(made, device, settings, depth=2)


def on_device(made: Iterator[Batch], device: torch.device, settings: LoopSettings, *, depth: int) -> Iterator[Batch]:
    """The batches, `made` up to `depth` ahead of their use on a thread, unless processes of their own make them."""
    if settings.num_workers:
        yield from (batch.to(device) for batch in made)
        return
    with closing(ahead(made, depth)) as stream:
        for batch in stream:
            yield batch.to(device)


def ahead(items: Iterator, depth: int = 2) -> Generator:
    """The same items, made on a background thread up to `depth` ahead; its exceptions are raised here."""
    ready: queue.Queue = queue.Queue(maxsize=depth)
    stop = threading.Event()
    end = object()

    def put(item: object) -> None:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return

    def fill() -> None:
        try:
            for item in items:
                put((item, None))
                if stop.is_set():
                    return
            put((end, None))
        except BaseException as error:  # handed to the consumer, which raises it
            put((end, error))

    thread = threading.Thread(target=fill, name="patches", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is end:
                return
            yield item
    finally:
        stop.set()
        thread.join(timeout=30)


def _collate(samples: Sequence[tuple[Tensor, Tensor | None, str]]) -> tuple[Tensor, Tensor | None, tuple[str, ...]]:
    images, classes, ids = zip(*samples, strict=True)
    stacked = None if classes[0] is None else torch.stack(classes)
    return torch.stack(images), stacked, ids
