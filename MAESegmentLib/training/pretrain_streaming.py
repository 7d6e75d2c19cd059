"""Pretrain on an archive that fits neither into memory nor onto a disk cache: its scans are read as they are needed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from ..bundle import Bundle
from ..errors import Cancelled, ConfigurationError, DatasetError
from ..images.archive import ArchivedScan
from ..networks import MaeConfig, MaskedAutoencoder
from ..preprocessing.plan import Preprocessing
from .data.archive import Archive
from .data.patches import Batch
from .data.prepared import PreparedCase
from .data.streaming import SkippedScans, Stream, prepare_scan, reason
from .description import Description
from .loop.distributed import SOLO, Team
from .loop.loop import Progress, Report, ShouldCancel, ignore, never, train
from .loop.output_folder import check_same_plan, finished_model, tell_finished
from .pretrain import check_channels
from .pretrained_model import Pretraining
from .settings import PretrainSettings
from .tasks.masked import MaskedTask

#: So many scans are kept in memory to measure on.
KEPT = 32


class StreamedMaskedTask(MaskedTask):
    """Masked autoencoding of patches from a stream."""

    def __init__(self, model: MaskedAutoencoder, stream: Stream, run: Pretraining, identity: str) -> None:
        super().__init__(model, (), run.held_out, run.preprocessing.patch_size, run.settings, identity, stream.team)
        self._stream = stream

    def batches(self, first_step: int, device: torch.device) -> Iterator[Batch]:
        return self._stream.batches(first_step, device)


def pretrain_streaming(
    archive: Archive,
    out: Path,
    settings: PretrainSettings,
    *,
    autoencoder: MaeConfig,
    preprocessing: Preprocessing,
    description: Description | None = None,
    progress: Report = ignore,
    should_cancel: ShouldCancel = never,
    team: Team = SOLO,
) -> Bundle:
    """Train a masked autoencoder on the scans of `archive` and save it as `out`/model (kind "autoencoder").

    `settings.patches_per_volume` must be set. Scans that cannot be used are noted in `out`/skipped.csv. Called again
    with the same arguments after a kill, it goes on from its last checkpoint. All of a `team` call this alike, and have
    `claimed` the folder, where `open_archive` has written already.
    """
    settings = team.settings(settings)
    finished = finished_model(out, settings, None)
    if finished is not None:
        check_same_plan(out, finished, autoencoder, preprocessing)
        if finished.spec.training["archive"]["hash"] != archive.identity:
            raise ConfigurationError(
                f"{out} holds a finished model of an archive with other scans.", "Give another output folder."
            )
        tell_finished(out, progress)
        return finished
    check_channels(1, autoencoder)
    stream = Stream(archive.training, preprocessing, settings, out, team)
    progress(Progress("log", message=_describe(archive, stream)))
    for note in team.describe(settings):
        progress(Progress("log", message=note))
    # Without held-out scans, those learnt from must do for the measurements.
    sample = archive.held_out or archive.training
    kept, hashes = _keep(sample, preprocessing, stream.skipped, progress, should_cancel)
    run = Pretraining(
        settings,
        autoencoder,
        preprocessing,
        (description or Description()).completed(None, same_labels=False, name=out.name, channels=1),
        out,
        images=len(archive.training),
        seen=() if archive.held_out else kept,
        held_out=kept if archive.held_out else (),
        sources={
            "archive": {"scans": len(archive.scans), "learnt_from": len(archive.training), "hash": archive.identity},
            "held_out_cases": hashes if archive.held_out else [],
        },
        names={"held_out": [case.id for case in kept] if archive.held_out else []},
    )
    content: list[Any] = [autoencoder.to_dict(), preprocessing.to_dict(), archive.identity]
    identity = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
    model = run.new_model()
    task = StreamedMaskedTask(model, stream, run, identity)
    trained = train(task, settings, out, report=progress, should_cancel=should_cancel, team=team)
    skipped = team.first(stream.skipped.merge)
    if skipped:
        progress(Progress("log", message=f"{len(skipped)} scans could not be used: {out / 'skipped.csv'}"))
    return run.finish(model, trained, progress, team)


def _keep(
    scans: Sequence[ArchivedScan],
    preprocessing: Preprocessing,
    skipped: SkippedScans,
    progress: Report,
    should_cancel: ShouldCancel,
) -> tuple[list[PreparedCase], list[dict[str, str]]]:
    """The first `KEPT` of them that can be used, and the hashes of their voxels."""
    kept: list[PreparedCase] = []
    hashes: list[dict[str, str]] = []
    for scan in scans:
        if len(kept) == KEPT:
            break
        if should_cancel():
            raise Cancelled()
        progress(Progress("prepare", len(kept) / KEPT, message=scan.name))
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
