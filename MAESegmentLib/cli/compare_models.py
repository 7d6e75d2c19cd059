"""`maesegment models compare A B`: which of two models is better on the same cases, structure by structure."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..text import csv_cell
from .terminal import make_console, say

if TYPE_CHECKING:
    from rich.table import Table

    from ..bundle import Bundle
    from ..cases.case import Case
    from ..cases.dataset import CaseDataset
    from ..evaluation.cases import Evaluation, Measure

#: Exit code when some case could not be evaluated with both models.
INCOMPLETE = 1


@dataclass(frozen=True)
class PairedDice:
    """Dice of one structure by both models in the cases where both have a figure, in the order of `cases`."""

    label: str
    cases: tuple[str, ...]
    first: tuple[float, ...]
    second: tuple[float, ...]

    @property
    def differences(self) -> tuple[float, ...]:
        """Second minus first, case by case."""
        return tuple(b - a for a, b in zip(self.first, self.second, strict=True))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", metavar="A", help="name, NAME@VERSION or folder")
    parser.add_argument("second", metavar="B", help="name, NAME@VERSION or folder")
    parser.add_argument("--data", type=Path, required=True, metavar="PATH", help="dataset.json, or a folder of cases")
    parser.add_argument("--split", help="a split of the dataset, or case ids with commas (default: all labelled cases)")
    parser.add_argument("-o", "--output", type=Path, metavar="CSV", help="also write the Dice of every case")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")


def run(arguments: argparse.Namespace) -> int:

    from ..bundle import ModelStore
    from ..cases.dataset import load_dataset
    from ..errors import DatasetError
    from ..evaluation.cases import Measure
    from ..images.labels import Label

    console = make_console()
    store = ModelStore()
    bundles = [store.find(text, kind="segmentation") for text in (arguments.first, arguments.second)]
    dataset = load_dataset(arguments.data)
    for note in dataset.notes:
        say(f"note: {note}", error=True)
    cases = _labelled_cases(dataset, arguments.split)
    labels = [Label(value, name) for name, value in dataset.labels.items()]
    measure = Measure(labels, ignore=dataset.ignore)
    evaluations = [_evaluate(bundle, cases, measure, arguments.device) for bundle in bundles]
    paired = pair(*evaluations)
    if not any(row.cases for row in paired):
        reasons = [reason for evaluation in evaluations for reason in evaluation.failures.values()]
        raise DatasetError(
            "There is nothing to compare: no structure of any case was measured with both models.",
            reasons[0] if reasons else "The models need a structure in common, by name, with the dataset.",
        )
    if arguments.output:
        _write_csv(arguments.output, paired)
    console.print(difference_table(paired, *(f"{b.name}@{b.version}" for b in bundles)))
    failures = {case: reason for evaluation in evaluations for case, reason in evaluation.failures.items()}
    for case, reason in failures.items():
        console.print(f"left out: {case}: {reason}")
    if arguments.output:
        console.print(f"Written: {arguments.output}", soft_wrap=True)
    return INCOMPLETE if failures else 0


def pair(first: Evaluation, second: Evaluation) -> list[PairedDice]:
    """Figures that both evaluations have, per structure. A structure a model missed counts as 0 in its case."""
    other = {(score.case, score.label): score.dice for score in second.scores}
    rows: dict[str, list[tuple[str, float, float]]] = {score.label: [] for score in [*first.scores, *second.scores]}
    for score in first.scores:
        dice = other.get((score.case, score.label))
        if score.dice is not None and dice is not None:
            rows[score.label].append((score.case, score.dice, dice))
    return [
        PairedDice(label, tuple(r[0] for r in found), tuple(r[1] for r in found), tuple(r[2] for r in found))
        for label, found in rows.items()
    ]


def difference_table(paired: Sequence[PairedDice], first: str, second: str) -> Table:
    """Mean Dice of both and their mean difference, with the standard deviation over cases."""
    from rich import box
    from rich.table import Table

    from ..evaluation.summary import Figure

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=f"A = {first}, B = {second}", title_justify="left")
    table.add_column("structure", overflow="fold")
    for heading in ("Dice A", "Dice B", "B - A", "B better in", "n paired"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in paired:
        if not row.cases:
            table.add_row(row.label, "-", "-", "-", "-", "0")
            continue
        a, b, difference = (Figure.of(values) for values in (row.first, row.second, row.differences))
        spread = f" ± {difference.std:.3f}" if difference.n > 1 else ""
        better = sum(value > 0 for value in row.differences)
        change = f"{difference.mean:+.3f}{spread}"
        table.add_row(row.label, f"{a.mean:.3f}", f"{b.mean:.3f}", change, f"{better} of {a.n}", str(a.n))
    return table


def _evaluate(bundle: Bundle, cases: Sequence[Case], measure: Measure, device: str) -> Evaluation:
    from rich.progress import Progress

    from ..evaluation.cases import ModelPredictions, evaluate_cases
    from ..inference.predictor import Predictor
    from ..inference.settings import InferenceSettings

    settings = InferenceSettings.of_model(bundle.spec.inference, device=device)
    predictions = ModelPredictions(Predictor(bundle, settings), bundle.labels, measure.labels)
    console = make_console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"{bundle.name} {bundle.version}", total=len(cases))
        return evaluate_cases(
            cases, predictions, measure, on_case=lambda done, _total, _name: bar.update(task, completed=done)
        )


def _labelled_cases(dataset: CaseDataset, split: str | None) -> tuple[Case, ...]:
    from ..errors import DatasetError

    cases = tuple(case for case in (dataset.select(split) if split else dataset.cases) if case.label is not None)
    if not cases or not dataset.labels:
        raise DatasetError(
            "The dataset has no cases with named reference labels, so the models cannot be compared.",
            'Give labelled cases and, in dataset.json, "labels": {"background": 0, "liver": 1}.',
        )
    return cases


def _write_csv(path: Path, paired: Sequence[PairedDice]) -> None:
    from ..storage.atomic_file import replacing

    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("case", "label", "dice_a", "dice_b"))
        for row in paired:
            for case, a, b in zip(row.cases, row.first, row.second, strict=True):
                writer.writerow((csv_cell(case), csv_cell(row.label), f"{a:.6g}", f"{b:.6g}"))
