"""Pretraining of an arm: done once, kept in the work folder, shared by all runs that start from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from MAESegmentLib.device import resolve_device
from MAESegmentLib.networks import NnFormer, transfer_encoder, transfer_matching
from MAESegmentLib.storage.atomic_file import replacing
from MAESegmentLib.storage.lock import FileLock
from MAESegmentLib.training.loop.loop import Task, train
from MAESegmentLib.training.settings import PretrainSettings

from .cases import StudyCases
from .compute import parameters, step_flops, where_and_when
from .pretexts import make_pretext
from .result_files import PRETEXTS, append_rows, read_rows
from .study import Arm, Plan, Study

HELD_OUT = 8
WEIGHTS = "weights.pt"


@dataclass(frozen=True)
class Pretrained:
    """`weights` holds NnFormer's encoder under `encoder.` (and `decoder.`, where that was pretrained too)."""

    weights: Mapping[str, Tensor]
    steps: int
    flops: float
    seconds: float


def pretraining_settings(plan: Plan, arm: Arm) -> PretrainSettings:
    """The plan's, with what the arm changes."""
    merged = {**plan.pretraining.to_dict(), **arm.pretraining}
    merged["steps"] = max(1, round(arm.pretraining_length * merged["steps"]))
    return PretrainSettings.from_dict(merged)


def pretraining_steps(plan: Plan, arm: Arm) -> int:
    return pretraining_settings(plan, arm).steps if arm.pretext else 0


def make_task(plan: Plan, arm: Arm, source: StudyCases) -> tuple[Task, int]:
    """The pretraining of `arm` on images of `source`, prepared as `plan` asks; and how many images there are."""
    assert arm.pretext is not None
    settings = pretraining_settings(plan, arm)
    # Another data set's images keep their own grey values and spacing; the patch must be the target network's.
    preprocessing = replace(source.plan.preprocessing, patch_size=plan.preprocessing.patch_size)
    prepared = source.prepare_images(source.unlabelled(arm.data), preprocessing)
    autoencoder = replace(plan.autoencoder, encoder=replace(plan.network, drop_path=0.0))
    options = dict(arm.options)
    torch.manual_seed(settings.seed)
    task = make_pretext(
        arm.pretext,
        options,
        autoencoder.encoder,
        autoencoder,
        prepared,
        prepared[:HELD_OUT],
        plan.preprocessing.patch_size,
        settings,
        f"{plan.scale}/{plan.dataset}/{arm.pretraining_name}",
    )
    return task, len(prepared)


def pretrain(study: Study, plan: Plan, arm: Arm, data: Path, work: Path, results: Path) -> Pretrained:
    """The pretrained weights of `arm`, trained first where the work folder lacks them; by one process at a time."""
    name = f"{plan.scale}/{plan.dataset}/{arm.pretraining_name}"
    folder = work / "pretraining" / name
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        known = {row["pretraining"]: row for row in read_rows(results / PRETEXTS)}
        if not (folder / WEIGHTS).exists() or name not in known:
            append_rows(results / PRETEXTS, [_train(study, plan, arm, name, data, folder)])
            known = {row["pretraining"]: row for row in read_rows(results / PRETEXTS)}
        weights = torch.load(folder / WEIGHTS, map_location="cpu", weights_only=True)
    row = known[name]
    return Pretrained(weights, int(row["steps"]), float(row["flops"]), float(row["seconds"]))


def _train(study: Study, plan: Plan, arm: Arm, name: str, data: Path, folder: Path) -> dict[str, Any]:
    source = StudyCases.load(study.plan(plan.scale, arm.pretrain_on or plan.dataset), data, folder)
    settings = pretraining_settings(plan, arm)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    task, images = make_task(plan, arm, source)
    flops = step_flops(task) * settings.steps
    trained = train(task, settings, folder)
    # On training images (all of them are learnt from), so it shows whether a pretext was learnt, not how well.
    loss = "" if trained.score is None else f"{-trained.score:.5g}"
    with replacing(folder / WEIGHTS) as temporary:
        torch.save(trained.weights, temporary)
    return {
        "pretraining": name,
        "scale": plan.scale,
        "dataset": plan.dataset,
        "pretext": arm.pretext,
        "steps": trained.step,
        "images": images,
        "parameters": parameters(task.model),
        "flops": f"{flops:.4g}",
        "seconds": f"{trained.seconds:.1f}",
        "final_loss": loss,
        **where_and_when(resolve_device(settings.device)),
    }


def transfer(weights: Mapping[str, Tensor], network: NnFormer, what: str) -> None:
    """Load the encoder, or encoder and decoder, into `network`; its heads stay new."""
    if what == "encoder":
        transfer_encoder(weights, network)
        return
    chosen = {key: value for key, value in weights.items() if key.startswith(("encoder.", "decoder."))}
    heads = tuple(key for key in network.state_dict() if not key.startswith(("encoder.", "decoder.")))
    transfer_matching(chosen, network, fresh=heads)
