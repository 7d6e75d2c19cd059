"""Find the settings that a user who fine-tunes never touches.

    python -m model_training.studies.finetune_defaults run --data DATA --work runs/finetune_defaults
    python -m model_training.studies.finetune_defaults list --only mr-new-labels
    python -m model_training.studies.finetune_defaults report
    python -m model_training.studies.finetune_defaults merge results.csv other.csv

`run` does the runs of study.toml that results.csv lacks. `report` makes the tables and the plot of README.md from
results.csv alone; `merge` joins the results of several machines in the first file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from MAESegmentLib.bundle import Bundle, ModelStore
from MAESegmentLib.cases.dataset import load_dataset

from ...tables import append_rows, merge_rows, read_rows, write_rows
from ..engine import Engine
from .report import write_report
from .study import COLUMNS, KEY, Run, Scenario, read_study

if TYPE_CHECKING:
    from .cases import ScenarioCases

HERE = Path(__file__).parent


class Performer:
    """Does one run after another; base and cases of a scenario are prepared once for runs that follow each other."""

    def __init__(self, models: ModelStore | None = None) -> None:
        self._models = models
        self._prepared: tuple[str, Bundle, ScenarioCases] | None = None

    def __call__(self, study: tuple[Scenario, ...], run: Run, data: Path, work: Path, results: Path) -> None:
        """Train, measure along the way, and append the rows."""
        from .cases import prepare_scenario
        from .training import base_of, measure_run

        scenario = next(scenario for scenario in study if scenario.name == run.scenario)
        folder = work / scenario.name
        if self._prepared is None or self._prepared[0] != scenario.name:
            dataset = load_dataset(data / scenario.data)
            base = base_of(scenario, dataset, folder, self._models)
            self._prepared = scenario.name, base, prepare_scenario(scenario, base, dataset, folder)
        rows = measure_run(scenario, run, *self._prepared[1:], folder)
        append_rows(results, COLUMNS, [{**run.columns(), **row} for row in rows])


def engine(models: ModelStore | None = None) -> Engine[tuple[Scenario, ...], Run]:
    """With models from `models` (default: the shipped and the user's)."""
    return Engine(
        HERE,
        read_study,
        lambda study: [run for scenario in study for run in scenario.runs],
        lambda results: {f"{row['scenario']}: {row['run']}" for row in read_rows(results)},
        Performer(models),
        write_report,
    )


def main() -> None:
    study = engine()
    parser, commands = study.parser(__doc__)
    merge = commands.add_parser("merge", help="join results of several machines in the first file")
    merge.add_argument("files", type=Path, nargs="+")
    arguments = parser.parse_args()
    if arguments.command == "merge":
        write_rows(arguments.files[0], COLUMNS, merge_rows(arguments.files, KEY))
    else:
        study.execute(arguments)


if __name__ == "__main__":
    main()
