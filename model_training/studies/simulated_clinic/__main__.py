"""A clinic corrects 1, 2, 4 and 8 scans of organs that the model has never seen with labels.

    python -m model_training.studies.simulated_clinic run --data DATA --work runs/simulated_clinic
    python -m model_training.studies.simulated_clinic report

`run` appends each finished run to runs.csv and metrics.csv; given again, it goes on. `report` makes the table and the
plot of README.md from them alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from MAESegmentLib.bundle import ModelStore
from MAESegmentLib.cases.dataset import load_dataset

from .clinic import METRIC_COLUMNS, RUN_COLUMNS, Clinic, append_rows, finetune_run, measure, read_clinic, read_rows
from .clinic import run_row as row_of
from .report import write_report

HERE = Path(__file__).parent
RUNS, METRICS = "runs.csv", "metrics.csv"


def run_clinic(clinic: Clinic, data: Path, work: Path, out: Path, models: ModelStore | None = None) -> int:
    """Every run that `out`/runs.csv lacks; how many there were."""
    done = {row["run"] for row in read_rows(out / RUNS)}
    dataset = load_dataset(data / clinic.data)
    count = 0
    for run in clinic.runs:
        if run.name in done:
            continue
        model = finetune_run(clinic, run, dataset, work, models or ModelStore())
        # Figures first: a run counts as done once its line is in runs.csv.
        if run.name not in {row["run"] for row in read_rows(out / METRICS)}:
            rows = measure(clinic, model, dataset)
            append_rows(out / METRICS, METRIC_COLUMNS, [{"run": run.name, **row} for row in rows])
        append_rows(out / RUNS, RUN_COLUMNS, [row_of(run, model)])
        print(f"{run.name}: done", flush=True)
        count += 1
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="do the runs that are missing")
    run.add_argument("--data", type=Path, required=True, help="the folder that holds the data sets")
    run.add_argument("--work", type=Path, required=True, help="for the fine-tuned models")
    report = commands.add_parser("report", help="make table and plot from the results")
    for command in (run, report):
        command.add_argument("--out", type=Path, default=HERE, help="where the results lie")
        command.add_argument("--clinic", type=Path, default=HERE / "clinic.toml")
    arguments = parser.parse_args()
    clinic = read_clinic(arguments.clinic)
    if arguments.command == "report":
        write_report(clinic.labels, arguments.out)
    else:
        run_clinic(clinic, arguments.data, arguments.work, arguments.out)


if __name__ == "__main__":
    main()
