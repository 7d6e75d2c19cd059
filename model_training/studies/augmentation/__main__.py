"""How patches are changed in fine-tuning, and what predictions are averaged over, at equal processor time.

    python -m model_training.studies.augmentation run --data DATA --work runs/augmentation
    python -m model_training.studies.augmentation list
    python -m model_training.studies.augmentation report

`run` does the runs of study.toml that results.csv lacks, in their order. Run with one thread a process
(OMP_NUM_THREADS=1).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from MAESegmentLib.bundle import ModelStore

from ..engine import Engine
from ..recipe.__main__ import finished
from ..recipe.measuring import Measured, Performer
from ..recipe.study import Run, Study, read_study
from .report import COLUMNS, WAYS, write_report

HERE = Path(__file__).parent


def averaged_rows(_run: Run, measured: Measured) -> list[dict[str, Any]]:
    """A row per structure, and one of their mean."""
    more = {"averaging": measured.way, "seconds_a_case": f"{measured.seconds_per_case:.2f}"}
    return [{**row, **more} for row in measured.mean_rows()]


def engine(models: ModelStore | None = None) -> Engine[Study, Run]:
    perform = Performer(COLUMNS, averaged_rows, models, WAYS)
    return Engine(HERE, read_study, lambda study: study.runs, finished, perform, write_report)


if __name__ == "__main__":
    engine().main(__doc__)
