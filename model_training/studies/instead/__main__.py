"""What a user would do instead of fine-tuning: other networks from scratch in the same processor time.

    python -m model_training.studies.instead run --data DATA --work runs/instead
    python -m model_training.studies.instead list
    python -m model_training.studies.instead report

`run` does the runs of study.toml that results.csv lacks, in their order; a run that ../recipe has done counts. Run with
one thread a process (OMP_NUM_THREADS=1).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from MAESegmentLib.bundle import ModelStore

from ..engine import Engine
from ..recipe.measuring import Measured, Performer
from ..recipe.study import Run, Study, read_study
from .report import COLUMNS, finished, write_report

HERE = Path(__file__).parent


def case_rows(run: Run, measured: Measured) -> list[dict[str, Any]]:
    """A row per case and structure; Dice is empty where neither has the structure."""
    cases = "final" if run.final else "test"
    shared = {"cases": cases, "steps": measured.steps, "seconds": round(measured.seconds)}
    return [
        {**shared, "case": case, "structure": name, "dice": "" if value != value else f"{value:.4f}"}
        for case, values in zip(measured.cases, measured.dice, strict=True)
        for name, value in zip(measured.structures, values, strict=True)
    ]


def engine(models: ModelStore | None = None) -> Engine[Study, Run]:
    perform = Performer(COLUMNS, case_rows, models)
    return Engine(HERE, read_study, lambda study: study.runs, finished, perform, write_report)


if __name__ == "__main__":
    engine().main(__doc__)
