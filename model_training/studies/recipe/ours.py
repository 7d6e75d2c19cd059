"""Our fine-tuning within a budget of processor seconds: the library's own call, with the steps that fit."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from MAESegmentLib.bundle import Bundle
from MAESegmentLib.cases.dataset import CaseDataset
from MAESegmentLib.training.defaults import default_settings
from MAESegmentLib.training.finetune import finetune
from MAESegmentLib.training.run_context import Progress, RunContext
from MAESegmentLib.training.settings import Augmentation, FineTuneSettings

#: Steps that are timed, after as many to warm up.
_TIMED = 8


def fine_tune(
    dataset: CaseDataset,
    base: Bundle,
    changed: Mapping[str, Any],
    seed: int,
    budget: float,
    work: Path,
    scans: Sequence[Path] = (),
    *,
    by_time: bool = False,
) -> tuple[Bundle, int, float]:
    """The model after the steps that fit into `budget` processor seconds, how many these were, and the seconds.

    Where `changed` names the steps, they count as the budget. `by_time`, it is given the time, and plans its steps
    itself. In both cases a run that was killed resumes in `work`.
    """
    torch.set_num_threads(1)
    # What a study does not name is as the settings' own defaults have it: those of fine-tuning change.
    augmentation = {**asdict(Augmentation()), **changed.get("augmentation", {})}
    chosen = {**changed, "augmentation": augmentation, "seed": seed, "threads": 1, "device": "cpu"}
    if by_time:
        bundle, clock = _train(dataset, base, {**chosen, "minutes": budget / 60}, work / "run", scans)
        return bundle, max(clock, default=0), budget  # 0: it had ended before this process began
    if "steps" in chosen:
        settings = default_settings(base, new_labels=True, chosen=chosen)
        bundle = finetune(dataset, base, work / "run", settings, split="learn", validation="none", unlabelled=scans)
        return bundle, settings.steps, budget
    _, seconds = _run(dataset, base, {**chosen, "steps": 2 * _TIMED}, work / "timed")
    if scans:  # a step costs more once they count
        share = FineTuneSettings.from_dict(dict(changed)).unlabelled_ramp / 2
        both = {**chosen, "steps": 2 * _TIMED, "unlabelled_ramp": 0.0}
        seconds = share * seconds + (1 - share) * _run(dataset, base, both, work / "timed with scans", scans)[1]
    steps = max(2 * _TIMED, round(budget / seconds))
    bundle, seconds = _run(dataset, base, {**chosen, "steps": steps}, work / "run", scans)
    return bundle, steps, seconds * steps


def _run(
    dataset: CaseDataset, base: Bundle, chosen: Mapping[str, Any], folder: Path, scans: Sequence[Path] = ()
) -> tuple[Bundle, float]:
    """The model, and processor seconds per step: of the second half of the steps, or with `scans`, of all after the
    first."""
    shutil.rmtree(folder, ignore_errors=True)
    bundle, clock = _train(dataset, base, {**chosen, "checkpoint_every": int(chosen["steps"])}, folder, scans)
    last = max(clock)
    first = 1 if scans else last // 2
    return bundle, (clock[last] - clock[first]) / (last - first)


def _train(
    dataset: CaseDataset, base: Bundle, chosen: Mapping[str, Any], folder: Path, scans: Sequence[Path]
) -> tuple[Bundle, dict[int, float]]:
    """The model, and the processor time after each step. Time, where it decides, is the processor's too."""
    settings: FineTuneSettings = default_settings(base, new_labels=True, chosen=chosen)
    clock: dict[int, float] = {}

    def note(progress: Progress) -> None:
        if progress.stage == "train":
            clock[progress.step] = time.process_time()

    context = RunContext(note, clock=time.process_time)
    bundle = finetune(
        dataset, base, folder, settings, split="learn", validation="none", unlabelled=scans, context=context
    )
    return bundle, clock
