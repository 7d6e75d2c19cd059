"""Fine-tuning's recipe, factor by factor at equal processor time, beside a plain MONAI loop.

    python -m model_training.studies.recipe run --data DATA --work runs/recipe
    python -m model_training.studies.recipe list
    python -m model_training.studies.recipe report

`run` does the runs of study.toml that results.csv lacks, in their order. Run with one thread a process
(OMP_NUM_THREADS=1).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from MAESegmentLib.bundle import ModelStore

from ...tables import append_rows, read_rows
from ..engine import Engine
from .report import write_report
from .study import COLUMNS, Run, Study, read_study, run_name

HERE = Path(__file__).parent


class Performer:
    """Does a run with a base from `models` (default: the shipped and the user's)."""

    def __init__(self, models: ModelStore | None = None) -> None:
        self._models = models

    def __call__(self, study: Study, run: Run, data: Path, work: Path, results: Path) -> None:
        """Train, segment the test cases, and append a row per structure."""
        from .measuring import measure_run

        own = work / f"process-{os.getpid()}"
        rows = measure_run(study, run, data, own, (self._models or ModelStore()).find(study.base))
        append_rows(results, COLUMNS, [{**dict(zip(COLUMNS, run.key, strict=False)), **row} for row in rows])
        shutil.rmtree(own)


def finished(results: Path) -> set[str]:
    """Names of the runs in the file."""
    return {run_name(row["task"], row["arm"], row["seed"], row["budget"]) for row in read_rows(results)}


def engine(models: ModelStore | None = None) -> Engine[Study, Run]:
    return Engine(HERE, read_study, lambda study: study.runs, finished, Performer(models), write_report)


if __name__ == "__main__":
    engine().main(__doc__)
