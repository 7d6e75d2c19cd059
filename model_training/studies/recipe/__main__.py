"""Fine-tuning's recipe, factor by factor at equal processor time, beside a plain MONAI loop.

    python -m model_training.studies.recipe run --data DATA --work runs/recipe
    python -m model_training.studies.recipe list
    python -m model_training.studies.recipe report

`run` does the runs of study.toml that results.csv lacks, in their order. Run with one thread a process
(OMP_NUM_THREADS=1).
"""

from __future__ import annotations

from pathlib import Path

from MAESegmentLib.bundle import ModelStore

from ...tables import read_rows
from ..engine import Engine
from .measuring import Performer
from .report import write_report
from .study import COLUMNS, Run, Study, read_study, run_name

HERE = Path(__file__).parent


def finished(results: Path) -> set[str]:
    """Names of the runs in the file."""
    return {run_name(row["task"], row["arm"], row["seed"], row["budget"]) for row in read_rows(results)}


def engine(models: ModelStore | None = None) -> Engine[Study, Run]:
    perform = Performer(COLUMNS, lambda _, measured: measured.mean_rows(), models)
    return Engine(HERE, read_study, lambda study: study.runs, finished, perform, write_report)


if __name__ == "__main__":
    engine().main(__doc__)
