"""Find the settings that a person who fine-tunes never touches.

    python -m model_training.studies.finetune_defaults run --data DATA --work runs/finetune_defaults
    python -m model_training.studies.finetune_defaults report
    python -m model_training.studies.finetune_defaults merge results.csv other.csv

`run` goes through study.toml and appends each finished run to results.csv; given again, it goes on with those that are
missing. `report` makes the tables and the plot of README.md from results.csv alone.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from MAESegmentLib.bundle import ModelStore
from MAESegmentLib.cases.dataset import load_dataset

from .report import write_report
from .results import append_run, finished_runs, merge_results
from .study import Scenario, read_study

HERE = Path(__file__).parent


def run_scenario(scenario: Scenario, data: Path, work: Path, results: Path, models: ModelStore | None = None) -> int:
    """Every run of the scenario that `results` lacks; how many there were."""
    missing = [run for run in scenario.runs if (scenario.name, run.name) not in finished_runs(results)]
    if not missing:
        return 0
    from .cases import prepare_scenario
    from .training import base_of, measure_run

    dataset = load_dataset(data / scenario.data)
    base = base_of(scenario, dataset, work, models)
    cases = prepare_scenario(scenario, base, dataset, work)
    for run in missing:
        started = time.perf_counter()
        append_run(results, scenario, run, measure_run(scenario, run, base, cases, work))
        print(f"{scenario.name}: {run.name}, {time.perf_counter() - started:.0f} s", flush=True)
    return len(missing)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="do the runs that are missing")
    run.add_argument("--data", type=Path, required=True, help="the folder that holds the data sets")
    run.add_argument("--work", type=Path, required=True, help="for base models and changed images")
    run.add_argument("--scenario", action="append", help="only this one; may be given several times")
    report = commands.add_parser("report", help="make tables and plot from the results")
    merge = commands.add_parser("merge", help="join results of several machines into the first file")
    merge.add_argument("files", type=Path, nargs="+")
    for command in (run, report):
        command.add_argument("--results", type=Path, default=HERE / "results.csv")
        command.add_argument("--study", type=Path, default=HERE / "study.toml")
    arguments = parser.parse_args()
    if arguments.command == "merge":
        merge_results(arguments.files, arguments.files[0])
        return
    scenarios = read_study(arguments.study)
    if arguments.command == "report":
        write_report(scenarios, arguments.results, HERE)
        return
    for scenario in scenarios:
        if not arguments.scenario or scenario.name in arguments.scenario:
            run_scenario(scenario, arguments.data, arguments.work / scenario.name, arguments.results)


if __name__ == "__main__":
    main()
