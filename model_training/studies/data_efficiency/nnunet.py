"""nnU-Net v2 itself, with its own planning, augmentation and training, on the cases of the study: the reference.

    pip install 'maesegment[reference]'
    python -m model_training.studies.data_efficiency.nnunet --data DATA/hippocampus_mr --work DIR --labels 4 --seed 0

It learns from the same patients of the pool as the other arms (nnU-Net's fold "all") and is measured on the same cases,
with its final checkpoint. nnU-Net has no setting for the seed: here it only numbers the repetition. Given again after a
kill, it resumes from nnU-Net's last checkpoint.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from MAESegmentLib.cases.case import Case
from MAESegmentLib.device import resolve_device
from MAESegmentLib.errors import ConfigurationError, DatasetError, MAESegmentError
from MAESegmentLib.evaluation.cases import Measure, StoredPredictions, evaluate_cases
from MAESegmentLib.images.labels import Label
from MAESegmentLib.storage.atomic_file import write_file

from .cases import StudyCases
from .compute import parameters, where_and_when
from .measuring import score_row
from .result_files import METRICS, RUNS, append_rows, finished_runs
from .study import NNUNET, Run, read_study

HERE = Path(__file__).parent
CONFIGURATION = "3d_fullres"
#: One network on all training cases, because few of them cannot be split into five folds.
FOLD = "all"
EPOCHS = 1000
FILE_ENDING = ".nii.gz"

#: Runs a program of nnU-Net with these variables added to the environment; raises if it fails.
Runner = Callable[[Sequence[str], Mapping[str, str]], None]


@dataclass(frozen=True)
class Layout:
    """Folders of one run, by nnU-Net's rules; `trainer` is the name of one of its trainers."""

    folder: Path
    dataset: str
    trainer: str = "nnUNetTrainer"

    @property
    def dataset_folder(self) -> str:
        return f"Dataset001_{self.dataset}"

    @property
    def raw(self) -> Path:
        return self.folder / "raw" / self.dataset_folder

    @property
    def plans(self) -> Path:
        return self.folder / "preprocessed" / self.dataset_folder / "nnUNetPlans.json"

    @property
    def trained(self) -> Path:
        name = f"{self.trainer}__nnUNetPlans__{CONFIGURATION}"
        return self.folder / "results" / self.dataset_folder / name / f"fold_{FOLD}"

    @property
    def predictions(self) -> Path:
        return self.folder / "predictions"

    def environment(self, processes: int) -> dict[str, str]:
        """`processes` prepare and augment; nnU-Net's planner fails with none."""
        folders = {f"nnUNet_{name}": str(self.folder / name) for name in ("raw", "preprocessed", "results")}
        return {**folders, "nnUNet_def_n_proc": str(processes), "nnUNet_n_proc_DA": str(processes)}


@dataclass(frozen=True)
class Cost:
    """Of the network, and of one update of it (forward and backward)."""

    parameters: int
    step_flops: int


def perform(
    run: Run,
    cases: StudyCases,
    layout: Layout,
    results: Path,
    *,
    device: str = "auto",
    processes: int = 4,
    runner: Runner | None = None,
    cost: Callable[[Layout], Cost] | None = None,
) -> None:
    """Do `run` with nnU-Net's programs and add its rows to the results, unless they are there."""
    if run.name in finished_runs(results):
        return
    if runner is None:
        require_nnunet()
    kind = resolve_device(device)
    write_raw_data(cases, run, layout)
    trained = (layout.trained / "checkpoint_final.pth").exists()
    for command in commands(layout, kind.type, processes):
        if not (trained and command[0] in ("nnUNetv2_plan_and_preprocess", "nnUNetv2_train")):
            (runner or run_program)(command, layout.environment(processes))
    training, of_network = read_training(layout.trained), (cost or read_cost)(layout)
    rows = [{"run": run.name, "step": training["steps"], **row} for row in scan_rows(cases, run, layout.predictions)]
    append_rows(results / METRICS, rows)
    append_rows(results / RUNS, [_run_row(run, training, of_network, kind)])


