"""Does masked pretraining make nnFormer data-efficient?

    python -m model_training.studies.data_efficiency list [EXPERIMENT ...]
    python -m model_training.studies.data_efficiency run --data DATA --work DIR primary
    python -m model_training.studies.data_efficiency run --data DATA --work DIR small/hippocampus_mr/mae/n4/s0
    python -m model_training.studies.data_efficiency repeat --data DATA --work DIR small/hippocampus_mr/mae/n4/s0
    python -m model_training.studies.data_efficiency draw --data DATA --work DIR small/hippocampus_mr
    python -m model_training.studies.data_efficiency merge THEIRS OURS --out OURS
    python -m model_training.studies.data_efficiency report

`run` does the runs of an experiment, or single ones, that the results lack, and what they need first (pretraining,
learning-rate search); given again after a kill, it goes on from the last checkpoint. `repeat` does single runs again,
apart from the results, and says how far they are from these. `report` makes every table and plot of README.md from the
CSVs alone; `draw` makes the pictures of images, which need data and weights (`run --keep-weights`).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from .result_files import finished_runs, merge
from .study import NNUNET, Run, Study, read_study

HERE = Path(__file__).parent
RESULTS = HERE / "results"


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


def perform_runs(study: Study, runs: Sequence[Run], arguments: argparse.Namespace) -> None:
    from .training import Workplace, perform

    place = Workplace(study, arguments.data, arguments.work, arguments.results, arguments.keep_weights)
    for run in runs:
        if run.name in finished_runs(arguments.results):
            continue
        if study.arm(run.arm).network == NNUNET:
            print(f"{run.name}: see python -m model_training.studies.data_efficiency.nnunet --help", flush=True)
            continue
        started = time.perf_counter()
        perform(run, place)
        print(f"{run.name}: {time.perf_counter() - started:.0f} s", flush=True)


def draw(study: Study, arguments: argparse.Namespace) -> None:
    from .drawing import draw_pictures
    from .training import Workplace

    place = Workplace(study, arguments.data, arguments.work, arguments.results)
    for name in arguments.plans:
        scale, _, dataset = name.partition("/")
        for path in draw_pictures(study.plan(scale, dataset), place, HERE):
            print(path)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").strip(), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", type=Path, default=HERE / "study.toml")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="do the runs that are missing")
    run.add_argument("--data", type=Path, required=True, help="the folder that holds the data sets")
    run.add_argument("--work", type=Path, required=True, help="for pretrained weights and checkpoints")
    run.add_argument("--dataset", help="only this one of an experiment's data sets")
    run.add_argument("--keep-weights", action="store_true", help="keep the final weights in the work folder")
    listing = commands.add_parser("list", help="what is there and what is missing")
    repeating = commands.add_parser("repeat", help="do single runs again and compare")
    repeating.add_argument("names", nargs="+", metavar="run")
    drawing = commands.add_parser("draw", help="pictures of reconstructions and of the worst cases")
    drawing.add_argument("plans", nargs="+", metavar="SCALE/DATASET")
    for command in (repeating, drawing):
        command.add_argument("--data", type=Path, required=True)
        command.add_argument("--work", type=Path, required=True)
    for command in (run, listing):
        command.add_argument("names", nargs="*", help="experiments or runs (default: every experiment)")
    report = commands.add_parser("report", help="make tables and plots from the results")
    joining = commands.add_parser("merge", help="join the result folders of several machines")
    joining.add_argument("folders", type=Path, nargs="+")
    joining.add_argument("--out", type=Path, required=True)
    for command in (run, listing, report, repeating, drawing):
        command.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    study = read_study(arguments.study)
    if arguments.command == "merge":
        for name, rows in merge(arguments.folders, arguments.out).items():
            print(f"{name}: {rows} rows")
    elif arguments.command == "list":
        list_runs(study, arguments.names, arguments.results)
    elif arguments.command == "report":
        from .report import write_report

        write_report(study, arguments.results, HERE)
    elif arguments.command == "repeat":
        from .repetition import repeat

        for name in arguments.names:
            print(repeat(study.run(name), study, arguments.data, arguments.work, arguments.results), flush=True)
    elif arguments.command == "draw":
        draw(study, arguments)
    else:
        perform_runs(study, chosen_runs(study, arguments.names, arguments.dataset), arguments)


if __name__ == "__main__":
    main()
