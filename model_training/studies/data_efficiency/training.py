"""One run: its network, its training with a curve on the way, and its figures at the end."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from MAESegmentLib.device import resolve_device
from MAESegmentLib.errors import DatasetError
from MAESegmentLib.networks import NnFormer
from MAESegmentLib.storage.atomic_file import replacing, write_file
from MAESegmentLib.training.data.patches import Batch
from MAESegmentLib.training.data.prepared import PreparedCase
from MAESegmentLib.training.loop.loop import Trained, train
from MAESegmentLib.training.settings import FineTuneSettings
from MAESegmentLib.training.tasks.segmentation import SegmentationTask

from .cases import StudyCases
from .compute import parameters, step_flops, where_and_when
from .measuring import Row, mean_dice, middle_part, network_rows, scan_rows, segmenter_of
from .networks import build_network
from .pretraining import Pretrained, pretrain, pretraining_steps, transfer
from .result_files import CHECK_GRID, METRICS, RUNS, append_rows, finished_runs, read_rows
from .study import Arm, Plan, Run, Study

CURVE = "curve.json"


@dataclass(frozen=True)
class Workplace:
    """`data` holds the data sets, `work` what can be thrown away, `results` the CSVs; `keep` leaves final weights."""

    study: Study
    data: Path
    work: Path
    results: Path
    keep: bool = False


def perform(run: Run, place: Workplace) -> None:
    """Do `run` unless its row is there, and before it the search that its learning rate needs."""
    if run.name in finished_runs(place.results):
        return
    study = place.study
    plan, arm = study.plan(run.scale, run.dataset), study.arm(run.arm)
    rate = run.learning_rate or chosen_rate(run, place)
    settings = run_settings(study, plan, arm, run, rate)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    cases = StudyCases.load(plan, place.data, place.work / "cases" / run.name)
    pretrained = pretrain(study, plan, arm, place.data, place.work, place.results) if arm.pretext else None
    network = new_network(plan, arm, len(cases.labels.values) + 1, settings.seed, pretrained)
    folder = place.work / "runs" / run.name
    task = _MeasuredTask(network, run, plan, cases, settings, folder)
    flops = step_flops(task) * settings.steps
    trained = train(task, settings, folder)
    rows = _final_rows(network, trained, run, plan, cases, resolve_device(settings.device))
    rows = [{"run": run.name, **row} for row in [*task.curve(), *rows]]
    append_rows(place.results / METRICS, rows)
    row = _run_row(run, settings, rate, trained, flops, parameters(network), pretrained)
    append_rows(place.results / RUNS, [row])
    if place.keep:
        _keep(trained, weights_file(run, place))
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(cases.work, ignore_errors=True)


def weights_file(run: Run, place: Workplace) -> Path:
    """Where a run's final weights lie if they were kept."""
    return place.work / "weights" / f"{run.name}.pt"


def chosen_rate(run: Run, place: Workplace) -> float:
    """The rate of the recipe's search with the best mean Dice on the pool's check cases; the search is done first."""
    study = place.study
    plan, arm = study.plan(run.scale, run.dataset), study.arm(run.arm)
    if arm.learning_rate is not None:
        return arm.learning_rate
    if len(plan.learning_rates) == 1:
        return plan.learning_rates[0]
    searched = study.search_runs(run)
    for search in searched:
        perform(search, place)
    if plan.confirming_seeds:
        best = ranked_rates(searched, read_rows(place.results / METRICS))[:2]
        kept = tuple(search for search in searched if search.learning_rate in best)
        confirming = study.confirming_runs(kept)
        for search in confirming:
            perform(search, place)
        searched = (*kept, *confirming)
    return ranked_rates(searched, read_rows(place.results / METRICS))[0]


def ranked_rates(searched: Sequence[Run], metrics: list[dict[str, str]]) -> list[float]:
    """Rates by mean Dice over their runs, the best first; of equal ones the lower."""
    scores: dict[float, list[float]] = {}
    for run in searched:
        assert run.learning_rate is not None
        score = mean_dice([row for row in metrics if row["run"] == run.name])
        if math.isnan(score):
            raise DatasetError(f"The search has no figures of {run.name}.", "Merge the results of all machines first.")
        scores.setdefault(run.learning_rate, []).append(score)
    return sorted(scores, key=lambda rate: (-sum(scores[rate]) / len(scores[rate]), rate))


