"""Train a MONAI network on the cases, patches, augmentation, loss and steps of an nnFormer run; evaluate both alike.

    python -m model_training.train_monai --recipe model_training/recipes/headneck-ct/finetune.toml \
        --data DATA/headneck_ct --model headneck-ct --network segresnet --out runs/headneck-ct/segresnet

The loop, the losses (deep supervision apart), the sampling and the moving average are those of `maesegment finetune`;
so is the number of steps, or, with `--seconds`, what fits into that time on this machine, measured before. Writes
`metrics.csv` and `summary.json` like `maesegment evaluate`, and `run.json`.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from MAESegmentLib.bundle import Bundle, ModelStore
from MAESegmentLib.cases.dataset import CaseDataset, load_dataset
from MAESegmentLib.cli.evaluate import summary_table
from MAESegmentLib.cli.terminal import make_console
from MAESegmentLib.evaluation.cases import Measure, ModelPredictions, evaluate_cases
from MAESegmentLib.evaluation.report import summarise, write_metrics_csv, write_summary_json
from MAESegmentLib.images.labels import Label
from MAESegmentLib.inference.predictor import Predictor
from MAESegmentLib.inference.settings import InferenceSettings
from MAESegmentLib.training.data.holdout import Holdout, plan_holdout
from MAESegmentLib.training.data.labelling import plan_labels
from MAESegmentLib.training.data.prepared import CaseCache
from MAESegmentLib.training.data.preparing import prepare_cases
from MAESegmentLib.training.loop.loop import train
from MAESegmentLib.training.recipe import read_recipe
from MAESegmentLib.training.run_context import Progress, RunContext
from MAESegmentLib.training.settings import FineTuneSettings
from MAESegmentLib.training.tasks.segmentation import SegmentationTask

from .studies.data_efficiency.networks import NETWORKS, SIZES, build_network

TIMED_STEPS = 12


def make_task(
    network: nn.Module,
    name: str,
    base: Bundle,
    dataset: CaseDataset,
    holdout: Holdout,
    settings: FineTuneSettings,
    out: Path,
) -> SegmentationTask:
    plan = plan_labels(dataset.labels, base.labels)
    cache = CaseCache(settings.cache_gb, out / "prepared")
    preprocessing = base.spec.preprocessing
    prepared = prepare_cases(holdout.cases, preprocessing, cache, RunContext(_say), learnt=(dataset, plan))
    return SegmentationTask(
        network,
        prepared.cases.subset([case.id for case in holdout.training]),
        prepared.cases.subset([case.id for case in holdout.held_out]),
        plan.names,
        preprocessing.patch_size,
        settings,
        identity=name,
    )


def seconds_per_step(task: SegmentationTask) -> float:
    """Measured on the network itself without changing its weights."""
    made = task.batches(0, torch.device("cpu"))
    task.model.train()
    for step in range(TIMED_STEPS):
        if step == 2:
            started = time.perf_counter()
        task.loss(task.model, next(made), step).backward()
        task.model.zero_grad(set_to_none=True)
    return (time.perf_counter() - started) / (TIMED_STEPS - 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True, help="bundle whose labels and preprocessing are used")
    parser.add_argument("--network", choices=NETWORKS, default="segresnet")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--seconds", type=float, help="training time to fill (default: the recipe's steps)")
    parser.add_argument("--learning-rate", type=float, help="default: the recipe's")
    parser.add_argument("--split", default="validation", help="cases to evaluate on")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()

    recipe = read_recipe(arguments.recipe)
    settings = FineTuneSettings.from_dict(recipe.settings)
    if arguments.learning_rate:
        settings = replace(settings, learning_rate=arguments.learning_rate)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    base, dataset = ModelStore().find(arguments.model), load_dataset(arguments.data)
    holdout = plan_holdout(
        dataset, recipe.cases.get("split"), str(recipe.cases.get("validation", "auto")), settings.seed
    )
    torch.manual_seed(settings.seed)
    name, patch_size = arguments.network, base.spec.preprocessing.patch_size
    network = build_network(name, len(base.spec.channels), len(base.labels) + 1, patch_size, arguments.size)
    name = f"{name} ({arguments.size})"
    arguments.out.mkdir(parents=True, exist_ok=True)
    record = arguments.out / "run.json"
    if record.exists():  # a resumed run keeps the number of steps it began with
        steps = json.loads(record.read_text())["steps"]
    elif not arguments.seconds:
        steps = settings.steps
    else:
        per_step = seconds_per_step(make_task(network, name, base, dataset, holdout, settings, arguments.out))
        steps = int(arguments.seconds / per_step)
    settings = replace(settings, steps=steps)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    run = {"network": name, "parameters": parameters, "steps": steps, "settings": settings.to_dict()}
    record.write_text(json.dumps(run, indent=2) + "\n")
    print(f"{name}: {parameters / 1e6:.2f} M parameters, {steps} steps", flush=True)

    task = make_task(network, name, base, dataset, holdout, settings, arguments.out)
    trained = train(task, settings, arguments.out, RunContext(_say))
    network.load_state_dict(trained.weights)
    record.write_text(json.dumps({**run, "seconds": round(trained.seconds, 1)}, indent=2) + "\n")
    _evaluate(network.eval(), name, base, dataset, arguments.split, arguments.out)


def _say(progress: Progress) -> None:
    if progress.stage == "validate" and progress.metrics:
        print(progress.step, {name: round(value, 4) for name, value in progress.metrics.items()}, flush=True)


def _evaluate(network: nn.Module, name: str, base: Bundle, dataset: CaseDataset, split: str, out: Path) -> None:
    settings = InferenceSettings.of_model(base.spec.inference, check_familiarity=False)
    predictor = Predictor(base, settings, network=network)
    labels = tuple(Label(value, name) for name, value in dataset.labels.items())
    predictions = ModelPredictions(predictor, base.labels, labels)
    evaluation = evaluate_cases(dataset.select(split), predictions, Measure(labels, ignore=dataset.ignore))
    summaries = summarise(evaluation.scores)
    write_metrics_csv(out / "metrics.csv", evaluation.scores)
    write_summary_json(out / "summary.json", summaries, evaluation.failures, {"split": split})
    make_console().print(summary_table(summaries, title=name, tolerance_mm=1.0))


if __name__ == "__main__":
    main()
