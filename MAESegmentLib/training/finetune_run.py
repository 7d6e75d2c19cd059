"""The work of one fine-tuning: the model itself, its folds, and Dice before and after on cases it never saw."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..bundle import Bundle
from ..cases.case import Case
from ..device import resolve_device
from ..networks import NnFormer
from ..preprocessing.plan import Preprocessing
from ..storage.atomic_file import write_file
from .data.drawing import Drawing
from .data.holdout import Holdout
from .data.labelling import LabelPlan
from .data.prepared import PreparedCase
from .data.preparing import Prepared
from .data.sides import Sides
from .familiarity import familiarity_of
from .loop.checkpoint import CHECKPOINT
from .loop.distributed import SOLO, Team
from .loop.loop import Progress, Report, ShouldCancel, ShouldStop, Trained, train
from .loop.results import finite
from .settings import FineTuneSettings
from .tasks.initial import initial_network
from .tasks.segmentation import DiceTable, SegmentationTask, dice_table, mean_by_label, mean_dice

#: Dice of the base on the held-out cases of a folder, measured before training begins.
BEFORE = "before.json"
FOLDS = "folds"


@dataclass(frozen=True)
class Measured:
    """Dice on cases the model never saw: of the base (None where it lacks the labels) and of the new model."""

    before: DiceTable | None
    after: DiceTable
    how: str
    indicative_only: bool = False

    def to_dict(self, hashes: dict[str, dict[str, str]]) -> dict[str, Any]:
        """For the bundle: cases by the hashes of their voxels, because their ids may be names."""
        before = None if self.before is None else mean_by_label(self.before)
        return {
            "held_out": self.how,
            "cases": len(self.after),
            "grid": "network",
            "indicative_only": self.indicative_only,
            "dice_before": before,
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


class FineTuning:
    """One base, one plan, one set of prepared cases: what every fold and the final run share."""

    def __init__(
        self,
        base: Bundle,
        plan: LabelPlan,
        preprocessing: Preprocessing,
        settings: FineTuneSettings,
        prepared: Prepared,
        out: Path,
        progress: Report,
        should_cancel: ShouldCancel,
        should_stop: ShouldStop,
        team: Team = SOLO,
    ) -> None:
        self.base, self.plan, self.settings, self.prepared = base, plan, settings, prepared
        self.preprocessing = preprocessing
        self.out, self.progress, self.should_cancel, self.should_stop = out, progress, should_cancel, should_stop
        self.team = team
        self.channels = len(prepared.cases[0].image)
        self.patch_size = preprocessing.patch_size
        self.drawing = Drawing.of(settings, preprocessing)
        self.sides = Sides.of(settings.sides, plan.names, preprocessing.orientation)
        network, self.notes = self._network()
        self.network_config = network.config

    def train(
        self,
        training: Sequence[Case],
        held_out: Sequence[Case],
        folder: Path,
        share: tuple[float, float] = (0.0, 1.0),
        fold: tuple[int, int] | None = None,
    ) -> Trained:
        """`share` is the part of the whole work that this run is, for the progress."""
        first, last = share
        self._measure_before(held_out, folder, Progress("before", first, fold=fold))
        network, _ = self._network()
        task = SegmentationTask(
            network,
            self._cases(training),
            self._held_out(held_out),
            self.plan.names,
            self.patch_size,
            self.settings,
            identity=self._identity(training),
            encoder_stages=len(network.config.depths),
            sides=self.sides,
            drawing=self.drawing,
            team=self.team,
        )

        def report(progress: Progress) -> None:
            fraction = first + progress.fraction * (last - first)
            eta = progress.eta_s
            if eta is not None and progress.fraction < 1:  # this run's part of what is left
                eta *= (1 - fraction) / ((1 - progress.fraction) * (last - first))
            self.progress(replace(progress, fraction=fraction, eta_s=eta, fold=fold))

        return train(
            task,
            self.settings,
            folder,
            keep_best=self.settings.keep == "best" and bool(held_out),
            patience=self.settings.patience,
            report=report,
            should_cancel=self.should_cancel,
            should_stop=self.should_stop,
            team=self.team,
        )

    def leave_one_out(self, holdout: Holdout, final: Trained) -> Measured | None:
        """Train once per patient without it. An estimate of what the final model, which saw all, may reach.

        None if the run was stopped before the first was through.
        """
        before: DiceTable = {}
        after: DiceTable = {}
        count = len(holdout.folds)
        done = 0
        for number, (training, held_out) in enumerate(holdout.folds):
            if final.stopped or self.team.any(self.should_stop()):
                break
            folder = self.out / FOLDS / f"{number:02d}"
            share = ((number + 1) / (count + 1), (number + 2) / (count + 1))
            self.say(f"Leave-one-out {number + 1} of {count}.")
            trained = self.train(training, held_out, folder, share, (number + 1, count))
            if trained.stopped and self.settings.patience is None:
                break  # half a fold says nothing of the model
            measured = self.before_and_after(trained, Holdout(tuple(training), tuple(held_out)), folder)
            assert measured is not None
            before.update(measured.before or {})
            after.update(measured.after)
            done += 1
        if not after:
            return None
        how = "leave-one-out" if done == count else f"leave-one-out, {done} of {count}"
        return Measured(before or None, after, how, indicative_only=True)

    def before_and_after(self, trained: Trained, holdout: Holdout, folder: Path) -> Measured | None:
        if not holdout.held_out:
            return None
        network, _ = self._network()
        network.load_state_dict(trained.weights)
        before = self._read_before(holdout.held_out, folder)
        after = self._dice(network, self._held_out(holdout.held_out))
        return Measured(before, after, holdout.how, indicative_only=trained.is_best)

    def familiarity(self, trained: Trained, holdout: Holdout) -> dict[str, Any] | None:
        """What the training scans are like to the trained encoder; nothing of the base's own."""
        network, _ = self._network()
        network.load_state_dict(trained.weights)
        device = resolve_device(self.settings.device)
        return familiarity_of(network.encoder, self._cases(holdout.training), self.patch_size, device)

    def tidy_folds(self) -> None:
        """Remove their checkpoints; the curves stay."""
        for folder in (self.out / FOLDS).glob("*"):
            (folder / CHECKPOINT).unlink(missing_ok=True)
            shutil.rmtree(folder / "tensorboard", ignore_errors=True)

    def say(self, *messages: str) -> None:
        for message in messages:
            self.progress(Progress("log", message=message))

    def _measure_before(self, held_out: Sequence[Case], folder: Path, progress: Progress) -> None:
        """Once, so that a person sees from the start what is to be beaten."""
        if not held_out or not self._base_knows_labels() or self._read_before(held_out, folder) is not None:
            return
        self.progress(progress)
        network, _ = self._network()
        table = self._dice(network, self._held_out(held_out))
        means = {**mean_by_label(table), "mean": mean_dice(table)}
        content = {
            "identity": self._identity(held_out),
            "table": finite(table),
            "by_label": {name: value for name, value in means.items() if math.isfinite(value)},
        }

        def write() -> None:
            folder.mkdir(parents=True, exist_ok=True)
            write_file(folder / BEFORE, json.dumps(content).encode())

        self.team.first(write)

    def _read_before(self, held_out: Sequence[Case], folder: Path) -> DiceTable | None:
        try:
            content = json.loads((folder / BEFORE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if content.get("identity") != self._identity(held_out):
            return None
        return {
            case: {label: math.nan if value is None else float(value) for label, value in row.items()}
            for case, row in content["table"].items()
        }

    def _base_knows_labels(self) -> bool:
        """Whether what is started from segments every label already, in images prepared as it knows them."""
        knows = self.base.kind == "segmentation" and None not in self.plan.origins
        knows = knows and self.preprocessing == self.base.spec.preprocessing
        return knows and self.settings.initial_weights == "pretrained"

    def _dice(self, network: NnFormer, cases: Sequence[PreparedCase]) -> DiceTable:
        device = resolve_device(self.settings.device)
        with torch.no_grad():
            return dice_table(
                network.to(device).eval(),
                cases,
                self.plan.names,
                self.patch_size,
                device,
                self.settings.validation_overlap,
                self.team,
            )

    def _network(self) -> tuple[NnFormer, tuple[str, ...]]:
        return initial_network(self.base, self.plan, self.channels, self.settings)

    def _cases(self, cases: Sequence[Case]) -> list[PreparedCase]:
        return self.prepared.cases.subset([case.id for case in cases])

    def _held_out(self, cases: Sequence[Case]) -> list[PreparedCase]:
        """With images that are drawn once, where images are drawn."""
        prepared = self._cases(cases)
        return prepared if self.drawing is None else self.drawing.held_out(prepared, self.settings)

    def _identity(self, cases: Sequence[Case]) -> str:
        """Of cases, base and labels: what a checkpoint belongs to."""
        content: list[Any] = [self.base.content_hash, list(self.plan.names)]
        content.append([self.prepared.hashes[case.id] for case in cases])
        unknown = {case.id: list(case.unknown) for case in cases if case.unknown}
        content += [unknown] if unknown else []
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