def run_settings(study: Study, plan: Plan, arm: Arm, run: Run, rate: float) -> FineTuneSettings:
    """The plan's, with what the arm's recipe and the arm change, its seed and its learning rate."""
    changed: dict[str, Any] = {**study.arm(arm.recipe).settings, **arm.settings}
    settings = FineTuneSettings.from_dict({**plan.finetuning.to_dict(), **changed, "learning_rate": rate})
    steps = settings.steps
    if arm.as_long_as:
        steps = run_settings(study, plan, study.arm(arm.as_long_as), run, rate).steps
    if arm.equal_compute_to:
        steps += pretraining_steps(plan, study.arm(arm.equal_compute_to))
    every = max(1, round(steps / plan.curve_points))
    return replace(settings, seed=run.seed, steps=steps, validate_every=every)


def new_network(plan: Plan, arm: Arm, classes: int, seed: int, pretrained: Pretrained | None) -> nn.Module:
    """The arm's network at its start; equal seeds give equal random weights."""
    torch.manual_seed(seed)
    if arm.network != "nnformer":
        size = "small" if plan.scale == "small" else "full"
        return build_network(arm.network, plan.network.in_channels, classes, plan.preprocessing.patch_size, size)
    network = NnFormer(replace(plan.network, out_channels=classes))
    if pretrained is not None:
        transfer(pretrained.weights, network, arm.transfer)
    return network


class _MeasuredTask(SegmentationTask):
    """Training whose validations measure the curve; what was measured survives a kill, beside the checkpoint."""

    def __init__(
        self, network: nn.Module, run: Run, plan: Plan, cases: StudyCases, settings: FineTuneSettings, folder: Path
    ) -> None:
        training = cases.prepare(cases.training(run.labels))
        stages = len(plan.network.depths) if isinstance(network, NnFormer) else None
        patch = plan.preprocessing.patch_size
        super().__init__(network, training, [], cases.labels.names, patch, settings, run.name, stages)
        self._overlap = plan.overlap
        self._followed: list[PreparedCase] = []
        if run.measured_on == "validation":
            self._followed = _middle(cases.prepare(cases.measured("validation")[: plan.curve_cases]), plan)
        self._path = folder / CURVE
        self._step = 0

    def loss(self, model: nn.Module, batch: Batch, step: int, of: Sequence[float] | None = None) -> torch.Tensor:
        self._step = step + 1
        return super().loss(model, batch, step, of)

    def validate(self, model: nn.Module, device: torch.device) -> Mapping[str, float]:
        if not self._followed:
            return {}
        measured = network_rows(model, self._followed, self.label_names, self.patch_size, device, self._overlap)
        rows = [row for row in self.curve() if row["step"] < self._step]
        rows += [{"step": self._step, **row} for row in measured]
        write_file(self._path, json.dumps(rows).encode())
        return {"score": mean_dice(measured)}

    def curve(self) -> list[Row]:
        return json.loads(self._path.read_text(encoding="utf-8")) if self._path.exists() else []


def _middle(cases: list[PreparedCase], plan: Plan) -> list[PreparedCase]:
    return [middle_part(case, plan.preprocessing.orientation, plan.middle_mm) for case in cases]


def _final_rows(
    network: nn.Module, trained: Trained, run: Run, plan: Plan, cases: StudyCases, device: torch.device
) -> list[Row]:
    """On the scans for figures that are reported, on the network's grid for the search."""
    network.load_state_dict(trained.weights)
    network.to(device).eval()

    def on_network(measured_on: str) -> list[Row]:
        measured = _middle(cases.prepare(cases.measured(measured_on)), plan)
        patch = plan.preprocessing.patch_size
        return network_rows(network, measured, cases.labels.names, patch, device, plan.overlap)

    if run.measured_on == "validation":
        segmenter = segmenter_of(network, cases.labels, plan.preprocessing, device, plan.overlap)
        rows = scan_rows(segmenter, cases.measured(run.measured_on), cases.labels, plan.middle_mm)
        rows += [{**row, "grid": CHECK_GRID} for row in (on_network("check") if plan.checked else ())]
    else:
        rows = on_network(run.measured_on)
    return [{"step": trained.step, **row} for row in rows]


def _run_row(
    run: Run,
    settings: FineTuneSettings,
    rate: float,
    trained: Trained,
    flops: int,
    weights: int,
    pretrained: Pretrained | None,
) -> dict[str, Any]:
    device = resolve_device(settings.device)
    return {
        **run.columns(),
        "steps": trained.step,
        "learning_rate": f"{rate:g}",
        "pretext_steps": pretrained.steps if pretrained else 0,
        "parameters": weights,
        "flops": f"{flops:.4g}",
        "pretext_flops": f"{pretrained.flops:.4g}" if pretrained else 0,
        "seconds": f"{trained.seconds:.1f}",
        "pretext_seconds": f"{pretrained.seconds:.1f}" if pretrained else 0,
        **where_and_when(device),
    }


def _keep(trained: Trained, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        torch.save(trained.weights, temporary)
