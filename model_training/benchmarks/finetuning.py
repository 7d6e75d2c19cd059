"""What a step of fine-tuning costs, what of it is making patches, and how soon Dice is near where it ends.

    python -m model_training.benchmarks.finetuning --data DATA/hippocampus_mr

Fine-tunes the shipped hippocampus model's pretrained encoder, which never saw a label, on a few cases of the pool and
follows Dice on others of the pool. Before that, making the patches of a step and the step itself take turns.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from MAESegmentLib.bundle import ModelStore
from MAESegmentLib.cases.dataset import load_dataset
from MAESegmentLib.device import autocast, resolve_device
from MAESegmentLib.training.data.labelling import plan_labels
from MAESegmentLib.training.data.patches import Batch
from MAESegmentLib.training.data.prepared import CaseCache, PreparedCase
from MAESegmentLib.training.data.preparing import prepare_cases
from MAESegmentLib.training.loop.loop import train
from MAESegmentLib.training.settings import FineTuneSettings
from MAESegmentLib.training.tasks.initial import initial_network
from MAESegmentLib.training.tasks.segmentation import SegmentationTask

from .runner import add_device, begin, machine, record
from .timing import alternate, load

BASE = "hippocampus-mr"
#: Places in the pool of the cases that are followed; the shipped encoder was pretrained on their images, not labels.
FOLLOWED = (140, 148)
NEAR = 0.95
CACHE_GB = 1.0


class FollowedTask(SegmentationTask):
    """Fine-tuning that knows the seconds spent so far without its validations, and those spent waiting for patches."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.rows: list[dict[str, Any]] = []
        self.seconds = self.waiting = 0.0
        self.step = 0
        self._since = time.perf_counter()

    def batches(self, first_step: int, device: torch.device) -> Iterator[Batch]:
        made = super().batches(first_step, device)
        while True:
            asked = time.perf_counter()
            batch = next(made, None)
            if batch is None:
                return
            self.waiting += time.perf_counter() - asked
            yield batch

    def loss(self, model: nn.Module, batch: Batch, step: int, of: Sequence[float] | None = None) -> Tensor:
        self.step = step + 1
        return super().loss(model, batch, step, of)

    def validate(self, model: nn.Module, device: torch.device) -> Mapping[str, float]:
        self.seconds += time.perf_counter() - self._since
        results = super().validate(model, device)
        self.rows.append({"step": self.step, "seconds": f"{self.seconds:.1f}", "dice": f"{results['dice']:.4f}"})
        self._since = time.perf_counter()
        return results


def main() -> None:
    arguments = begin(__doc__, _options)
    threads = arguments.threads or torch.get_num_threads()
    settings = FineTuneSettings(
        steps=arguments.steps,
        validate_every=max(1, arguments.steps // 10),
        checkpoint_every=arguments.steps,
        initial_weights="autoencoder",
        learning_rate=1.5e-3,
        ema_decay=0.99,
        device=arguments.device,
        threads=threads,
    )
    torch.set_num_threads(threads)
    fixed = {"device": arguments.device, "threads": threads, "cases": arguments.cases}
    with tempfile.TemporaryDirectory() as work:
        task = _task(arguments.data, arguments.cases, settings, Path(work))
        figures = _time_parts(task, settings, arguments.seconds)
        train(task, settings, Path(work) / "run")
    figures |= _summary(task, settings)
    print(", ".join(f"{name} {value}" for name, value in figures.items()))
    record("finetuning_curve", [{**fixed, **row} for row in task.rows], tuple(fixed), report=False)
    record("finetuning", [{**fixed, **figures, "load": f"{load():.1f}", "machine": machine()}], tuple(fixed))


def _task(data: Path, cases: int, settings: FineTuneSettings, work: Path) -> FollowedTask:
    base = ModelStore().find(BASE)
    dataset = load_dataset(data)
    plan = plan_labels(dataset.labels, base.labels, None)

    def prepared(first: int, end: int) -> list[PreparedCase]:
        cache = CaseCache(CACHE_GB, work / f"prepared-{first}")
        chosen = dataset.select(f"pool:{first}:{end}")
        prepare_cases(chosen, base.spec.preprocessing, cache, learnt=(dataset, plan))
        return list(cache)

    training, followed = prepared(0, cases), prepared(*FOLLOWED)
    network, _ = initial_network(base, plan, len(training[0].image), settings)
    stages = len(network.config.depths)
    return FollowedTask(
        network, training, followed, plan.names, base.spec.preprocessing.patch_size, settings, "benchmark", stages
    )


def _time_parts(task: FollowedTask, settings: FineTuneSettings, seconds: float) -> dict[str, str]:
    """Seconds of making the patches of a step alone, of the step alone, and the first's share of both.

    The network's weights are left as they were: gradients are made and thrown away.
    """
    device = resolve_device(settings.device)
    samples = task._samples
    model = task.model.to(device).train()
    batch = next(islice(task.batches(0, device), 1))
    numbers = iter(range(len(samples)))

    def make() -> list[Any]:
        return [samples[next(numbers) % len(samples)] for _ in range(settings.batch_size)]

    def step() -> None:
        with autocast(device, settings.precision):
            loss = task.loss(model, batch, 0)
        loss.backward()
        model.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize()

    timings = alternate({"make": make, "step": step}, seconds=seconds, max_rounds=len(samples) // 4)
    found = {f"{name}_s": timing.quartiles[1] for name, timing in timings.items()}
    found |= {f"{name}_processor_s": sorted(t.processor)[len(t.processor) // 2] for name, t in timings.items()}
    figures = {name: f"{value:.4f}" for name, value in found.items()}
    making = found["make_processor_s"]
    figures["loading_share"] = f"{making / (making + found['step_processor_s']):.3f}"
    return figures | {"rounds": str(len(timings["make"].wall))}


def _summary(task: FollowedTask, settings: FineTuneSettings) -> dict[str, str]:
    final = float(task.rows[-1]["dice"])
    near = next(row for row in task.rows if float(row["dice"]) >= NEAR * final)
    return {
        "steps": str(settings.steps),
        "seconds": f"{task.seconds:.1f}",
        "second_per_step": f"{task.seconds / settings.steps:.3f}",
        "waiting_share": f"{task.waiting / task.seconds:.3f}",
        "final_dice": f"{final:.4f}",
        "near_step": str(near["step"]),
        "near_seconds": near["seconds"],
    }


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder of the hippocampus data set")
    parser.add_argument("--cases", type=int, default=4, help="labelled cases to train on (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=300)
    add_device(parser, seconds=20)


if __name__ == "__main__":
    main()
