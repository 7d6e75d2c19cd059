"""The bundle that pretraining leaves, with its report, curves, reconstructions and card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..bundle import Bundle, ModelSpec, open_bundle, save_bundle
from ..device import resolve_device
from ..networks import MaeConfig, MaskedAutoencoder
from ..preprocessing.plan import Preprocessing
from ..storage.atomic_file import write_file
from .data.prepared import PreparedCase
from .description import Description
from .familiarity import familiarity_of
from .finetune import MODEL_FOLDER
from .loop.distributed import Team
from .loop.loop import Progress, Report, Trained
from .loop.results import draw_curves, finite, write_report
from .settings import PretrainSettings
from .tasks.masked import error_statistics, reconstruction_errors, reconstruction_figure

#: Percentiles come from the held-out images alone only if there are this many of them.
ENOUGH_HELD_OUT = 15
PICTURED = 3


@dataclass(frozen=True)
class Pretraining:
    """What is trained, and how it ends up in a bundle. `images` are learnt from; `seen` are those of them at hand.

    `sources` says what it was trained on without names or paths, for the bundle; `names` adds to the run's own report.
    """

    settings: PretrainSettings
    autoencoder: MaeConfig
    preprocessing: Preprocessing
    text: Description
    out: Path
    images: int
    seen: Sequence[PreparedCase]
    held_out: Sequence[PreparedCase]
    sources: Mapping[str, Any]
    names: Mapping[str, Any]

    def new_model(self) -> MaskedAutoencoder:
        torch.manual_seed(self.settings.seed)
        # Stochastic depth harms masked autoencoding; the stored configuration keeps the rate for fine-tuning.
        encoder = replace(self.autoencoder.encoder, drop_path=0.0)
        return MaskedAutoencoder(replace(self.autoencoder, encoder=encoder))

    def finish(self, model: MaskedAutoencoder, trained: Trained, progress: Report, team: Team) -> Bundle:
        """Measure what was learnt, all processes together, and save the model."""
        model.load_state_dict(trained.weights)
        progress(Progress("save", 1.0, step=trained.step, message="Measuring reconstruction errors."))
        statistics = self._statistics(model, team)
        bundle = team.first(lambda: self._save(model, trained, statistics)) or open_bundle(self.out / MODEL_FOLDER)
        progress(Progress("save", 1.0, step=trained.step, message=f"Model saved: {bundle.path}"))
        return bundle

    def _save(self, model: MaskedAutoencoder, trained: Trained, statistics: dict[str, Any]) -> Bundle:
        """Pictures, report and, last, the bundle: where the model folder is, everything is."""
        device = resolve_device(self.settings.device)
        shown = (self.held_out or self.seen)[:PICTURED]
        pictures = {
            "reconstruction.png": reconstruction_figure(model.to(device), shown, self.preprocessing.patch_size, device),
            "curves.png": draw_curves(self.out),
        }
        for name, picture in pictures.items():
            write_file(self.out / name, picture)
        record = {
            "settings": self.settings.to_dict(),
            "steps": trained.step,
            "seconds": round(trained.seconds, 1),
            "device": str(device),
            **self.sources,
        }
        report = {
            "model": {"name": self.text.name, "version": self.text.version},
            **record,
            "reconstruction_error": statistics,
            **self.names,
        }
        write_report(self.out, report)
        return save_bundle(
            self.out / MODEL_FOLDER,
            replace(self._spec(finite(record), finite(statistics)), familiarity=self._familiarity(model)),
            trained.weights,
            card=self._card(trained, statistics),
            licence_text=self.text.licence_text,
            documents=pictures,
        )

    def _statistics(self, model: MaskedAutoencoder, team: Team) -> dict[str, Any]:
        device = resolve_device(self.settings.device)
        enough = len(self.held_out) >= ENOUGH_HELD_OUT
        measured = self.held_out if enough else [*self.seen, *self.held_out]
        errors = reconstruction_errors(model.to(device), measured, self.preprocessing.patch_size, device, team=team)
        return error_statistics(errors, "held-out images" if enough else "all images, most of them trained on")

    def _familiarity(self, model: MaskedAutoencoder) -> dict[str, Any] | None:
        device = resolve_device(self.settings.device)
        return familiarity_of(model.encoder, self.seen or self.held_out, self.preprocessing.patch_size, device)

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
            f"{self.text.heading()}\n\n## Pretraining\nMasked autoencoder, {self.images} images without labels, "
            f"{trained.step} steps of {self.settings.batch_size} patches, {trained.seconds / 60:.0f} minutes. Median "
            f"reconstruction error {statistics['percentiles']['50']:.3f} ({statistics['of']}, "
            f"n = {statistics['images']}).\n\n![Reconstructions](reconstruction.png)\n\n![Curves](curves.png)\n"
        )
