"""What a network should have learnt before it meets a new anatomy: nothing, to reconstruct, to segment, or both.

    python -m model_training.studies.starts run --data DATA --work runs/starts
    python -m model_training.studies.starts list
    python -m model_training.studies.starts report

`run` does the runs of study.toml that results.csv lacks, in their order. Run with one thread a process
(OMP_NUM_THREADS=1).
"""

from __future__ import annotations

import shutil
from pathlib import Path

from MAESegmentLib.bundle import ModelStore

from ...tables import append_rows, read_rows
from ..engine import Engine
from ..recipe.study import run_name
from .report import write_report
from .study import COLUMNS, Run, Study, read_study

HERE = Path(__file__).parent


class Performer:
    """Does a run with a base from `models` (default: the shipped and the user's)."""

    def __init__(self, models: ModelStore | None = None) -> None:
        self._models = models

    def __call__(self, study: Study, run: Run, data: Path, work: Path, results: Path) -> None:
        """Make or find the start, learn the task, segment its test cases, and append a row per structure."""
        from ..recipe import study as recipe
        from ..recipe.measuring import measure_run
        from .starting import folder_of, start_of

        base = (self._models or ModelStore()).find(run.task.base)
        model, weights = start_of(study, run, data, work, base)
        own = folder_of(run, work)
        settings = {**study.centre, **run.start.settings, "initial_weights": weights}
        arm = recipe.Arm(run.start.name, None, {**settings, "steps": study.steps(run, run.budget)})
        rows = measure_run(recipe.Run(run.task, arm, run.seed, run.budget), data, own, model)[0].mean_rows()
        append_rows(results, COLUMNS, [{**dict(zip(COLUMNS, run.key, strict=False)), **row} for row in rows])
        shutil.rmtree(own)


def finished(results: Path) -> set[str]:
    """Names of the runs in the file."""
    return {run_name(row["task"], row["start"], row["seed"], row["budget"]) for row in read_rows(results)}


def engine(models: ModelStore | None = None) -> Engine[Study, Run]:
    return Engine(HERE, read_study, lambda study: study.runs, finished, Performer(models), write_report)


if __name__ == "__main__":
    engine().main(__doc__)
