"""A clinic corrects 1, 2, 4 and 8 scans of organs that the model has never seen with labels.

    python -m model_training.studies.simulated_clinic run --data DATA --work runs/simulated_clinic
    python -m model_training.studies.simulated_clinic report

`run` appends each finished run to runs.csv and metrics.csv; given again, it resumes. `report` makes the table and the
plot of README.md from them alone.
"""

from __future__ import annotations

from pathlib import Path

from MAESegmentLib.bundle import ModelStore
from MAESegmentLib.cases.dataset import load_dataset

from ...tables import append_rows, read_rows
from ..engine import Engine
from .clinic import METRIC_COLUMNS, METRICS, RUN_COLUMNS, RUNS, Clinic, ClinicRun, finetune_run, measure, read_clinic
from .clinic import run_row as row_of
from .report import write_report

HERE = Path(__file__).parent


class Performer:
    """Does a run with a base from `models` (default: the shipped and the user's)."""

    def __init__(self, models: ModelStore | None = None) -> None:
        self._models = models

    def __call__(self, clinic: Clinic, run: ClinicRun, data: Path, work: Path, results: Path) -> None:
        """Train, segment the validation cases, and append the rows; figures first, since runs.csv says what is done."""
        dataset = load_dataset(data / clinic.data)
        model = finetune_run(clinic, run, dataset, work, self._models or ModelStore())
        if run.name not in {row["run"] for row in read_rows(results / METRICS)}:
            rows = measure(clinic, model, dataset)
            append_rows(results / METRICS, METRIC_COLUMNS, [{"run": run.name, **row} for row in rows])
        append_rows(results / RUNS, RUN_COLUMNS, [row_of(run, model)])


def engine(models: ModelStore | None = None) -> Engine[Clinic, ClinicRun]:
    return Engine(
        HERE,
        read_clinic,
        lambda clinic: clinic.runs,
        lambda results: {row["run"] for row in read_rows(results / RUNS)},
        Performer(models),
        write_report,
        file="clinic.toml",
        results="",
    )


if __name__ == "__main__":
    engine().main(__doc__)
