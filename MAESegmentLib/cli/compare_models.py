"""`maesegment models compare A B`: which of two models is better on the same cases, structure by structure."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ..text import csv_cell
from . import options
from .evaluate import labelled_cases
from .terminal import ProgressBar, check_csv, figure, make_console, make_table, write_csv

if TYPE_CHECKING:
    from rich.table import Table

    from ..bundle import Bundle
    from ..cases.case import Case
    from ..evaluation.cases import Evaluation, Measure

#: Exit code when some case could not be evaluated with both models.
INCOMPLETE = 1


#: Of each structure, by case: the Dice of both models, where both have one.
PairedDice = Mapping[str, Mapping[str, tuple[float, float]]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", metavar="A", help=options.MODEL)
    parser.add_argument("second", metavar="B", help=options.MODEL)
    options.add_dataset(parser)
    options.add_out(parser, "CSV", "also write the Dice of every case")
    options.add_device(parser)


def run(arguments: argparse.Namespace) -> int:
    from ..bundle import ModelStore
    from ..cases.dataset import load_dataset
    from ..errors import DatasetError
    from ..evaluation.cases import Measure

    if arguments.out:
        check_csv(arguments.out)
    store = ModelStore()
    bundles = [store.find(text, kind="segmentation") for text in (arguments.first, arguments.second)]
    dataset = load_dataset(arguments.data)
    cases, labels = labelled_cases(dataset, arguments.split)
    cases = tuple(case for case in cases if case.label is not None)
    measure = Measure(labels, ignore=dataset.ignore)
    evaluations = [_evaluate(bundle, cases, measure, arguments) for bundle in bundles]
    paired = pair(*evaluations)
    if not any(paired.values()):
        reasons = [reason for evaluation in evaluations for reason in evaluation.failures.values()]
        raise DatasetError(
            "There is nothing to compare: no structure of any case was measured with both models.",
            reasons[0] if reasons else "The models need a structure in common, by name, with the dataset.",
        )
    console = make_console()
    console.print(difference_table(paired, *(f"{b.name}@{b.version}" for b in bundles)))
    failures = {case: reason for evaluation in evaluations for case, reason in evaluation.failures.items()}
    for case, reason in failures.items():
        console.print(f"left out: {case}: {reason}")
    if arguments.out:
        write_csv(arguments.out, ("case", "label", "dice_a", "dice_b"), _csv_rows(paired))
        console.print(f"Written: {arguments.out}", soft_wrap=True)
    return INCOMPLETE if failures else 0


def pair(first: Evaluation, second: Evaluation) -> PairedDice:
    """Figures that both evaluations have. A structure a model missed counts as 0 in its case."""
    other = {(score.case, score.label): score.dice for score in second.scores}
    paired: dict[str, dict[str, tuple[float, float]]] = {score.label: {} for score in [*first.scores, *second.scores]}
    for score in first.scores:
        dice = other.get((score.case, score.label))
        if score.dice is not None and dice is not None:
            paired[score.label][score.case] = score.dice, dice
    return paired


def difference_table(paired: PairedDice, first: str, second: str) -> Table:
    """Mean Dice of both and their mean difference, with the standard deviation over cases."""
    from ..evaluation.report import Figure

    figures = ("Dice A", "Dice B", "B - A", "B better in", "n paired")
    table = make_table("structure", *figures, right=figures, title=f"A = {first}, B = {second}")
    for label, cases in paired.items():
        a, b = (Figure.of([dice[which] for dice in cases.values()]) for which in (0, 1))
        difference = Figure.of([b - a for a, b in cases.values()])
        change = "-" if difference.mean is None else f"{difference.mean:+.3f}"
        spread = f" ± {difference.std:.3f}" if difference.n > 1 else ""
        better = f"{sum(b > a for a, b in cases.values())} of {a.n}" if cases else "-"
        table.add_row(label, figure(a.mean), figure(b.mean), change + spread, better, str(a.n))
    return table


def _evaluate(bundle: Bundle, cases: Sequence[Case], measure: Measure, arguments: argparse.Namespace) -> Evaluation:
    from ..evaluation.cases import ModelPredictions, evaluate_cases
    from ..inference.predictor import Predictor

    predictor = Predictor(bundle, options.inference_settings(arguments, bundle))
    predictions = ModelPredictions(predictor, bundle.labels, measure.labels)
    with ProgressBar(f"{bundle.name} {bundle.version}", len(cases)) as bar:
        return evaluate_cases(cases, predictions, measure, on_case=lambda done, _total, _name: bar.update(done))


def _csv_rows(paired: PairedDice) -> Iterator[Sequence[object]]:
    for label, cases in paired.items():
        for case, dice in cases.items():
            yield csv_cell(case), csv_cell(label), *(f"{value:.6g}" for value in dice)
