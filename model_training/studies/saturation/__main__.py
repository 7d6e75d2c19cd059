"""Is pretraining worth something once training is as long as it helps, and from how much compute on?

    python -m model_training.studies.saturation run --data DATA --work runs/saturation
    python -m model_training.studies.saturation list
    python -m model_training.studies.saturation report

`run` climbs the ladders of study.toml, block by block, each until it has ended by its rule; a run that was killed
resumes from its last checkpoint. Run with one thread a process (OMP_NUM_THREADS=1).
"""

from __future__ import annotations

from pathlib import Path

from ..data_efficiency.study import Run
from ..engine import Engine
from .report import write_report
from .study import Ends, Study, read_study

HERE = Path(__file__).parent


def perform(study: Study, run: Run, data: Path, work: Path, results: Path) -> None:
    from ..data_efficiency import training

    training.perform(run, training.Workplace(study.inner, data, work, results))


def engine(study: Path = HERE / "study.toml") -> Engine[Study, Run]:
    def settled(results: Path) -> set[str]:
        ends = Ends(read_study(study), results)
        return ends.finished | ends.needless()

    return Engine(HERE, read_study, lambda study: study.runs, settled, perform, write_report, results="results")


def main() -> None:
    parser, _ = engine().parser(__doc__)
    arguments = parser.parse_args()
    engine(arguments.study).execute(arguments)


if __name__ == "__main__":
    main()
