"""Fine-tune a bundle on labelled cases; the result is a new bundle, child of the first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..bundle import Bundle, ModelSpec, open_bundle, save_bundle
from ..cases.dataset import Case, CaseDataset
from ..errors import ConfigurationError, OutputError
from ..inference.device import resolve_device
from ..networks import NnFormer
from .description import Description
from .holdout import Holdout, plan_holdout
from .initial import initial_network
from .labelling import LabelPlan, plan_labels
from .loop import Progress, Report, ShouldCancel, Trained, ignore, train
from .prepared import CaseCache, PreparedCase
from .preparing import Prepared, prepare_labelled
from .results import dice_markdown, draw_curves, finite, write_atomically, write_report
from .segmentation import DiceTable, SegmentationTask, dice_table, mean_by_label, mean_dice
from .settings import FineTuneSettings, LoopSettings

MODEL_FOLDER = "model"


def finetune(
    dataset: CaseDataset,
    base: Bundle,
    out: Path,
    settings: FineTuneSettings | None = None,
    *,
    split: str | None = None,
    validation: str = "auto",
    labels: Sequence[str] | None = None,
    description: Description | None = None,
    progress: Report = ignore,
    should_cancel: ShouldCancel = lambda: False,
) -> Bundle:
    """Train on the `split` of `dataset` (None: every case with a label map) and save the model as `out`/model.

    `labels` are those to learn (None: all of the dataset). `validation`: see `plan_holdout`. Called again with the same
    arguments after a kill, it goes on from its last checkpoint; after the end, it returns the finished model.
    """
    settings = settings or FineTuneSettings()
    description = description or Description()
    finished = finished_model(out, settings, base.reference, progress)
    if finished is not None:
        return finished
    make_folder(out)
    holdout = plan_holdout(dataset, split, validation, settings.seed)
    plan = plan_labels(dataset.labels, base.labels, labels, description.labels)
    cache = CaseCache(settings.cache_gb, out / "prepared")
    prepared = prepare_labelled(
        holdout.cases, dataset.labels, plan, base.spec.preprocessing, cache, progress, should_cancel
    )
    same_labels = {label.name for label in base.labels} == set(plan.names)
    channels = len(cache[0].image)
    text = description.completed(base, same_labels=same_labels, name=dataset.name, channels=channels)
    run = _FineTuning(base, plan, settings, prepared, out, progress, should_cancel)
    run.say(*prepared.notes, cache.describe(), f"Held out: {holdout.how}.", *run.notes)
    measured = run.leave_one_out(holdout) if holdout.folds else None
    trained = run.train(holdout.training, holdout.held_out, out)
    if measured is None:
        measured = run.before_and_after(trained, holdout)
    bundle = _save(run, trained, measured, holdout, text)
    cache.remove_files()
    return bundle


@dataclass(frozen=True)
class Measured:
    """Dice on cases the model never saw: of the base (None where it lacks the labels) and of the new model."""

    before: DiceTable | None
    after: DiceTable
    how: str
    indicative_only: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Case ids are left out, because this goes into the bundle."""
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
        }


class _FineTuning:
    """One base, one plan, one set of prepared cases: what every fold and the final run share."""

    def __init__(
        self,
        base: Bundle,
        plan: LabelPlan,
        settings: FineTuneSettings,
        prepared: Prepared,
        out: Path,
        progress: Report,
        should_cancel: ShouldCancel,
    ) -> None:
        self.base, self.plan, self.settings, self.prepared = base, plan, settings, prepared
        self.out, self.progress, self.should_cancel = out, progress, should_cancel
        self.channels = len(prepared.cases[0].image)
        self.patch_size = base.spec.preprocessing.patch_size
        network, self.notes = self._network()
        self.network_config = network.config

    def train(
        self, training: Sequence[Case], held_out: Sequence[Case], folder: Path, share: tuple[float, float] = (0.0, 1.0)
    ) -> Trained:
        """`share` is the part of the whole work that this run is, for the progress."""
        network, _ = self._network()
        task = SegmentationTask(
            network,
            self._cases(training),
            self._cases(held_out),
            self.plan.names,
            self.patch_size,
            self.settings,
            identity=self._identity(training),
            encoder_stages=len(network.config.depths),
        )
        first, last = share

        def report(progress: Progress) -> None:
            fraction = first + progress.fraction * (last - first)
            eta = progress.eta_s
            if eta is not None and progress.fraction < 1:  # this run's part of what is left
                eta *= (1 - fraction) / ((1 - progress.fraction) * (last - first))
            self.progress(replace(progress, fraction=fraction, eta_s=eta))

        keep_best = self.settings.keep == "best" and bool(held_out)
        return train(task, self.settings, folder, keep_best=keep_best, report=report, should_cancel=self.should_cancel)

    def leave_one_out(self, holdout: Holdout) -> Measured:
        """Train once per patient without it. An estimate of what the final model, which sees all, may reach."""
        before: DiceTable = {}
        after: DiceTable = {}
        count = len(holdout.folds)
        for number, (training, held_out) in enumerate(holdout.folds):
            folder = self.out / "folds" / f"{number:02d}"
            share = (number / (count + 1), (number + 1) / (count + 1))
            self.say(f"Leave-one-out {number + 1} of {count}: without {held_out[0].group}.")
            trained = self.train(training, held_out, folder, share)
            measured = self.before_and_after(trained, Holdout(tuple(training), tuple(held_out)))
            assert measured is not None
            before.update(measured.before or {})
            after.update(measured.after)
        return Measured(before or None, after, "leave-one-out", indicative_only=True)

    def before_and_after(self, trained: Trained, holdout: Holdout) -> Measured | None:
        if not holdout.held_out:
            return None
        cases = self._cases(holdout.held_out)
        network, _ = self._network()
        before = None
        knows_labels = self.base.kind == "segmentation" and None not in self.plan.origins
        if knows_labels and self.settings.initial_weights == "pretrained":
            before = self._dice(network, cases)
        network.load_state_dict(trained.weights)
        indicative = self.settings.keep == "best"
        return Measured(before, self._dice(network, cases), holdout.how, indicative_only=indicative)

    def say(self, *messages: str) -> None:
        for message in messages:
            self.progress(Progress("log", message=message))

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
            )

    def _network(self) -> tuple[NnFormer, tuple[str, ...]]:
        return initial_network(self.base, self.plan, self.channels, self.settings)

    def _cases(self, cases: Sequence[Case]) -> list[PreparedCase]:
        return self.prepared.cases.subset([case.id for case in cases])

    def _identity(self, training: Sequence[Case]) -> str:
        content = [self.base.content_hash, list(self.plan.names), [self.prepared.hashes[case.id] for case in training]]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _save(run: _FineTuning, trained: Trained, measured: Measured | None, holdout: Holdout, text: Description) -> Bundle:
    """Curves, report and, last, the bundle: where the model folder is, everything is."""
    curves = draw_curves(run.out)
    write_atomically(run.out / "curves.png", curves)
    metrics = {"validation": measured.to_dict()} if measured else {}
    training = _training_record(run, trained, holdout)
    report = {
        "model": {"name": text.name, "version": text.version},
        **training,
        **metrics,
        "per_case": None if measured is None else {"before": measured.before, "after": measured.after},
        "trained_on": [case.id for case in holdout.training],
        "cache": run.prepared.cases.describe(),
    }
    write_report(run.out, report)
    # An autoencoder for another number of channels cannot reconstruct these images.
    autoencoder = run.base.load_autoencoder() if run.channels == len(run.base.spec.channels) else None
    child = _child(run, text, finite(metrics), finite(training))
    bundle = save_bundle(
        run.out / MODEL_FOLDER,
        child,
        trained.weights,
        autoencoder_state=None if autoencoder is None else autoencoder.state_dict(),
        card=_card(text, run, trained, measured),
        licence_text=text.licence_text,
        documents={"curves.png": curves},
    )
    run.progress(Progress("save", 1.0, step=trained.step, message=f"Model saved: {bundle.path}"))
    return bundle


