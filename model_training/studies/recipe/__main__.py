"""Fine-tuning's recipe, factor by factor at equal processor time, beside a plain MONAI loop.

    python -m model_training.studies.recipe run --data DATA --work runs/recipe
    python -m model_training.studies.recipe list
    python -m model_training.studies.recipe report

`run` does the runs of study.toml that results.csv lacks, in their order, and appends each when it is through; `--only`
takes those whose line in `list` holds the words. Run with one thread a process (OMP_NUM_THREADS=1).
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

from .report import write_report
from .results import append_run, finished_runs
from .study import Run, Study, read_study

HERE = Path(__file__).parent


def do_run(study: Study, run: Run, data: Path, work: Path, results: Path) -> None:
    """Train, segment the test cases, and append a row per structure."""
    from .measuring import measure_run

    append_run(results, run, measure_run(study, run, data, work))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="do the runs that are missing")
    run.add_argument("--data", type=Path, required=True, help="the folder that holds the data sets")
    run.add_argument("--work", type=Path, required=True, help="for the tasks' cases and the runs' folders")
    listing = commands.add_parser("list", help="name the runs that are missing")
    report = commands.add_parser("report", help="make README.md's table from the results")
    for command in (run, listing):
        command.add_argument("--only", default="", help="words that a run's line must hold")
    for command in (run, listing, report):
        command.add_argument("--results", type=Path, default=HERE / "results.csv")
        command.add_argument("--study", type=Path, default=HERE / "study.toml")
    arguments = parser.parse_args()
    study = read_study(arguments.study)
    if arguments.command == "report":
        write_report(study, arguments.results, HERE / "README.md")
        return
    for each in study.runs:
        if arguments.only not in each.line or each.key in finished_runs(arguments.results):
            continue
        print(each.line, flush=True)
        if arguments.command == "run":
            own = arguments.work / f"process-{os.getpid()}"
            do_run(study, each, arguments.data, own, arguments.results)
            shutil.rmtree(own)


if __name__ == "__main__":
    main()
