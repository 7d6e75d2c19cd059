"""Make the model that a run starts from: pretrain it, once for all runs that share it, and change what differs."""

from __future__ import annotations

import math
import re
import runpy
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from MAESegmentLib.bundle import Bundle, open_bundle, save_bundle
from MAESegmentLib.cases.case import Case
from MAESegmentLib.cases.dataset import CaseDataset, load_dataset
from MAESegmentLib.errors import ConfigurationError
from MAESegmentLib.images.labels import Label
from MAESegmentLib.networks import NnFormer
from MAESegmentLib.storage.lock import FileLock
from MAESegmentLib.training.recipe import read_settings_file

from ..recipe.ours import fine_tune
from ..recipe.tasks import write_cases
from .study import Pretraining, Run, Study

_BRAIN_TISSUES = Path(__file__).parents[2] / "recipes" / "brain-mr" / "tissues.py"


def start_of(study: Study, run: Run, data: Path, work: Path, base: Bundle) -> tuple[Bundle, str]:
    """The model, and which of its weights to begin with. What is pretrained in `work` is found again, half or whole."""
    start, weights = run.start, run.start.weights
    if start.pretraining is not None:
        base, weights = _pretrained(study, run, start.pretraining, data, work, base), "pretrained"
    if start.decoder and not start.mean_outputs:
        return base, weights
    return _changed(base, run, folder_of(run, work) / "changed"), weights


def folder_of(run: Run, work: Path) -> Path:
    """Where a run is made, and goes on after it was killed."""
    return work / "runs" / _slug(run.name)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _pretrained(study: Study, run: Run, pretraining: Pretraining, data: Path, work: Path, base: Bundle) -> Bundle:
    parts = (run.task.name, pretraining.name, run.start.weights, f"{pretraining.seconds:g}s", str(run.seed))
    folder = work / "pretrained" / _slug("-".join(parts))
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock", timeout_s=math.inf):  # another run may want the same
        if not (folder / "without" / "dataset.json").is_file():
            _write_cases_without(run, pretraining, data, folder)
        dataset, steps = load_dataset(folder / "without"), study.steps(run, pretraining.seconds)
        settings = {**study.centre, **pretraining.settings, "initial_weights": run.start.weights, "steps": steps}
        return fine_tune(dataset, base, settings, run.seed, pretraining.seconds, folder)[0]


def _write_cases_without(run: Run, pretraining: Pretraining, data: Path, folder: Path) -> None:
    """What is learnt before the task: every structure but the task's own, in none of the cases it is tested on."""
    source = _maps(data / pretraining.data, folder) if pretraining.drawn else load_dataset(data / pretraining.data)
    chosen = source.select(pretraining.cases) if pretraining.cases else source.cases
    same = pretraining.data == run.task.data
    if same and (tested := [case.id for case in source.select(",".join(run.task.test)) if case in chosen]):
        raise ConfigurationError(f"Pretraining {pretraining.name} sees {tested[0]}, which {run.task.name} tests on.")
    own = {part for parts in run.task.structures.values() for part in parts}
    others = {name: (name,) for name in source.labels if name not in own}
    splits = {"learn": [case.id for case in chosen]}
    write_cases(source, folder / "without", others, splits, [name for name in source.labels if name in own])


def _maps(source: Path, folder: Path) -> CaseDataset:
    """Label maps as a data set whose images are maps of tissues."""
    if (source / "labels").is_dir():
        runpy.run_path(str(_BRAIN_TISSUES))["main"](source, folder / "maps")
        return load_dataset(folder / "maps")
    values = {name: n for name, n in read_settings_file(source / "labels.json")["labels"].items() if n}
    files = sorted(source.glob("*.nii.gz"))
    cases = tuple(Case(file.name.removesuffix(".nii.gz"), (file,), file) for file in files)
    return CaseDataset(values, cases, name=source.name)


def _changed(base: Bundle, run: Run, folder: Path) -> Bundle:
    """`base` as a model of the task's structures, with new outputs or a new decoder as the run's start says."""
    if folder.exists():
        return open_bundle(folder)
    old = base.load_network().state_dict()
    spec = base.spec
    assert spec.network is not None
    labels = tuple(Label(n, name, (0, 0, 0)) for n, name in enumerate(run.task.structures, start=1))
    config = replace(spec.network, out_channels=len(labels) + 1)
    torch.manual_seed(run.seed)
    state = NnFormer(config).state_dict()
    for key, value in old.items():
        if key.startswith("encoder.") or (run.start.decoder and not key.startswith("heads.")):
            state[key] = value
        elif run.start.decoder and run.start.mean_outputs:
            state[key] = _mean_outputs(key, value, len(labels))
    folder.parent.mkdir(parents=True, exist_ok=True)
    spec = replace(spec, labels=labels, network=config, autoencoder=None, metrics={}, inference={})
    return save_bundle(
        folder, spec, state, card="Made by a study.\n", licence_text="Not for use.\n", dtype=torch.float32
    )


def _mean_outputs(key: str, value: Tensor, count: int) -> Tensor:
    """The background's output as it was, and `count` times the mean of the others."""
    axis = 1 if key.endswith("weight") else 0  # transposed convolution: (in, out, d, h, w)
    background, others = value.narrow(axis, 0, 1), value.narrow(axis, 1, value.shape[axis] - 1)
    return torch.cat([background, *[others.mean(dim=axis, keepdim=True)] * count], dim=axis)