def require_nnunet(package: str = "nnunetv2") -> None:
    if importlib.util.find_spec(package) is None:
        raise ConfigurationError(
            "nnU-Net v2 is not installed in this Python.",
            "Install it with: pip install 'maesegment[reference]' (or pip install nnunetv2).",
        )


def run_program(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """A program of this Python's nnU-Net; what it prints is seen."""
    beside = shutil.which(command[0], path=sysconfig.get_path("scripts"))
    try:
        subprocess.run([beside or command[0], *command[1:]], env={**os.environ, **environment}, check=True)
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{command[0]} was not found.", "Install nnU-Net again: pip install nnunetv2."
        ) from error
    except subprocess.CalledProcessError as error:
        raise MAESegmentError(
            f"{command[0]} ended with code {error.returncode}.", "What it printed above says why; then run this again."
        ) from error


def write_raw_data(cases: StudyCases, run: Run, layout: Layout) -> None:
    """nnU-Net's raw data set: the run's training cases, and the images alone of those that are measured."""
    training, measured = cases.training(run.labels), cases.measured(run.measured_on)
    shutil.rmtree(layout.raw, ignore_errors=True)
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (layout.raw / folder).mkdir(parents=True)
    for case in training:
        assert case.label is not None
        _copy_channels(case, layout.raw / "imagesTr")
        _copy(case.label, layout.raw / "labelsTr" / f"{case.id}{FILE_ENDING}")
    for case in measured:
        _copy_channels(case, layout.raw / "imagesTs")
    description = {
        "channel_names": {str(channel): _channel_name(cases) for channel in range(len(training[0].image))},
        "labels": {"background": 0, **dict(zip(cases.labels.names, cases.labels.values, strict=True))},
        "numTraining": len(training),
        "file_ending": FILE_ENDING,
    }
    write_file(layout.raw / "dataset.json", json.dumps(description, indent=2).encode())


def _channel_name(cases: StudyCases) -> str:
    """nnU-Net normalises channels of the name "CT" by the grey values of the whole set, all others one by one."""
    return "CT" if cases.plan.preprocessing.intensity.kind == "ct" else "MR"


def _copy_channels(case: Case, folder: Path) -> None:
    for channel, image in enumerate(case.image):
        _copy(image, folder / f"{case.id}_{channel:04d}{FILE_ENDING}")


def _copy(source: Path, target: Path) -> None:
    if not source.name.endswith(FILE_ENDING):
        raise DatasetError(f"{source} is not a {FILE_ENDING} file.", f"nnU-Net is given {FILE_ENDING} files only here.")
    shutil.copyfile(source, target)


def commands(layout: Layout, device: str, processes: int) -> list[list[str]]:
    """nnU-Net's programs in their order: plan and prepare, train (or resume), predict."""
    workers = str(processes)
    network = ["-c", CONFIGURATION, "-f", FOLD, "-tr", layout.trainer, "-device", device]
    folders = ["-i", str(layout.raw / "imagesTs"), "-o", str(layout.predictions)]
    prepare = ["-d", "1", "-c", CONFIGURATION, "-npfp", workers, "-np", workers, "--verify_dataset_integrity"]
    return [
        ["nnUNetv2_plan_and_preprocess", *prepare],
        ["nnUNetv2_train", "1", CONFIGURATION, FOLD, "-tr", layout.trainer, "-device", device, "--c"],
        ["nnUNetv2_predict", *folders, "-d", "1", *network, "-npp", workers, "-nps", workers],
    ]


def read_training(folder: Path) -> dict[str, Any]:
    """Steps, learning rate and seconds of a finished training, as nnU-Net wrote them down.

    Seconds are those of its epochs, the validation patches at the end of each one included.
    """
    facts = json.loads((folder / "debug.json").read_text(encoding="utf-8"))
    logs = "".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("training_log_*.txt")))
    return {
        "steps": int(facts["num_epochs"]) * int(facts["num_iterations_per_epoch"]),
        "learning_rate": float(facts["initial_lr"]),
        "seconds": sum(float(seconds) for seconds in re.findall(r"Epoch time: ([\d.]+) s", logs)),
    }


