"""The bundle that fine-tuning leaves, with its report, curves and card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bundle import Bundle, save_bundle
from ..device import resolve_device
from ..images.labels import Label
from ..networks import NnFormerConfig
from ..preprocessing.plan import Preprocessing
from ..storage.atomic_file import write_file
from .data.holdout import Holdout
from .data.preparing import Prepared
from .description import Description
from .loop.loop import Trained
from .loop.output_folder import MODEL_FOLDER
from .loop.results import dice_markdown, draw_curves, finite, write_report
from .settings import FineTuneSettings
from .tasks.segmentation import DiceTable, mean_by_label, mean_dice


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


@dataclass(frozen=True, kw_only=True)
class FineTuned:
    """A trained model, what it was made of and how good it is. `notes` go into the bundle: they name no case."""

    base: Bundle
    labels: tuple[Label, ...]
    network: NnFormerConfig
    preprocessing: Preprocessing
    channels: int
    settings: FineTuneSettings
    #: The axis along which labels change places in a mirrored patch.
    side_axis: int | None
    prepared: Prepared
    notes: tuple[str, ...]
    out: Path
    holdout: Holdout
    trained: Trained
    measured: Measured | None
    text: Description


def save_model(model: FineTuned, familiarity: dict[str, Any] | None) -> Bundle:
    """Curves, report and, last, the bundle: where the model folder is, everything is."""
    measured, prepared, text, base = model.measured, model.prepared, model.text, model.base
    curves = draw_curves(model.out)
    write_file(model.out / "curves.png", curves)
    metrics = {} if measured is None else {"validation": measured.to_dict(prepared.hashes)}
    training = _training_record(model)
    write_report(
        model.out,
        {
            "model": {"name": text.name, "version": text.version},
            **training,
            **metrics,
            "per_case": None if measured is None else {"before": measured.before, "after": measured.after},
            "trained_on": [case.id for case in model.holdout.training],
            "label_notes": prepared.label_notes,
            "cache": prepared.cases.describe(),
        },
    )
    # An autoencoder for another number of channels cannot reconstruct these images.
    same_channels = model.channels == len(base.spec.channels)
    autoencoder = base.load_autoencoder() if same_channels else None
    axes = [axis for axis in model.settings.augmentation.flip_axes if axis != model.side_axis]
    spec = text.spec(
        "segmentation",
        labels=model.labels,
        network=model.network,
        autoencoder=base.spec.autoencoder if same_channels else None,
        preprocessing=model.preprocessing,
        inference={**base.spec.inference, "mirror_axes": axes},
        metrics=finite(metrics),
        training=finite(training),
        parent=base.reference,
        familiarity=familiarity,
    )
    return save_bundle(
        model.out / MODEL_FOLDER,
        spec,
        model.trained.weights,
        autoencoder_state=None if autoencoder is None else autoencoder.state_dict(),
        card=_card(model),
        licence_text=text.licence_text,
        documents={"curves.png": curves},
    )


def _training_record(model: FineTuned) -> dict[str, Any]:
    """For the bundle: hashes instead of names and paths."""
    trained, hashes = model.trained, model.prepared.hashes
    return {
        "settings": model.settings.to_dict(),
        "steps": trained.step,
        "best_step": trained.best_step if trained.is_best else None,
        "stopped_early": trained.stopped,
        "seconds": round(trained.seconds, 1),
        "device": str(resolve_device(model.settings.device)),
        "cases": [hashes[case.id] for case in model.holdout.training],
        "held_out_cases": [hashes[case.id] for case in model.holdout.held_out],
        "notes": list(model.notes),
    }


def _card(model: FineTuned) -> str:
    trained, base = model.trained, model.base
    parts = [
        model.text.heading(),
        f"## Training\nFine-tuned from `{base.name}` {base.version} on {len(model.prepared.hashes)} cases "
        f"(including those held out), {trained.step} steps of {model.settings.batch_size} patches, "
        f"{trained.seconds / 60:.0f} minutes. {' '.join(model.notes)}\n\n![Curves](curves.png)",
    ]
    if model.measured is not None:
        parts.append(model.measured.markdown())
    return "\n\n".join(parts) + "\n"
