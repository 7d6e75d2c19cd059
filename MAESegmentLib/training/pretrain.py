"""Pretrain a masked autoencoder on images without labels; the result is a bundle that fine-tuning starts from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from .distributed import SOLO, Team
from .finetune import MODEL_FOLDER, finished_model, make_folder
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
    team: Team = SOLO,
) -> Bundle:
    """Train a masked autoencoder on the images of `cases` and save it as `out`/model (kind "autoencoder").

    Called again with the same arguments after a kill, it goes on from its last checkpoint. All of a `team` call this
    alike; its first process writes, all get the model.
    """
    settings = team.settings(settings or PretrainSettings())
    finished = finished_model(out, settings, None, progress)
    if finished is not None:
        return finished
    if not cases:
        raise DatasetError("There is no image to learn from.")
    make_folder(out)
    cache = CaseCache(settings.cache_gb / team.local_size, team.own_folder(out / "prepared"))
    prepared = prepare_images(cases, preprocessing, cache, progress, should_cancel)
    channels = _check_channels(prepared, autoencoder)
    text = (description or Description()).completed(None, same_labels=False, name=out.name, channels=channels)
    training, held_out = _hold_out(cases, prepared, settings)
    run = _Pretraining(settings, autoencoder, preprocessing, prepared, training, held_out, text, out)
    share = f"{len(training)} images to learn from, {len(held_out)} held out."
    for note in (*prepared.notes, cache.describe(), share, *team.describe(settings)):
        progress(Progress("log", message=note))
    model = run.new_model()
    task = MaskedTask(model, training, held_out, preprocessing.patch_size, settings, run.identity(), team)
    trained = train(task, settings, out, report=progress, should_cancel=should_cancel, team=team)
    model.load_state_dict(trained.weights)
    progress(Progress("save", 1.0, step=trained.step, message="Measuring reconstruction errors."))
    statistics = run.statistics(model, team)
    bundle = team.first(lambda: run.save(model, trained, statistics)) or open_bundle(out / MODEL_FOLDER)
    cache.remove_files()
    progress(Progress("save", 1.0, step=trained.step, message=f"Model saved: {bundle.path}"))
    return bundle


@dataclass(frozen=True)
class _Pretraining:
    """What is trained on what, and how it ends up in a bundle."""

    settings: PretrainSettings
    autoencoder: MaeConfig
    preprocessing: Preprocessing
    prepared: Prepared
    training: list[PreparedCase]
    held_out: list[PreparedCase]
    text: Description
    out: Path

    def new_model(self) -> MaskedAutoencoder:
        torch.manual_seed(self.settings.seed)
        # Stochastic depth harms masked autoencoding; the stored configuration keeps the rate for fine-tuning.
        encoder = replace(self.autoencoder.encoder, drop_path=0.0)
        return MaskedAutoencoder(replace(self.autoencoder, encoder=encoder))

    def identity(self) -> str:
        hashes = [self.prepared.hashes[case.id] for case in self.training]
        content: list[Any] = [self.autoencoder.to_dict(), self.preprocessing.to_dict(), hashes]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def save(self, model: MaskedAutoencoder, trained: Trained, statistics: dict[str, Any]) -> Bundle:
        """Pictures, report and, last, the bundle: where the model folder is, everything is."""
        device = resolve_device(self.settings.device)
        model = model.to(device)
        pictures = {
            "reconstruction.png": reconstruction_figure(
                model, (self.held_out or self.training)[:PICTURED], self.preprocessing.patch_size, device
            ),
            "curves.png": draw_curves(self.out),
        }
        for name, picture in pictures.items():
            write_atomically(self.out / name, picture)
        record = {
            "settings": self.settings.to_dict(),
            "steps": trained.step,
            "seconds": round(trained.seconds, 1),
            "device": str(device),
            "cases": [self.prepared.hashes[case.id] for case in self.training],
            "held_out_cases": [self.prepared.hashes[case.id] for case in self.held_out],
        }
        report = {
            "model": {"name": self.text.name, "version": self.text.version},
            **record,
            "trained_on": [case.id for case in self.training],
            "reconstruction_error": statistics,
            "cache": self.prepared.cases.describe(),
        }
        write_report(self.out, report)
        return save_bundle(
            self.out / MODEL_FOLDER,
            self._spec(finite(record), finite(statistics)),
            trained.weights,
            card=self._card(trained, statistics),
            licence_text=self.text.licence_text,
            documents=pictures,
        )

    def statistics(self, model: MaskedAutoencoder, team: Team) -> dict[str, Any]:
        """Of reconstruction errors, as the bundle keeps them; measured by the `team` together."""
        device = resolve_device(self.settings.device)
        enough = len(self.held_out) >= ENOUGH_HELD_OUT
        measured = self.held_out if enough else [*self.training, *self.held_out]
        errors = reconstruction_errors(model.to(device), measured, self.preprocessing.patch_size, device, team=team)
        return error_statistics(errors, "held-out images" if enough else "all images, most of them trained on")

    def _spec(self, record: dict[str, Any], statistics: dict[str, Any]) -> ModelSpec:
        text = self.text
        return ModelSpec(
            name=text.name,
            version=text.version,
            kind="autoencoder",
            description=text.description,
            intended_use=text.intended_use,
            modality=text.modality,
            channels=text.channels,
            autoencoder=self.autoencoder,
            preprocessing=self.preprocessing,
            licence=text.licence,
            copyright=text.copyright,
            data_source=text.data_source,
            training=record,
            reconstruction_error=statistics,
            authors=text.authors,
            changelog=text.changelog,
        )

    def _card(self, trained: Trained, statistics: dict[str, Any]) -> str:
        return (
            f"{self.text.heading()}\n\n## Pretraining\nMasked autoencoder, {len(self.training)} images without labels, "
            f"{trained.step} steps of {self.settings.batch_size} patches, {trained.seconds / 60:.0f} minutes. Median "
            f"reconstruction error {statistics['percentiles']['50']:.3f} ({statistics['of']}, "
            f"n = {statistics['images']}).\n\n![Reconstructions](reconstruction.png)\n\n![Curves](curves.png)\n"
        )


def median_spacing(cases: Sequence[Case], orientation: str) -> tuple[float, float, float]:
    """Median voxel size of the images in mm, in the order of `orientation`."""
    grids = [NetworkGrid(read_image(case).grid, orientation, (1, 1, 1)) for case in cases]
    d, h, w = (float(round(s, 3)) for s in np.median([grid.canonical_spacing for grid in grids], axis=0))
    return d, h, w


def _check_channels(prepared: Prepared, autoencoder: MaeConfig) -> int:
    found = len(prepared.cases[0].image)
    if found != autoencoder.encoder.in_channels:
        raise ConfigurationError(
            f"The images have {found} channels, the network takes {autoencoder.encoder.in_channels}.",
            f"Set in_channels to {found}.",
        )
    return found


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
