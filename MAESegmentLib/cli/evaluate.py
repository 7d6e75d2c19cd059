"""`maesegment evaluate` and `maesegment models compare`: how well label maps agree with references."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..text import csv_cell, visible
from . import options
from .terminal import ProgressBar, check_csv, figure, make_console, make_table, say, write_csv

if TYPE_CHECKING:
    from rich.table import Table

    from ..bundle import Bundle
    from ..cases.case import Case
    from ..cases.dataset import CaseDataset
    from ..evaluation.cases import CaseResult, Evaluation, Measure, ModelPredictions, Predictions
    from ..evaluation.report import Figure, LabelSummary
    from ..images.labels import Label
    from ..inference.settings import InferenceSettings

#: Exit code when some case could not be evaluated.
INCOMPLETE = 1
#: Of each structure, by case: the Dice of both models, where both have one.
PairedDice = Mapping[str, Mapping[str, tuple[float, float]]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Run the same command again to resume where it was stopped."
    source = parser.add_mutually_exclusive_group(required=True)
    options.add_model(source)
    source.add_argument(
        "--predictions",
        type=Path,
        metavar="DIR",
        help="instead of a model, evaluate the label maps in DIR, named after the cases",
    )
    options.add_dataset(parser)
    options.add_out(parser, "DIR", "folder for metrics.csv and summary.json", required=True)
    options.add_inference(parser)
    parser.add_argument(
        "--tolerance",
        type=_positive,
        default=1.0,
        metavar="MM",
        help="for surface Dice, surfaces within this distance agree (default: 1 mm)",
    )
    parser.add_argument(
        "--annotated-slices",
        action="append",
        default=[],
        metavar="STRUCTURE",
        help="count what is found of this structure only between the first and the last axial slice that the reference "
        "has of it, as contours of long structures end somewhere; may be given several times",
    )


def run(arguments: argparse.Namespace) -> int:
    from ..cases.dataset import load_dataset
    from ..evaluation.cases import Measure
    from ..storage.lock import FileLock

    dataset = load_dataset(arguments.data)
    cases, labels = labelled_cases(dataset, arguments.split)
    annotated = _known_names(arguments.annotated_slices, labels)
    measure = Measure(labels, arguments.tolerance, dataset.labels, dataset.ignore, annotated)
    source = _source(arguments, labels)
    options.made_folder(arguments.out)
    busy = f"Another evaluation is writing to {arguments.out}."
    with FileLock(arguments.out / ".evaluate.lock", timeout_s=0, busy=busy):
        evaluation = _evaluate(cases, source, measure, arguments.out)
        details = {"data": dataset.name, "split": arguments.split, "surface_tolerance_mm": arguments.tolerance}
        details |= {"annotated_slices": list(annotated)}
        _report(evaluation, arguments, {**source.details, **details})
    return INCOMPLETE if evaluation.failures else 0


@dataclass(frozen=True)
class _Source:
    """Where label maps come from. `made_with` decides about the figures, `details` are for `summary.json`.

    `file_of` gives what lies ready for a case; `predictions` may take long, and is asked for only if it is needed.
    """

    made_with: dict[str, Any]
    details: dict[str, Any]
    predictions: Callable[[], Predictions]
    file_of: Callable[[Case], list[Path]] = lambda _case: []


def _evaluate(cases: Sequence[Case], source: _Source, measure: Measure, out: Path) -> Evaluation:
    """Resumes what was begun in `out`: only cases that were not measured yet, or have changed since, are measured."""
    from ..evaluation.cases import CaseResult, Evaluation, evaluate_cases
    from ..evaluation.log import EvaluationLog, stamp_of
    from ..evaluation.report import METRICS, MetricsTable

    settings: dict[str, Any] = {
        "labels": dict(measure.values),
        "ignore": measure.ignore,
        "surface_tolerance_mm": measure.tolerance_mm,
    }
    if measure.annotated_slices:
        settings["annotated_slices"] = sorted(measure.annotated_slices)
    log = EvaluationLog(out, {**source.made_with, **settings})
    stamps = {case.id: stamp_of(case, *source.file_of(case)) for case in cases}
    done = log.done(cases, stamps)
    table = MetricsTable(out / METRICS, [score for result in done.values() for score in result.scores])
    if done:
        say(f"{len(done)} of {len(cases)} cases were measured before.", error=True)
    if len(done) == len(cases):
        return Evaluation({case.id: done[case.id] for case in cases})
    with ProgressBar("", len(cases), done=len(done)) as bar:
        measured = len(done)

        def on_result(case: Case, result: CaseResult | str) -> None:
            if isinstance(result, CaseResult):
                table.add(result.scores)
                log.add(case, stamps[case.id], result)
            nonlocal measured
            measured += 1
            if not bar.is_drawn:  # a line for each case in a log file
                bar.print(f"{measured}/{len(cases)} {case.id}: {_in_words(result)}")

        def on_case(done: int, _total: int, name: str) -> None:
            bar.update(done, visible(name))

        return evaluate_cases(cases, source.predictions(), measure, done=done, on_case=on_case, on_result=on_result)


def labelled_cases(dataset: CaseDataset, split: str | None) -> tuple[tuple[Case, ...], tuple[Label, ...]]:
    """The cases to measure and what their label maps hold; `DatasetError` if there is nothing to compare with."""
    from ..errors import DatasetError
    from ..images.labels import Label

    for note in dataset.notes:
        say(f"note: {note}", error=True)
    cases = dataset.select(split) if split else dataset.labelled
    if not any(case.label for case in cases):
        raise DatasetError(
            "No case has reference labels, so nothing can be measured.", "Add labels, or choose a split."
        )
    if not dataset.labels:
        raise DatasetError(
            "The dataset does not name its labels.", 'Add to dataset.json: "labels": {"background": 0, "liver": 1}.'
        )
    return cases, tuple(Label(value, name) for name, value in dataset.labels.items())


def _known_names(wanted: Sequence[str], labels: Sequence[Label]) -> tuple[str, ...]:
    """`ConfigurationError` for a structure that the dataset does not have."""
    from ..errors import ConfigurationError

    names = [label.name for label in labels]
    for name in wanted:
        if name not in names:
            raise ConfigurationError(
                f"--annotated-slices: the data set has no structure {visible(name)!r}.", f"It has {', '.join(names)}."
            )
    return tuple(dict.fromkeys(wanted))


def _source(arguments: argparse.Namespace, labels: tuple[Label, ...]) -> _Source:
    if arguments.predictions is not None:
        return _stored(arguments.predictions, labels)
    return _model(arguments, labels)


def _stored(folder: Path, labels: tuple[Label, ...]) -> _Source:
    from ..errors import DatasetError
    from ..evaluation.cases import StoredPredictions

    predictions = StoredPredictions(folder, labels)

    def file_of(case: Case) -> list[Path]:
        try:
            return [predictions.file_of(case)]
        except DatasetError:  # is said when the case is measured
            return []

    return _Source({"predictions": str(folder.resolve())}, {"predictions": folder.name}, lambda: predictions, file_of)


def _model(arguments: argparse.Namespace, labels: tuple[Label, ...]) -> _Source:
    from ..bundle.library import ModelLibrary
    from ..bundle.suitability import locator_among
    from ..device import resolve_device
    from ..evaluation.cases import match_labels

    library = ModelLibrary()
    bundle = library.find(arguments.model, verify=True)
    match_labels(bundle.all_labels, labels)  # before any work
    locator = locator_among(bundle, library.meant)[0]
    settings = options.inference_settings(arguments, bundle)
    made_with = {"model": bundle.reference, **settings.decisive()}
    made_with |= {"locator": locator.reference} if locator is not None else {}

    def predictions() -> Predictions:
        trained_on = [str(case.get("image")) for case in bundle.spec.training.get("cases", ())]
        return _predictions(bundle, locator, settings, labels, trained_on)

    device = str(resolve_device(settings.device))
    return _Source(made_with, {"model": bundle.reference, "device": device, **settings.decisive()}, predictions)


def _predictions(
    bundle: Bundle,
    locator: Bundle | None,
    settings: InferenceSettings,
    labels: Sequence[Label],
    trained_on: Sequence[str] = (),
) -> ModelPredictions:
    from ..evaluation.cases import ModelPredictions
    from ..inference.locating import locating
    from ..inference.predictor import Predictor

    predictor = locating(Predictor(bundle, settings), locator)
    return ModelPredictions(predictor, bundle.labels, labels, trained_on=trained_on, sided=bundle.sided)


def _in_words(result: CaseResult | str) -> str:
    if isinstance(result, str):
        return f"failed: {result}"
    figures = [score.dice for score in result.scores if score.dice is not None]
    dice = f"mean Dice {sum(figures) / len(figures):.3f}" if figures else "no structure to measure"
    return f"{dice}, {result.seconds:.1f} s"


def _report(evaluation: Evaluation, arguments: argparse.Namespace, details: dict[str, Any]) -> None:
    from ..evaluation.report import (
        METRICS,
        Figure,
        remarks,
        summarise,
        write_metrics_csv,
        write_summary_json,
    )

    console = make_console()
    summaries = summarise(evaluation.scores)
    time = Figure.of(list(evaluation.seconds.values()))
    details = {**details, "warnings": {case: list(texts) for case, texts in evaluation.warnings.items()}}
    if arguments.model:
        details["seconds_per_case"] = time.mean
    csv_file = write_metrics_csv(arguments.out / METRICS, evaluation.scores)
    json_file = write_summary_json(arguments.out / "summary.json", summaries, evaluation.failures, details)

    if summaries:
        n = len(evaluation.seconds)
        title = f"{arguments.model or arguments.predictions} on {n} case{'' if n == 1 else 's'}"
        console.print(summary_table(summaries, title=title, tolerance_mm=arguments.tolerance))
        for remark in remarks(summaries):
            console.print(remark)
        if details["annotated_slices"]:
            names = ", ".join(details["annotated_slices"])
            console.print(f"{names}: judged between the first and the last axial slice of the reference only.")
    if arguments.model and time.mean is not None:
        console.print(f"{time.mean:.2f} s per case on {details['device']}")
    for warning, cases in _by_warning(evaluation.warnings).items():
        console.print(f"warning ({', '.join(cases[:3])}{', ...' if len(cases) > 3 else ''}): {warning}")
    if evaluation.failures:
        total = len(evaluation.failures) + len(evaluation.seconds)
        console.print(f"\n{len(evaluation.failures)} of {total} cases could not be evaluated:", style="bold red")
        for case, reason in evaluation.failures.items():
            console.print(f"  {case}: {reason}")
        console.print("Run the same command again to try only these.")
    console.print(f"Written: {csv_file}, {json_file}", soft_wrap=True)


def summary_table(summaries: Sequence[LabelSummary], *, title: str, tolerance_mm: float) -> Table:
    """Mean and standard deviation per structure, and on how many cases they rest."""
    from ..evaluation.report import mean_dice

    figures = ("Dice", "HD95\n(mm)", f"surface\nDice ({tolerance_mm:g} mm)", "volume\nerror (ml)", "n", "missing")
    table = make_table("structure", *figures, right=figures, title=title)
    for one in (one for one in summaries if not one.not_known):  # a remark names those
        measured = _spread(one.dice, 3), _spread(one.hd95_mm, 2), _spread(one.surface_dice, 3)
        volume = _spread(one.volume_error_ml, 2, sign="+")
        table.add_row(one.label, *measured, volume, str(one.dice.n), str(len(one.missing_in_prediction)))
    overall = mean_dice(summaries)
    if overall is not None and len(summaries) > 1:
        table.add_section()
        table.add_row("mean", figure(overall))
    return table


def _spread(of: Figure, digits: int, *, sign: str = "") -> str:
    if of.mean is None:
        return "-"
    return f"{of.mean:{sign}.{digits}f}" + (f"±{of.std:.{digits}f}" if of.n > 1 else "")


def _by_warning(warnings: dict[str, tuple[str, ...]]) -> dict[str, list[str]]:
    cases: dict[str, list[str]] = {}
    for case, texts in warnings.items():
        for text in texts:
            cases.setdefault(text, []).append(case)
    return cases


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a distance in mm")
    return value


# `maesegment models compare A B`: which of two models is better on the same cases, structure by structure -----------


def add_compare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", metavar="A", help=options.MODEL)
    parser.add_argument("second", metavar="B", help=options.MODEL)
    options.add_dataset(parser)
    options.add_out(parser, "CSV", "also write the Dice of every case")
    options.add_device(parser)


def compare(arguments: argparse.Namespace) -> int:
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
    evaluations = [_measure(bundle, cases, measure, arguments) for bundle in bundles]
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


def _measure(bundle: Bundle, cases: Sequence[Case], measure: Measure, arguments: argparse.Namespace) -> Evaluation:
    from ..bundle.library import ModelLibrary
    from ..bundle.suitability import locator_among
    from ..evaluation.cases import evaluate_cases

    locator = locator_among(bundle, ModelLibrary().meant)[0]
    predictions = _predictions(bundle, locator, options.inference_settings(arguments, bundle), measure.labels)
    with ProgressBar(f"{bundle.name} {bundle.version}", len(cases)) as bar:
        return evaluate_cases(cases, predictions, measure, on_case=lambda done, _total, _name: bar.update(done))


def _csv_rows(paired: PairedDice) -> Iterator[Sequence[object]]:
    for label, cases in paired.items():
        for case, dice in cases.items():
            yield csv_cell(case), csv_cell(label), *(f"{value:.6g}" for value in dice)
