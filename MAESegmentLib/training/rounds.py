"""The trainings of one fine-tuning, the model's own and the rounds of leave-one-out, and what is measured and saved."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..bundle import Bundle
from ..bundle.usage.cleaning import inherited
from ..bundle.usage.sides import KEY as SIDES
from ..bundle.usage.sizes import KEY as VOLUMES
from ..bundle.usage.sizes import volumes_of
from ..cases.case import Case
from ..device import resolve_device
from ..inference.window_count import window_count
from ..networks import NnFormer
from ..preprocessing.plan import Preprocessing
from .before import keep_before, read_before
from .data.annotated_volumes import doubts, volumes_by_case, volumes_entry
from .data.drawing import Drawing
from .data.holdout import Holdout
from .data.labelling import LabelPlan, Sides
from .data.prepared import PreparedCase
from .data.preparing import Prepared
from .data.unlabelled import Unlabelled
from .loop.checkpoint import CHECKPOINT
from .loop.loop import Trained, train
from .loop.pace import Pace, Work, work_after
from .recipe import Description
from .run_context import Progress, RunContext
from .saving import familiarity_of, finite, save_model
from .settings import FineTuneSettings
from .tasks.initial import initial_network
from .tasks.methods import scan_term
from .tasks.segmentation import DiceTable, Measured, SegmentationTask, dice_table
from .timetable import Timetable, part_of_steps

FOLDS = "folds"


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
        context: RunContext,
        scans: Unlabelled | None = None,
    ) -> None:
        self.scans = scans
        self.base, self.plan, self.settings, self.prepared = base, plan, settings, prepared
        self.preprocessing, self.out, self.context = preprocessing, out, context
        self.pace = context.pace or Pace(settings.batch_size)
        self.channels = len(prepared.cases[0].image)
        self.drawing = Drawing.of(settings, preprocessing)
        self.sides = Sides.of(settings.sides, plan.names, preprocessing.orientation)
        network, self.notes = initial_network(base, plan, self.channels, settings)
        self.notes += () if scans is None else (scans.describe(),)
        self.volumes = volumes_by_case(prepared.cases, plan.labels)
        prepared.label_notes.extend(doubts(self.volumes, plan.labels))
        self.network_config = network.config
        self.times = Timetable.of(self.pace, len(prepared.cases), context.team)

    def plan_work(self, holdout: Holdout) -> Holdout:
        """All that `train` and `before_and_after` will do; by time less is measured where there is too little of it."""
        if self.times is not None:
            self.context.report(Progress("before", self.pace.fraction, self.pace.left_s))
            self.times.measure(self._network(), self.channels, self.preprocessing.patch_size, self.settings.device)
            return self.times.fitted(holdout, self._windows, self._passes())
        for training in (holdout, *holdout.folds):
            windows = self._windows(training.held_out)
            measuring = Work(windows=windows * self._passes())
            self.pace.plan(work_after(0, self.settings, windows) + measuring)
        return holdout

    def train(self, holdout: Holdout, folder: Path, fold: tuple[int, int] | None = None) -> Trained:
        """Train and validate in `folder`, after the base was measured on what is held out."""
        windows = self._windows(holdout.checked)
        context = self.context.part(windows, fold)
        self._measure_before(holdout.checked, folder, context)
        network, cases = self._network(), self._cases(holdout.training)
        scans = None
        if self.scans is not None:
            given = self.scans.cases, cases, self.preprocessing.patch_size, self.settings, self.sides
            scans = scan_term(network, self.base, len(self.plan.labels) + 1, *given)
        task = SegmentationTask(
            network,
            cases,
            self._held_out(holdout.checked),
            self.plan.names,
            self.preprocessing.patch_size,
            self.settings,
            identity=self._identity(holdout.training),
            encoder_stages=len(network.config.depths),
            sides=self.sides,
            drawing=self.drawing,
            team=self.context.team,
            scans=scans,
        )
        keep_best = self.settings.keep == "best" and bool(holdout.checked)
        schedule = None
        if self.times is not None:
            schedule = self.times.schedule(self.settings, fold, windows, validates_last=keep_best)
            if self.times.late and not (fold and fold[0]) and not (folder / CHECKPOINT).exists():
                self.prepared.label_notes.extend(self.times.late)
                self.context.log(*(f"Warning: {note}" for note in self.times.late))
        how: dict[str, Any] = {"keep_best": keep_best, "patience": self.settings.patience, "schedule": schedule}
        return train(task, self.settings, folder, context, **how)

    def leave_one_out(self, holdout: Holdout, final: Trained) -> Measured | None:
        """Train once per patient without it. An estimate of what the final model, which saw all, may reach.

        None if the run was stopped before the first fold was finished.
        """
        before: DiceTable = {}
        after: DiceTable = {}
        count = len(holdout.folds)
        if self.times is not None:
            by_pace = final.step * (self.pace.recent_step_s or 0.0)  # with the making of patches
            self.times.final_s = max(final.seconds, by_pace)
        done, steps = 0, 0
        for number, fold in enumerate(holdout.folds):
            folder = self.out / FOLDS / f"{number:02d}"
            if final.stopped or self.context.all_reduce_stop():
                break
            if self.times is not None and not (folder / CHECKPOINT).exists():
                windows = self._passes() * self._windows(fold.held_out)
                if not self.times.has_round(count - number, windows):
                    why = f"Leave-one-out ended after {number} of {count}: the time was too short."
                    self.prepared.label_notes.append(why)
                    break
            self.context.log(f"Leave-one-out {number + 1} of {count}.")
            trained = self.train(fold, folder, (number + 1, count))
            if trained.stopped and self.settings.patience is None:
                break  # half a fold says nothing of the model
            measured = self.before_and_after(trained, fold, folder)
            assert measured is not None
            before.update(measured.before or {})
            after.update(measured.after)
            done, steps = done + 1, steps + trained.step
        if not after:
            return None
        how = "leave-one-out" if done == count else f"leave-one-out, {done} of {count}"
        if self.times is not None and (part := part_of_steps(steps / done, final.step)):
            how += f"; {part}"
        return Measured(before or None, after, how, indicative_only=True)

    def before_and_after(self, trained: Trained, holdout: Holdout, folder: Path) -> Measured | None:
        if not holdout.checked:
            return None
        before = read_before(folder, self._identity(holdout.checked))
        self.pace.start_lap()
        after = self._dice(self._network(trained), holdout.checked)
        self.pace.lap(windows=self._windows(holdout.checked))
        return Measured(before, after, holdout.how, indicative_only=trained.is_best)

    def save(self, trained: Trained, holdout: Holdout, measured: Measured | None, text: Description) -> Bundle:
        self.context.report(Progress("save", 1.0, step=trained.step, message="Describing the training scans."))
        base, label_notes, hashes, scans = self.base, self.prepared.label_notes, self.prepared.hashes, self.scans
        metrics = {} if measured is None else {"validation": measured.to_dict(hashes)}
        notes = [*label_notes, *self.notes]
        card = (
            f"## Training\nFine-tuned from `{base.name}` {base.version} on {len(hashes)} cases (including those held "
            f"out), {trained.step} steps of {self.settings.batch_size} patches, {trained.seconds / 60:.0f} minutes. "
            f"{' '.join(notes)}\n\n![Curves](curves.png)"
        )
        # An autoencoder for another number of channels cannot reconstruct these images.
        same_channels = self.channels == len(base.spec.channels)
        autoencoder = base.load_autoencoder() if same_channels else None
        # The axis across which labels change places is told apart, so that nobody mirrors along it without that.
        axes = self.settings.augmentation.flip_axes
        sides = self.sides if self.sides is not None and self.sides.axis in axes else None
        kept = inherited(base.spec.inference, base.labels, self.plan.labels)
        inference = {
            **kept,
            "mirror_axes": [axis for axis in axes if sides is None or axis != sides.axis],
            **({} if sides is None else {SIDES: sides.to_dict()}),
            VOLUMES: volumes_entry(self.volumes, volumes_of(kept)),
        }
        # Of the trained encoder and what it was shown; nothing of the base's own.
        encoder, device = self._network(trained).encoder, resolve_device(self.settings.device)
        shown = self._cases(holdout.training)
        return save_model(
            self.out,
            "segmentation",
            text,
            trained,
            self.settings,
            self.context,
            sources={
                "best_step": trained.best_step if trained.is_best else None,
                "stopped_early": trained.stopped,
                "cases": [hashes[case.id] for case in holdout.training],
                "held_out_cases": [hashes[case.id] for case in holdout.held_out],
                "notes": notes,
                **({} if scans is None else {"unlabelled": scans.provenance(self.settings.unlabelled_method)}),
            },
            report={
                **metrics,
                "per_case": None if measured is None else {"before": measured.before, "after": measured.after},
                "trained_on": [case.id for case in holdout.training],
                "label_notes": label_notes,
                "cache": self.prepared.cases.describe(),
                "unlabelled_notes": [] if scans is None else [scans.describe(), *scans.warnings()],
            },
            card=card if measured is None else f"{card}\n\n{measured.markdown()}",
            pictures={},
            autoencoder_state=None if autoencoder is None else autoencoder.state_dict(),
            labels=self.plan.labels,
            network=self.network_config,
            autoencoder=base.spec.autoencoder if same_channels else None,
            preprocessing=self.preprocessing,
            inference=inference,
            metrics=finite(metrics),
            parent=base.reference,
            familiarity=familiarity_of(encoder, shown, self.preprocessing.patch_size, device),
        )

    def tidy_folds(self) -> None:
        """Remove their checkpoints; the curves stay."""
        for folder in (self.out / FOLDS).glob("*"):
            (folder / CHECKPOINT).unlink(missing_ok=True)
            shutil.rmtree(folder / "tensorboard", ignore_errors=True)

    def _measure_before(self, held_out: Sequence[Case], folder: Path, context: RunContext) -> None:
        """Once, so that a user sees from the start what is to be beaten."""
        if not held_out or not self._base_knows_labels():
            return
        windows = self._windows(held_out)
        if read_before(folder, self._identity(held_out)) is not None:
            self.pace.skip(Work(windows=windows))
            return
        context.report(Progress("before", self.pace.fraction, self.pace.left_s))
        self.pace.start_lap()
        table = self._dice(self._network(), held_out)
        self.pace.lap(windows=windows)
        identity = self._identity(held_out)
        context.team.first(lambda: keep_before(folder, identity, table))

    def _passes(self) -> int:
        """How often what is held out is measured, besides validations: after training, and before where that can be."""
        return 1 + self._base_knows_labels()

    def _base_knows_labels(self) -> bool:
        """Whether what is started from segments every label already, in images prepared as it knows them."""
        knows = self.base.kind == "segmentation" and None not in self.plan.origins
        knows = knows and self.preprocessing == self.base.spec.preprocessing
        return knows and self.settings.initial_weights == "pretrained"

    @torch.no_grad()
    def _dice(self, network: NnFormer, cases: Sequence[Case]) -> DiceTable:
        device = resolve_device(self.settings.device)
        return dice_table(
            network.to(device).eval(),
            self._held_out(cases),
            self.plan.names,
            self.preprocessing.patch_size,
            device,
            self.settings.validation_overlap,
            self.context.team,
        )

    def _network(self, trained: Trained | None = None) -> NnFormer:
        """As fine-tuning starts from it, or with its trained weights."""
        network, _ = initial_network(self.base, self.plan, self.channels, self.settings)
        if trained is not None:
            network.load_state_dict(trained.weights)
        return network

    def _cases(self, cases: Sequence[Case]) -> list[PreparedCase]:
        return self.prepared.cases.subset([case.id for case in cases])

    def _held_out(self, cases: Sequence[Case]) -> list[PreparedCase]:
        """With images that are drawn once, where images are drawn."""
        prepared = self._cases(cases)
        return prepared if self.drawing is None else self.drawing.held_out(prepared, self.settings)

    def _windows(self, cases: Sequence[Case]) -> int:
        """How many are segmented to measure Dice on these cases."""
        patch, overlap = self.preprocessing.patch_size, self.settings.validation_overlap
        return sum(window_count(case.shape, patch, overlap) for case in self._cases(cases))

    def _identity(self, cases: Sequence[Case]) -> str:
        """Of cases, base and labels: what a checkpoint belongs to."""
        content: list[Any] = [self.base.content_hash, list(self.plan.names)]
        content.append([self.prepared.hashes[case.id] for case in cases])
        unknown = {case.id: list(case.unknown) for case in cases if case.unknown}
        content += [unknown] if unknown else []
        content += [[self.settings.unlabelled_method, self.scans.identity]] if self.scans is not None else []
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
