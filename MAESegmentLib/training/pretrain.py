"""Pretrain a masked autoencoder on images without labels; the result is a bundle that fine-tuning starts from.

`pretrain` keeps all images in memory or in a cache on disk; `pretrain_streaming` reads the scans of an archive, which
fits into neither, as they are needed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..bundle import Bundle, open_bundle
from ..cases.case import Case
from ..cases.checks import read_image
from ..device import resolve_device
from ..errors import ConfigurationError, DatasetError
from ..images.archive import ArchivedScan
from ..networks import MaeConfig, MaskedAutoencoder
from ..preprocessing.grid import NetworkGrid
from ..preprocessing.plan import Preprocessing
from .data.archive import Archive
from .data.drawing import Drawing
from .data.prepared import CaseCache, PreparedCase
from .data.preparing import Prepared, prepare_cases
from .data.streaming import SkippedScans, Stream, prepare_scan, reason
from .loop.loop import Trained, train
from .loop.output_folder import ANOTHER_FOLDER, MODEL_FOLDER, DataRecord, claimed, finished_model
from .recipe import Description
from .run_context import UNATTENDED, Progress, RunContext
from .saving import familiarity_of, finite, save_model
from .settings import PretrainSettings
from .tasks.masked import MaskedTask, error_statistics, reconstruction_errors, reconstruction_figure

#: So many scans of an archive are kept in memory to measure on.
KEPT = 32
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
    context: RunContext = UNATTENDED,
) -> Bundle:
    """Train a masked autoencoder on the images of `cases` and save it as `out`/model (kind "autoencoder").

    Called again with the same arguments after a kill, it resumes from its last checkpoint. All of a team call this
    alike; its first process writes, all return the model.
    """
    team = context.team
    settings = team.settings(settings or PretrainSettings())
    if not cases:
        raise DatasetError("There is no image to learn from.")
    data = partial(DataRecord.of, [replace(case, label=None) for case in cases])

    def check_same(finished: Bundle) -> None:
        _check_same_plan(out, finished, autoencoder, preprocessing)
        data().check_same(out, context)

    finished = finished_model(out, settings, None, context, check_same)
    if finished is not None:
        return finished
    with claimed(out, team):
        cache = CaseCache(settings.cache_gb / team.local_size, team.own_folder(out / "prepared"))
        drawing = Drawing.of(settings, preprocessing)
        prepared = prepare_cases(cases, preprocessing, cache, context, tissues=drawing is not None)
        team.first(lambda: data().keep(out))
        channels = len(prepared.cases[0].image)
        _check_channels(channels, autoencoder)
        text = (description or Description()).completed(None, same_labels=False, name=out.name, channels=channels)
        training, held_out = _hold_out(cases, prepared, settings)
        shown = training
        if drawing is not None:
            shown, held_out = drawing.held_out(training, settings), drawing.held_out(held_out, settings)
        hashes = prepared.hashes
        run = Pretraining(
            settings,
            autoencoder,
            preprocessing,
            text,
            out,
            images=len(training),
            seen=shown,
            held_out=held_out,
            identity=[hashes[case.id] for case in training],
            sources={
                "cases": [hashes[case.id] for case in training],
                "held_out_cases": [hashes[case.id] for case in held_out],
            },
            names={"trained_on": [case.id for case in training], "cache": cache.describe()},
            context=context,
        )
        share = f"{len(training)} images to learn from, {len(held_out)} held out."
        context.log(*prepared.notes, cache.describe(), share, *team.describe(settings))
        bundle = run.result(training, drawing=drawing)
        cache.remove_files()
        return bundle


def pretrain_streaming(
    archive: Archive,
    out: Path,
    settings: PretrainSettings,
    *,
    autoencoder: MaeConfig,
    preprocessing: Preprocessing,
    description: Description | None = None,
    context: RunContext = UNATTENDED,
) -> Bundle:
    """Train a masked autoencoder on the scans of `archive` and save it as `out`/model (kind "autoencoder").

    `settings.patches_per_volume` must be set. Scans that cannot be used are noted in `out`/skipped.csv. Called again
    with the same arguments after a kill, it resumes from its last checkpoint. All of a team call this alike, and have
    `claimed` the folder, where `open_archive` has written already.
    """
    team = context.team
    settings = team.settings(settings)

    def check_same(finished: Bundle) -> None:
        _check_same_plan(out, finished, autoencoder, preprocessing)
        if finished.spec.training["archive"]["hash"] != archive.identity:
            raise ConfigurationError(f"{out} holds a finished model of an archive with other scans.", ANOTHER_FOLDER)

    finished = finished_model(out, settings, None, context, check_same)
    if finished is not None:
        return finished
    _check_channels(1, autoencoder)
    stream = Stream(archive.training, preprocessing, settings, out, team)
    context.log(_describe(archive, stream), *team.describe(settings))
    # Without held-out scans, those learnt from must do for the measurements.
    kept, hashes = _keep(archive.held_out or archive.training, preprocessing, stream.skipped, context)
    seen, held_out, held_out_hashes = ((), kept, hashes) if archive.held_out else (kept, (), [])
    run = Pretraining(
        settings,
        autoencoder,
        preprocessing,
        (description or Description()).completed(None, same_labels=False, name=out.name, channels=1),
        out,
        images=len(archive.training),
        seen=seen,
        held_out=held_out,
        identity=archive.identity,
        sources={
            "archive": {"scans": len(archive.scans), "learnt_from": len(archive.training), "hash": archive.identity},
            "held_out_cases": held_out_hashes,
        },
        names={"held_out": [case.id for case in held_out]},
        context=context,
    )

    def report_skipped() -> None:
        if skipped := team.first(stream.skipped.merge):
            context.log(f"{len(skipped)} scans could not be used: {out / 'skipped.csv'}")

    return run.result((), report_skipped, stream=stream)


@dataclass(frozen=True)
class Pretraining:
    """What is trained, and how it ends up in a bundle. `images` are learnt from; `seen` are those of them in memory.

    `identity`, of what is learnt from, is a JSON value. `sources` says for the bundle what it was trained on, without
    names or paths; `names` adds to the run's own report.
    """

    settings: PretrainSettings
    autoencoder: MaeConfig
    preprocessing: Preprocessing
    text: Description
    out: Path
    images: int
    seen: Sequence[PreparedCase]
    held_out: Sequence[PreparedCase]
    identity: Any
    sources: Mapping[str, Any]
    names: Mapping[str, Any]
    context: RunContext

    def result(
        self,
        training: Sequence[PreparedCase],
        when_trained: Callable[[], None] = lambda: None,
        *,
        drawing: Drawing | None = None,
        stream: Stream | None = None,
    ) -> Bundle:
        """Train on cases or on a stream, measure what was learnt, all processes together, and save the model."""
        torch.manual_seed(self.settings.seed)
        # Stochastic depth harms masked autoencoding; the stored configuration keeps the rate for fine-tuning.
        encoder = replace(self.autoencoder.encoder, drop_path=0.0)
        model = MaskedAutoencoder(replace(self.autoencoder, encoder=encoder))
        content: list[Any] = [self.autoencoder.to_dict(), self.preprocessing.to_dict(), self.identity]
        identity = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
        patch, team = self.preprocessing.patch_size, self.context.team
        task = MaskedTask(model, training, self.held_out, patch, self.settings, identity, team, drawing, stream)
        trained = train(task, self.settings, self.out, self.context)
        when_trained()
        model.load_state_dict(trained.weights)
        message = "Measuring reconstruction errors."
        self.context.report(Progress("save", 1.0, step=trained.step, message=message))
        statistics = self._statistics(model)
        return team.first(lambda: self._save(model, trained, statistics)) or open_bundle(self.out / MODEL_FOLDER)

    def _statistics(self, model: MaskedAutoencoder) -> dict[str, Any]:
        device = resolve_device(self.settings.device)
        enough = len(self.held_out) >= ENOUGH_HELD_OUT
        measured = self.held_out if enough else [*self.seen, *self.held_out]
        patch, team = self.preprocessing.patch_size, self.context.team
        errors = reconstruction_errors(model.to(device), measured, patch, device, team=team)
        return error_statistics(errors, "held-out images" if enough else "all images, most of them trained on")

    def _save(self, model: MaskedAutoencoder, trained: Trained, statistics: dict[str, Any]) -> Bundle:
        device, patch = resolve_device(self.settings.device), self.preprocessing.patch_size
        shown = (self.held_out or self.seen)[:PICTURED]
        return save_model(
            self.out,
            "autoencoder",
            self.text,
            trained,
            self.settings,
            self.context,
            sources=self.sources,
            report={"reconstruction_error": statistics, **self.names},
            card=(
                f"## Pretraining\nMasked autoencoder, {self.images} images without labels, {trained.step} steps of "
                f"{self.settings.batch_size} patches, {trained.seconds / 60:.0f} minutes. Median reconstruction error "
                f"{statistics['percentiles']['50']:.3f} ({statistics['of']}, n = {statistics['images']}).\n\n"
                "![Reconstructions](reconstruction.png)\n\n![Curves](curves.png)"
            ),
            pictures={"reconstruction.png": reconstruction_figure(model.to(device), shown, patch, device)},
            autoencoder=self.autoencoder,
            preprocessing=self.preprocessing,
            reconstruction_error=finite(statistics),
            familiarity=familiarity_of(model.encoder, self.seen or self.held_out, patch, device),
        )


def median_spacing(cases: Sequence[Case], orientation: str) -> tuple[float, float, float]:
    """Median voxel size of the images in mm, in the order of `orientation`."""
    grids = [NetworkGrid(read_image(case).grid, orientation, (1, 1, 1)) for case in cases]
    d, h, w = (float(round(s, 3)) for s in np.median([grid.canonical_spacing for grid in grids], axis=0))
    return d, h, w


def _check_channels(found: int, autoencoder: MaeConfig) -> None:
    if found != autoencoder.encoder.in_channels:
        raise ConfigurationError(
            f"The images have {found} channels, the network takes {autoencoder.encoder.in_channels}.",
            f"Set in_channels to {found}.",
        )


def _check_same_plan(out: Path, finished: Bundle, autoencoder: MaeConfig, preprocessing: Preprocessing) -> None:
    spec = finished.spec
    if spec.autoencoder != autoencoder or spec.preprocessing != preprocessing:
        raise ConfigurationError(
            f"{out} holds a finished model of another network or preprocessing (spacing, patch, grey values).",
            ANOTHER_FOLDER,
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


def _keep(
    scans: Sequence[ArchivedScan], preprocessing: Preprocessing, skipped: SkippedScans, context: RunContext
) -> tuple[list[PreparedCase], list[dict[str, str]]]:
    """The first `KEPT` of them that can be used, and the hashes of their voxels."""
    kept: list[PreparedCase] = []
    hashes: list[dict[str, str]] = []
    for scan in scans:
        if len(kept) == KEPT:
            break
        context.check_cancelled()
        context.report(Progress("prepare", len(kept) / KEPT, message=scan.name))
        try:
            case, image_hash = prepare_scan(scan, preprocessing)
        except Exception as error:  # readers let errors of any kind of a broken file through
            skipped.note([(scan.name, reason(error))])
            continue
        kept.append(case)
        hashes.append({"image": image_hash})
    if not kept:
        raise DatasetError("None of the scans could be read.", f"{skipped.file} says why.")
    return kept, hashes


def _describe(archive: Archive, stream: Stream) -> str:
    settings = stream.settings
    patches = settings.steps * settings.batch_size
    assert settings.patches_per_volume is not None
    rounds = patches / settings.patches_per_volume / len(archive.training)
    return (
        f"{len(archive.training)} scans to learn from, {len(archive.held_out)} held out. {patches} patches, "
        f"{settings.patches_per_volume} each time a scan is read: {rounds:.2g} times through the archive. "
        f"About {stream.megabytes:.2g} MB of patches are kept in memory."
    )
