"""Pretrain a masked autoencoder on images without labels; the result is a bundle that fine-tuning starts from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..bundle import Bundle, ModelSpec, open_bundle, save_bundle
from ..cases.checks import read_image
from ..cases.dataset import Case
from ..errors import ConfigurationError, DatasetError
from ..inference.device import resolve_device
from ..networks import MaeConfig, MaskedAutoencoder
from ..transforms.grid import NetworkGrid
from ..transforms.preprocessing import Preprocessing
from .description import Description
from .finetune import MODEL_FOLDER, make_folder
from .loop import Progress, Report, ShouldCancel, Trained, ignore, train
from .masked import MaskedTask, error_statistics, reconstruction_errors, reconstruction_figure
from .prepared import CaseCache, PreparedCase
from .preparing import Prepared, prepare_images
from .results import draw_curves, finite, write_atomically, write_report
from .settings import PretrainSettings

#: Percentiles come from the held-out images alone only if there are this many of them.
ENOUGH_HELD_OUT = 15
PICTURED = 3


def pretrain(
    cases: Sequence[Case],
    out: Path,
    settings: PretrainSettings | None = None,
    *,
    autoencoder: MaeConfig,
    preprocessing: Preprocessing,
    description: Description | None = None,
    progress: Report = ignore,
    should_cancel: ShouldCancel = lambda: False,
) -> Bundle:
    """Train a masked autoencoder on the images of `cases` and save it as `out`/model (kind "autoencoder").

    Called again with the same arguments after a kill, it goes on from its last checkpoint.
    """
    settings = settings or PretrainSettings()
    if (out / MODEL_FOLDER).is_dir():
        progress(Progress("log", 1.0, message=f"{out / MODEL_FOLDER} is there already; nothing is left to do."))
        return open_bundle(out / MODEL_FOLDER)
    if not cases:
        raise DatasetError("There is no image to learn from.")
    make_folder(out)
    cache = CaseCache(settings.cache_gb, out / "prepared")
    prepared = prepare_images(cases, preprocessing, cache, progress, should_cancel)
    _check_channels(prepared, autoencoder)
    training, held_out = _hold_out(cases, prepared, settings)
    notes = [*prepared.notes, cache.describe(), f"{len(training)} images to learn from, {len(held_out)} held out."]
    for note in notes:
        progress(Progress("log", message=note))

    torch.manual_seed(settings.seed)
    # Stochastic depth harms masked autoencoding; the stored configuration keeps the rate for fine-tuning.
    encoder = replace(autoencoder.encoder, drop_path=0.0)
    model = MaskedAutoencoder(replace(autoencoder, encoder=encoder))
    identity = _identity(prepared, training, autoencoder, preprocessing)
    task = MaskedTask(model, training, held_out, preprocessing.patch_size, settings, identity)
    trained = train(task, settings, out, report=progress, should_cancel=should_cancel)
    model.load_state_dict(trained.weights)
    return _save(
        model, trained, settings, prepared, training, held_out, autoencoder, preprocessing, out, description, progress
    )


def median_spacing(cases: Sequence[Case], orientation: str) -> tuple[float, float, float]:
    """Median voxel size of the images in mm, in the order of `orientation`."""
    grids = [NetworkGrid(read_image(case).grid, orientation, (1, 1, 1)) for case in cases]
    d, h, w = (float(round(s, 3)) for s in np.median([grid.canonical_spacing for grid in grids], axis=0))
    return d, h, w


def _check_channels(prepared: Prepared, autoencoder: MaeConfig) -> None:
    found = len(prepared.cases[0].image)
    if found != autoencoder.encoder.in_channels:
        raise ConfigurationError(
            f"The images have {found} channels, the network takes {autoencoder.encoder.in_channels}.",
            f"Set in_channels to {found}.",
        )


def _hold_out(
    cases: Sequence[Case], prepared: Prepared, settings: PretrainSettings
) -> tuple[list[PreparedCase], list[PreparedCase]]:
    """Training and held-out images, patient by patient."""
    groups = list(dict.fromkeys(case.group for case in cases))
    count = round(settings.held_out * len(groups))
    order = np.random.default_rng((settings.seed, 11)).permutation(len(groups))
    held = {groups[int(i)] for i in order[:count]} if count < len(groups) else set()
    training = prepared.cases.subset([case.id for case in cases if case.group not in held])
    return training, prepared.cases.subset([case.id for case in cases if case.group in held])


def _identity(
    prepared: Prepared, training: Sequence[PreparedCase], autoencoder: MaeConfig, preprocessing: Preprocessing
) -> str:
    content: list[Any] = [
        autoencoder.to_dict(),
        preprocessing.to_dict(),
        [prepared.hashes[case.id] for case in training],
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _save(
    model: MaskedAutoencoder,
    trained: Trained,
    settings: PretrainSettings,
    prepared: Prepared,
    training: Sequence[PreparedCase],
    held_out: Sequence[PreparedCase],
    autoencoder: MaeConfig,
    preprocessing: Preprocessing,
    out: Path,
    description: Description | None,
    progress: Report,
) -> Bundle:
    device = resolve_device(settings.device)
    model = model.to(device)
    progress(Progress("save", 1.0, step=trained.step, message="Measuring reconstruction errors."))
    enough = len(held_out) >= ENOUGH_HELD_OUT
    measured = held_out if enough else [*training, *held_out]
    errors = reconstruction_errors(model, measured, preprocessing.patch_size, device)
    statistics = error_statistics(errors, "held-out images" if enough else "all images, most of them trained on")
    figure = reconstruction_figure(model, (held_out or training)[:PICTURED], preprocessing.patch_size, device)
    curves = draw_curves(out)
    write_atomically(out / "curves.png", curves)
    write_atomically(out / "reconstruction.png", figure)
    record = {
        "settings": settings.to_dict(),
        "steps": trained.step,
        "seconds": round(trained.seconds, 1),
        "device": str(device),
        "cases": [prepared.hashes[case.id] for case in training],
        "held_out_cases": [prepared.hashes[case.id] for case in held_out],
    }
    text = (description or Description()).completed(
        None, same_labels=False, name=out.name, channels=autoencoder.encoder.in_channels
    )
    report = {
        "model": {"name": text.name, "version": text.version},
        **record,
        "trained_on": [case.id for case in training],
        "reconstruction_error": statistics,
        "cache": prepared.cases.describe(),
    }
    write_report(out, report)
    card = text.card or f"# {text.name} {text.version}\n\n{text.description}\n\n{text.intended_use}"
    card += (
        f"\n\n## Pretraining\nMasked autoencoder, {len(training)} images without labels, {trained.step} steps of "
        f"{settings.batch_size} patches, {trained.seconds / 60:.0f} minutes. Median reconstruction error "
        f"{statistics['percentiles']['50']:.3f} ({statistics['of']}, n = {statistics['images']}).\n\n"
        "![Reconstructions](reconstruction.png)\n\n![Curves](curves.png)\n"
    )
    spec = ModelSpec(
        name=text.name,
        version=text.version,
        kind="autoencoder",
        description=text.description,
        intended_use=text.intended_use,
        modality=text.modality,
        channels=text.channels,
        autoencoder=autoencoder,
        preprocessing=preprocessing,
        licence=text.licence,
        copyright=text.copyright,
        data_source=text.data_source,
        training=finite(record),
        reconstruction_error=finite(statistics),
        authors=text.authors,
        changelog=text.changelog,
    )
    bundle = save_bundle(
        out / MODEL_FOLDER,
        spec,
        trained.weights,
        card=card,
        licence_text=text.licence_text,
        documents={"curves.png": curves, "reconstruction.png": figure},
    )
    progress(Progress("save", 1.0, step=trained.step, message=f"Model saved: {bundle.path}"))
    return bundle
