"""What scans without labels bring to a fine-tuning from four labelled cases, in the same processor time.

    python -m model_training.studies.unlabelled run --data DATA --work runs/unlabelled
    python -m model_training.studies.unlabelled list
    python -m model_training.studies.unlabelled report

`run` does the runs of study.toml that results.csv lacks, in their order. Run with one thread a process
(OMP_NUM_THREADS=1).
"""

from __future__ import annotations

from pathlib import Path

from MAESegmentLib.bundle import ModelStore

from ..engine import Engine
from ..recipe.__main__ import finished
from ..recipe.measuring import Performer
from ..recipe.report import write_report
from ..recipe.study import COLUMNS, Run, Study, read_study

HERE = Path(__file__).parent


def engine(models: ModelStore | None = None) -> Engine[Study, Run]:
    perform = Performer(COLUMNS, lambda _, measured: measured.mean_rows(), models)
    return Engine(HERE, read_study, lambda study: study.runs, finished, perform, write_report)


if __name__ == "__main__":
    engine().main(__doc__)
