"""The bundle that fine-tuning leaves, with its report, curves and card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..bundle import Bundle, ModelSpec, save_bundle
from ..device import resolve_device
from ..storage.atomic_file import write_file
from .data.holdout import Holdout
from .description import Description
from .finetune_run import FineTuning, Measured
from .loop.loop import Progress, Trained
from .loop.results import dice_markdown, draw_curves, finite, write_report
from .tasks.segmentation import mean_by_label

MODEL_FOLDER = "model"


def save_model(
    run: FineTuning, trained: Trained, measured: Measured | None, holdout: Holdout, text: Description
) -> Bundle:
    """Curves, report and, last, the bundle: where the model folder is, everything is."""
    curves = draw_curves(run.out)
    write_file(run.out / "curves.png", curves)
    metrics = {"validation": measured.to_dict(run.prepared.hashes)} if measured else {}
    training = _training_record(run, trained, holdout)
    report = {
        "model": {"name": text.name, "version": text.version},
        **training,
        **metrics,
        "per_case": None if measured is None else {"before": measured.before, "after": measured.after},
        "trained_on": [case.id for case in holdout.training],
        "label_notes": run.prepared.label_notes,
        "cache": run.prepared.cases.describe(),
    }
    write_report(run.out, report)
    # An autoencoder for another number of channels cannot reconstruct these images.
    autoencoder = run.base.load_autoencoder() if run.channels == len(run.base.spec.channels) else None
    run.progress(Progress("save", 1.0, step=trained.step, message="Describing the training scans."))
    child = replace(_child(run, text, finite(metrics), finite(training)), familiarity=run.familiarity(trained, holdout))
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


def _child(run: FineTuning, text: Description, metrics: dict[str, Any], training: dict[str, Any]) -> ModelSpec:
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
        preprocessing=run.preprocessing,
        inference={**spec.inference, "mirror_axes": _mirror_axes(run)},
        licence=text.licence,
        copyright=text.copyright,
        data_source=text.data_source,
        metrics=metrics,
        training=training,
        parent=run.base.reference,
        authors=text.authors,
        changelog=text.changelog,
    )


def _mirror_axes(run: FineTuning) -> list[int]:
    """Axes along which inference may mirror: there, labels do not change places."""
    sided = None if run.sides is None else run.sides.axis
    return [axis for axis in run.settings.augmentation.flip_axes if axis != sided]


def _training_record(run: FineTuning, trained: Trained, holdout: Holdout) -> dict[str, Any]:
    """For the bundle: hashes instead of names and paths."""
    return {
        "settings": run.settings.to_dict(),
        "steps": trained.step,
        "best_step": trained.best_step if trained.is_best else None,
        "stopped_early": trained.stopped,
        "seconds": round(trained.seconds, 1),
        "device": str(resolve_device(run.settings.device)),
        "cases": [run.prepared.hashes[case.id] for case in holdout.training],
        "held_out_cases": [run.prepared.hashes[case.id] for case in holdout.held_out],
        "notes": [*run.prepared.label_notes, *run.notes],
    }


def _card(text: Description, run: FineTuning, trained: Trained, measured: Measured | None) -> str:
    parts = [text.heading()]
    notes = " ".join((*run.prepared.label_notes, *run.notes))
    parts.append(
        f"## Training\nFine-tuned from `{run.base.name}` {run.base.version} on {len(run.prepared.hashes)} cases "
        f"(including those held out), {trained.step} steps of {run.settings.batch_size} patches, "
        f"{trained.seconds / 60:.0f} minutes. {notes}\n\n![Curves](curves.png)"
    )
    if measured is not None:
        title = f"## Dice on held-out cases ({measured.how}; n = {len(measured.after)}; on the network's grid)"
        if measured.indicative_only:
            title += "\nIndicative only."
        before: Mapping[str, float] | None = None if measured.before is None else mean_by_label(measured.before)
        parts.append(dice_markdown(title, before, mean_by_label(measured.after)))
    return "\n\n".join(parts) + "\n"