def read_cost(layout: Layout) -> Cost:
    """Counted on the network that nnU-Net's plans describe, without computing anything."""
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    from torch.utils.flop_counter import FlopCounterMode

    plan = json.loads(layout.plans.read_text(encoding="utf-8"))["configurations"][CONFIGURATION]
    described = json.loads((layout.raw / "dataset.json").read_text(encoding="utf-8"))
    architecture, channels = plan["architecture"], len(described["channel_names"])
    with torch.device("meta"):
        network = get_network_from_plans(
            architecture["network_class_name"],
            architecture["arch_kwargs"],
            architecture["_kw_requires_import"],
            channels,
            len(described["labels"]),
            allow_init=False,
            deep_supervision=True,
        )
        image = torch.empty(plan["batch_size"], channels, *plan["patch_size"])
        with FlopCounterMode(display=False) as counter:
            torch.stack([output.sum() for output in network(image)]).sum().backward()
    return Cost(parameters(network), int(counter.get_total_flops()))


def scan_rows(cases: StudyCases, run: Run, predictions: Path) -> list[dict[str, Any]]:
    """Dice, HD95 and surface Dice of every measured case and label. Raises if a case has no prediction."""
    labels = [Label(value, name) for value, name in zip(cases.labels.values, cases.labels.names, strict=True)]
    evaluation = evaluate_cases(
        cases.measured(run.measured_on), StoredPredictions(predictions, labels), Measure(labels)
    )
    for name, reason in evaluation.failures.items():
        raise DatasetError(f"Case {name} could not be measured: {reason}")
    return [score_row(score) for score in evaluation.scores]


def _run_row(run: Run, training: Mapping[str, Any], cost: Cost, device: torch.device) -> dict[str, Any]:
    return {
        **run.columns(),
        "steps": training["steps"],
        "learning_rate": f"{training['learning_rate']:g}",
        "pretext_steps": 0,
        "parameters": cost.parameters,
        "flops": f"{cost.step_flops * training['steps']:.4g}",
        "pretext_flops": 0,
        "seconds": f"{training['seconds']:.1f}",
        "pretext_seconds": 0,
        **where_and_when(device),
    }


def trainer_of(epochs: int) -> str:
    """The trainer for so many epochs of 250 updates; nnU-Net ships 1, 5, 10, 20, 50, 100, 250, 500, ... 8000."""
    return "nnUNetTrainer" if epochs == EPOCHS else f"nnUNetTrainer_{epochs}epoch{'s' * (epochs != 1)}"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").strip(), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data set")
    parser.add_argument("--work", type=Path, required=True, help="for nnU-Net's own folders")
    parser.add_argument("--labels", required=True, help='number of labelled patients, or "all"')
    parser.add_argument("--seed", type=int, default=0, help="number of the repetition")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="one of those that nnU-Net has a trainer for")
    parser.add_argument("--trainer", help="another trainer of nnU-Net, in the place of --epochs")
    parser.add_argument("--scale", default="full", help="under which the row stands; nnU-Net plans its size itself")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--processes", type=int, default=4, help="for preparing and augmenting")
    parser.add_argument("--study", type=Path, default=HERE / "study.toml")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parsed = parser.parse_args(arguments)
    if parsed.processes < 1:
        parser.error("--processes must be at least 1")
    return parsed


def main() -> None:
    arguments = parse()
    study, dataset = read_study(arguments.study), arguments.data.resolve().name
    run = study.run(f"{arguments.scale}/{dataset}/{NNUNET}/n{arguments.labels}/s{arguments.seed}")
    folder = arguments.work / run.name
    cases = StudyCases.load(study.plan(run.scale, run.dataset), arguments.data.resolve().parent, folder)
    layout = Layout(folder.resolve(), dataset, arguments.trainer or trainer_of(arguments.epochs))
    try:
        perform(
            *(run, cases, layout, arguments.results),
            device=arguments.device,
            processes=arguments.processes,
        )
    except MAESegmentError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
