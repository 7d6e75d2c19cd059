"""Does masked pretraining make nnFormer data-efficient?

    python -m model_training.studies.data_efficiency list [EXPERIMENT ...]
    python -m model_training.studies.data_efficiency run --data DATA --work DIR primary
    python -m model_training.studies.data_efficiency run --data DATA --work DIR small/hippocampus_mr/mae/n4/s0
    python -m model_training.studies.data_efficiency repeat --data DATA --work DIR small/hippocampus_mr/mae/n4/s0
    python -m model_training.studies.data_efficiency draw --data DATA --work DIR small/hippocampus_mr
    python -m model_training.studies.data_efficiency merge THEIRS OURS --out OURS
    python -m model_training.studies.data_efficiency report

`run` does the runs of an experiment, or single ones, that the results lack, and what they need first (pretraining,
learning-rate search); given again after a kill, it resumes from the last checkpoint. `repeat` does single runs again,
apart from the results, and says how far they are from these. `report` makes every table and plot of README.md from the
CSVs alone; `draw` makes the pictures of images, which need data and weights (`run --keep-weights`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..engine import Engine, add_places
from .report import write_report
from .result_files import finished_runs, merge
from .study import NNUNET, Run, Study, read_study

HERE = Path(__file__).parent


def chosen_runs(study: Study, names: Sequence[str], dataset: str | None) -> list[Run]:
    """Runs of experiments or of single names, in order; all experiments without any."""
    experiments = {experiment.name for experiment in study.experiments}
    runs: list[Run] = []
    for name in names or [experiment.name for experiment in study.experiments]:
        runs += study.experiment(name).runs(dataset) if name in experiments else [study.run(name)]
    return list(dict.fromkeys(runs))


def list_runs(study: Study, names: Sequence[str], results: Path) -> None:
    finished = finished_runs(results)
    for name in names or [experiment.name for experiment in study.experiments]:
        runs = chosen_runs(study, [name], None)
        done = sum(run.name in finished for run in runs)
        print(f"{name}: {done} of {len(runs)} runs are there")
        if names:
            for run in runs:
                print(f"  {'done   ' if run.name in finished else 'missing'} {run.name}")


def perform(study: Study, run: Run, data: Path, work: Path, results: Path, *, keep: bool = False) -> None:
    """Do a run; nnU-Net's have a command of their own."""
    from . import training

    if study.arm(run.arm).network == NNUNET:
        print("  see python -m model_training.studies.data_efficiency.nnunet --help", flush=True)
    else:
        training.perform(run, training.Workplace(study, data, work, results, keep))


ENGINE = Engine(HERE, read_study, lambda study: study.runs(), finished_runs, perform, write_report, results="results")


def draw(study: Study, arguments: argparse.Namespace) -> None:
    from .drawing import draw_pictures
    from .training import Workplace

    place = Workplace(study, arguments.data, arguments.work, arguments.results)
    for name in arguments.plans:
        scale, _, dataset = name.partition("/")
        for path in draw_pictures(study.plan(scale, dataset), place, HERE):
            print(path)


def parse() -> argparse.Namespace:
    parser, commands = ENGINE.parser(__doc__)
    run, listing = commands.choices["run"], commands.choices["list"]
    run.add_argument("--dataset", help="only this one of an experiment's data sets")
    run.add_argument("--keep-weights", action="store_true", help="keep the final weights in the work folder")
    for command in (run, listing):
        command.add_argument("names", nargs="*", help="experiments or runs (default: every experiment)")
    repeating = commands.add_parser("repeat", help="do single runs again and compare")
    repeating.add_argument("names", nargs="+", metavar="run")
    drawing = commands.add_parser("draw", help="pictures of reconstructions and of the worst cases")
    drawing.add_argument("plans", nargs="+", metavar="SCALE/DATASET")
    for command in (repeating, drawing):
        add_places(command)
        command.add_argument("--study", type=Path, default=HERE / ENGINE.file)
        command.add_argument("--results", type=Path, default=HERE / ENGINE.results)
    joining = commands.add_parser("merge", help="join the result folders of several machines")
    joining.add_argument("folders", type=Path, nargs="+")
    joining.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    if arguments.command == "merge":
        for name, rows in merge(arguments.folders, arguments.out).items():
            print(f"{name}: {rows} rows")
    elif arguments.command == "list":
        list_runs(read_study(arguments.study), arguments.names, arguments.results)
    elif arguments.command == "repeat":
        from .repetition import repeat

        study = read_study(arguments.study)
        for name in arguments.names:
            print(repeat(study.run(name), study, arguments.data, arguments.work, arguments.results), flush=True)
    elif arguments.command == "draw":
        draw(read_study(arguments.study), arguments)
    elif arguments.command == "run":
        chosen = replace(
            ENGINE,
            runs=lambda study: chosen_runs(study, arguments.names, arguments.dataset),
            perform=lambda *run: perform(*run, keep=arguments.keep_weights),
        )
        chosen.execute(arguments)
    else:
        ENGINE.execute(arguments)


if __name__ == "__main__":
    main()