def _child(run: _FineTuning, text: Description, metrics: dict[str, Any], training: dict[str, Any]) -> ModelSpec:
    spec = run.base.spec
    same_channels = run.channels == len(spec.channels)
    return ModelSpec(
        name=text.name,
        version=text.version,
        kind="segmentation",
        description=text.description,
        intended_use=text.intended_use,
        modality=text.modality,
        channels=text.channels,
        labels=run.plan.labels,
        network=run.network_config,
        autoencoder=spec.autoencoder if same_channels else None,
        preprocessing=spec.preprocessing,
        inference={**spec.inference, "mirror_axes": list(run.settings.augmentation.flip_axes)},
        licence=text.licence,
        copyright=text.copyright,
        data_source=text.data_source,
        metrics=metrics,
        training=training,
        reconstruction_error=spec.reconstruction_error if same_channels else None,
        parent=run.base.reference,
        authors=text.authors,
        changelog=text.changelog,
    )


def _training_record(run: _FineTuning, trained: Trained, holdout: Holdout) -> dict[str, Any]:
    """For the bundle: hashes instead of names and paths."""
    return {
        "settings": run.settings.to_dict(),
        "steps": trained.step,
        "best_step": trained.best_step if run.settings.keep == "best" else None,
        "seconds": round(trained.seconds, 1),
        "device": str(resolve_device(run.settings.device)),
        "cases": [run.prepared.hashes[case.id] for case in holdout.training],
        "held_out_cases": [run.prepared.hashes[case.id] for case in holdout.held_out],
        "notes": list(run.notes),
    }


def _card(text: Description, run: _FineTuning, trained: Trained, measured: Measured | None) -> str:
    parts = [text.heading()]
    parts.append(
        f"## Training\nFine-tuned from `{run.base.name}` {run.base.version} on {len(run.prepared.hashes)} cases "
        f"(including those held out), {trained.step} steps of {run.settings.batch_size} patches, "
        f"{trained.seconds / 60:.0f} minutes. {' '.join(run.notes)}\n\n![Curves](curves.png)"
    )
    if measured is not None:
        title = f"## Dice on held-out cases ({measured.how}; n = {len(measured.after)}; on the network's grid)"
        if measured.indicative_only:
            title += "\nIndicative only."
        before: Mapping[str, float] | None = None if measured.before is None else mean_by_label(measured.before)
        parts.append(dice_markdown(title, before, mean_by_label(measured.after)))
    return "\n\n".join(parts) + "\n"


def finished_model(
    out: Path, settings: LoopSettings, parent: Mapping[str, str] | None, progress: Report
) -> Bundle | None:
    """The model in a run folder that is through; refuses one that another base or other settings led to."""
    path = out / MODEL_FOLDER
    if not path.is_dir():
        return None
    bundle = open_bundle(path)
    stored = type(settings).from_dict(dict(bundle.spec.training["settings"]))
    if bundle.parent != parent or stored.fingerprint() != settings.fingerprint():
        raise ConfigurationError(
            f"{path} holds a finished model of another base or other settings.", "Give another output folder."
        )
    progress(Progress("log", 1.0, message=f"{path} is there already; nothing is left to do."))
    return bundle


def make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {out} cannot be made: {error.strerror}.", "Choose another --out.") from error
