"""Pretrain a masked autoencoder on images without labels; the result is a bundle that fine-tuning starts from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..bundle import Bundle
from ..cases.case import Case
from ..cases.checks import read_image
from ..errors import ConfigurationError, DatasetError
from ..networks import MaeConfig
from ..preprocessing.grid import NetworkGrid
from ..preprocessing.plan import Preprocessing
from .data.drawing import Drawing
from .data.prepared import CaseCache, PreparedCase
from .data.preparing import Prepared, prepare_images
from .description import Description
from .loop.distributed import SOLO, Team
from .loop.loop import Progress, Report, ShouldCancel, ignore, train
from .loop.output_folder import DataRecord, check_same_plan, claimed, finished_model, tell_finished
from .pretrained_model import Pretraining
from .settings import PretrainSettings
from .tasks.masked import MaskedTask


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
    if not cases:
        raise DatasetError("There is no image to learn from.")
    finished = finished_model(out, settings, None)
    data = partial(DataRecord.of, [replace(case, label=None) for case in cases])
    if finished is not None:
        check_same_plan(out, finished, autoencoder, preprocessing)
        data().check_same(out, progress)
        tell_finished(out, progress)
        return finished
    with claimed(out, team):
        cache = CaseCache(settings.cache_gb / team.local_size, team.own_folder(out / "prepared"))
        drawing = Drawing.of(settings, preprocessing)
        prepared = prepare_images(cases, preprocessing, cache, progress, should_cancel, tissues=drawing is not None)
        team.first(lambda: data().keep(out))
        channels = len(prepared.cases[0].image)
        check_channels(channels, autoencoder)
        text = (description or Description()).completed(None, same_labels=False, name=out.name, channels=channels)
        training, held_out = _hold_out(cases, prepared, settings)
        shown = training if drawing is None else drawing.held_out(training, settings)
        held_out = held_out if drawing is None else drawing.held_out(held_out, settings)
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
            sources={
                "cases": [hashes[case.id] for case in training],
                "held_out_cases": [hashes[case.id] for case in held_out],
            },
            names={"trained_on": [case.id for case in training], "cache": cache.describe()},
        )
        share = f"{len(training)} images to learn from, {len(held_out)} held out."
        for note in (*prepared.notes, cache.describe(), share, *team.describe(settings)):
            progress(Progress("log", message=note))
        model = run.new_model()
        content: list[Any] = [autoencoder.to_dict(), preprocessing.to_dict(), [hashes[case.id] for case in training]]
        identity = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
        task = MaskedTask(model, training, held_out, preprocessing.patch_size, settings, identity, team, drawing)
        trained = train(task, settings, out, report=progress, should_cancel=should_cancel, team=team)
        bundle = run.finish(model, trained, progress, team)
        cache.remove_files()
        return bundle


def median_spacing(cases: Sequence[Case], orientation: str) -> tuple[float, float, float]:
    """Median voxel size of the images in mm, in the order of `orientation`."""
    grids = [NetworkGrid(read_image(case).grid, orientation, (1, 1, 1)) for case in cases]
    d, h, w = (float(round(s, 3)) for s in np.median([grid.canonical_spacing for grid in grids], axis=0))
    return d, h, w


def check_channels(found: int, autoencoder: MaeConfig) -> None:
    """Raise unless images of `found` channels fit the network."""
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
