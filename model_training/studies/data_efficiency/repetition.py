"""Repeat one run apart from the results, and report how far the two are from each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .measuring import mean_dice
from .result_files import METRICS, PRETEXTS, RUNS, append_rows, read_rows
from .study import Run, Study
from .training import Workplace, perform


@dataclass(frozen=True)
class Repeated:
    """Mean Dice over labels and cases of both, and the largest difference of any case and label; None: not there."""

    run: str
    again: float
    before: float | None = None
    largest: float | None = None

    def __str__(self) -> str:
        if self.before is None or self.largest is None:
            return f"{self.run}: mean Dice {self.again:.4f}; the results have no such run to compare with."
        return (
            f"{self.run}: mean Dice {self.again:.4f} again, {self.before:.4f} in the results; "
            f"largest difference of a case and label {self.largest:.4f}."
        )


def repeat(run: Run, study: Study, data: Path, work: Path, results: Path) -> Repeated:
    """Do `run` in `work`, with the learning rate that the search in `results` chose; it resumes after a kill.

    Pretrained weights are taken from `work`; where it has none, they are trained again.
    """
    out = work / "repeated" / run.name / "results"
    if not out.exists():
        _copy_search(run, study, results, out)
    perform(run, Workplace(study, data, work, out))
    again, before = (_final(run.name, folder) for folder in (out, results))
    if not before:
        return Repeated(run.name, mean_dice(list(again.values())))
    differences = [abs(float(row["dice"]) - float(before[key]["dice"])) for key, row in again.items() if row["dice"]]
    return Repeated(run.name, mean_dice(list(again.values())), mean_dice(list(before.values())), max(differences))


def _copy_search(run: Run, study: Study, results: Path, out: Path) -> None:
    """Rows of the search and of pretrainings: what a run rests on, and is not asked to do again."""
    searched = study.search_runs(run)
    names = {search.name for search in (*searched, *study.confirming_runs(searched))}
    append_rows(out / PRETEXTS, read_rows(results / PRETEXTS))
    append_rows(out / METRICS, [r for r in read_rows(results / METRICS) if r["run"] in names])
    append_rows(out / RUNS, [r for r in read_rows(results / RUNS) if r["run"] in names])


def _final(run: str, results: Path) -> dict[tuple[str, str], dict[str, str]]:
    rows = [row for row in read_rows(results / METRICS) if row["run"] == run]
    grid = "scan" if any(row["grid"] == "scan" for row in rows) else "network"
    return {(row["case"], row["label"]): row for row in rows if row["grid"] == grid}
