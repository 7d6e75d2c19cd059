"""`maesegment evaluate`: Dice, HD95, surface Dice and volume error of a model, or of finished label maps."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from ..cases.dataset import Case, CaseDataset
    from ..evaluation.cases import Evaluation, Predictions
    from ..labels import Label

#: Exit code when some case could not be evaluated.
INCOMPLETE = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("-m", "--model", help="the model: a name, NAME@VERSION or a folder")
    source.add_argument(
        "--predictions",
        type=Path,
        metavar="DIR",
        help="evaluate label maps in DIR, named after the cases, instead of a model",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="PATH", help="dataset.json, or a folder of cases")
    parser.add_argument(
        "--split", help="a split of the dataset, or case ids with commas (default: every labelled case)"
    )
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="DIR", help="where metrics.csv and summary.json are written"
    )
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:N or cpu (default: auto)")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")
    parser.add_argument(
        "--overlap", type=float, help="share of a window covered by the next, 0 to 0.9 (default: the model's)"
    )
    parser.add_argument(
        "--mirror", action="store_true", default=None, help="average over mirror images: slower, often better"
    )
    parser.add_argument(
        "--tolerance",
        type=_positive,
        default=1.0,
        metavar="MM",
        help="surfaces this near count as agreeing in surface Dice (default: 1 mm)",
    )


def run(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from ..cases.dataset import load_dataset
    from ..evaluation.cases import evaluate_cases

    console = Console()
    dataset = load_dataset(arguments.data)
    cases, labels = _labelled_cases(dataset, arguments.split), _labels(dataset)
    _make_folder(arguments.out)
    predictions, details = _predictions(arguments, labels)
    details |= {"data": dataset.name, "split": arguments.split, "surface_tolerance_mm": arguments.tolerance}
    with _Progress(Console(stderr=True)) as progress:
        evaluation = evaluate_cases(
            cases, predictions, labels, tolerance_mm=arguments.tolerance, on_case=progress.update
        )
    _report(console, evaluation, arguments, details, getattr(predictions, "warnings", {}))
    return INCOMPLETE if evaluation.failures else 0


def _labelled_cases(dataset: CaseDataset, split: str | None) -> tuple[Case, ...]:
    from ..errors import DatasetError

    cases = dataset.select(split) if split else dataset.labelled
    if not any(case.label for case in cases):
        raise DatasetError(
            "No case has reference labels, so nothing can be measured.", "Add labels, or choose a split."
        )
    return cases


def _labels(dataset: CaseDataset) -> tuple[Label, ...]:
    from ..errors import DatasetError
    from ..labels import Label

    if not dataset.labels:
        raise DatasetError(
            "The dataset does not name its labels.", 'Add to dataset.json: "labels": {"background": 0, "liver": 1}.'
        )
    return tuple(Label(value, name) for name, value in dataset.labels.items())


def _make_folder(folder: Path) -> None:
    from ..errors import OutputError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {folder} cannot be made: {error.strerror}.", "Choose another --out.") from error


def _predictions(arguments: argparse.Namespace, labels: tuple[Label, ...]) -> tuple[Predictions, dict[str, Any]]:
    """The source of label maps, and what `summary.json` says about it."""
    from ..evaluation.cases import ModelPredictions, StoredPredictions

    if arguments.predictions is not None:
        return StoredPredictions(arguments.predictions), {"predictions": arguments.predictions.name}
    from ..bundle import ModelStore
    from ..inference.predictor import Predictor
    from ..inference.settings import InferenceSettings

    bundle = ModelStore().find(arguments.model, kind="segmentation")
    settings = InferenceSettings.of_model(
        bundle.spec.inference,
        device=arguments.device,
        precision=arguments.precision,
        overlap=arguments.overlap,
        mirroring=arguments.mirror,
    )
    predictor = Predictor(bundle, settings)
    details: dict[str, Any] = {"model": bundle.reference, "device": str(predictor.device), "overlap": settings.overlap}
    trained_on = [str(case.get("image")) for case in bundle.spec.training.get("cases", ())]
    return ModelPredictions(predictor, bundle.labels, labels, trained_on=trained_on), details


class _Progress:
    """A bar on a terminal; nothing in a log file."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, done: int, total: int, name: str) -> None:
        self._bar.update(self._task, description=name, completed=done, total=total)


def _report(
    console: Console,
    evaluation: Evaluation,
    arguments: argparse.Namespace,
    details: dict[str, Any],
    warnings: dict[str, tuple[str, ...]],
) -> None:
    from ..evaluation.report import remarks, summary_table, write_metrics_csv, write_summary_json
    from ..evaluation.summary import Figure, summarise

    summaries = summarise(evaluation.scores)
    time = Figure.of(list(evaluation.seconds.values()))
    if arguments.model:
        details = {**details, "seconds_per_case": time.mean, "warnings": {k: list(v) for k, v in warnings.items()}}
    csv_file = write_metrics_csv(arguments.out / "metrics.csv", evaluation.scores)
    json_file = write_summary_json(arguments.out / "summary.json", summaries, evaluation.failures, details)

    if summaries:
        n = len(evaluation.seconds)
        title = f"{arguments.model or arguments.predictions} on {n} case{'' if n == 1 else 's'}"
        console.print(summary_table(summaries, title=title, tolerance_mm=arguments.tolerance))
        for remark in remarks(summaries):
            console.print(remark, highlight=False, markup=False)
    if arguments.model and time.mean is not None:
        console.print(f"{time.mean:.2f} s per case on {details['device']}", highlight=False)
    for warning, cases in _by_warning(warnings).items():
        console.print(
            f"warning ({', '.join(cases[:3])}{', ...' if len(cases) > 3 else ''}): {warning}", highlight=False
        )
    if evaluation.failures:
        total = len(evaluation.failures) + len(evaluation.seconds)
        console.print(f"\n{len(evaluation.failures)} of {total} cases could not be evaluated:", style="bold red")
        for case, reason in evaluation.failures.items():
            console.print(f"  {case}: {reason}", highlight=False, markup=False)
    console.print(f"Written: {csv_file}, {json_file}", highlight=False, markup=False, soft_wrap=True)


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
