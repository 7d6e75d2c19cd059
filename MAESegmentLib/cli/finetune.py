"""`maesegment finetune`: a model and labelled cases in, a new version of the model out."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .training_progress import TrainingDisplay, add_setting_arguments, chosen_settings, interruptible

if TYPE_CHECKING:
    from ..bundle import Bundle


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cases", type=Path, required=True, metavar="DIR|dataset.json", help="cases with label maps")
    parser.add_argument("-m", "--model", required=True, help="model to start from: name, name@version or folder")
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="DIR", help="run folder; the new model is DIR/model"
    )
    parser.add_argument(
        "--split",
        help='cases to learn from: a split ("pool"), a part of it ("pool:8") or ids (default: all with labels)',
    )
    parser.add_argument(
        "--validation",
        help="cases held out: a split, ids, a fraction (0.2), loo (leave-one-out), none; "
        "default: loo below five cases, else 0.2",
    )
    parser.add_argument("--labels", help="labels to learn, separated by commas (default: all of the dataset)")
    parser.add_argument("--name", help="name of the new model (default: the base's, if the labels are the same)")
    parser.add_argument("--recipe", type=Path, metavar="FILE", help="TOML or JSON file that sets all of this and more")
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML or JSON file with training settings only")
    parser.add_argument("--from-scratch", action="store_true", help="random initial weights: a control to compare with")
    parser.add_argument(
        "--keep", choices=("last", "best"), help="weights to save: the last (default), or the best on held-out cases"
    )
    add_setting_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from ..bundle import ModelStore
    from ..cases.dataset import load_dataset
    from ..training.finetune import finetune
    from ..training.recipe import read_recipe, read_settings_file
    from ..training.settings import FineTuneSettings

    recipe = read_recipe(arguments.recipe)
    settings = chosen_settings(
        arguments, {**recipe.settings, **(read_settings_file(arguments.config) if arguments.config else {})}
    )
    if arguments.from_scratch:
        settings["initial_weights"] = "random"
    if arguments.keep:
        settings["keep"] = arguments.keep
    labels = arguments.labels.split(",") if arguments.labels else recipe.cases.get("labels")
    description = replace(recipe.description, name=arguments.name) if arguments.name else recipe.description
    dataset = load_dataset(arguments.cases)
    base = ModelStore().find(arguments.model)
    with interruptible() as should_cancel, TrainingDisplay() as display:
        bundle = finetune(
            dataset,
            base,
            arguments.out,
            FineTuneSettings.from_dict(settings),
            split=arguments.split or recipe.cases.get("split"),
            validation=arguments.validation or str(recipe.cases.get("validation", "auto")),
            labels=[label.strip() for label in labels] if labels else None,
            description=description,
            progress=display,
            should_cancel=should_cancel,
        )
    _print_result(bundle)
    return 0


def _print_result(bundle: Bundle) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    measured: dict[str, Any] = bundle.metadata["maesegment"]["metrics"].get("validation", {})
    if measured:
        before, after = measured["dice_before"] or {}, measured["dice_after"]
        title = f"Dice on {measured['cases']} held-out cases ({measured['held_out']})"
        table = Table(title=title + ("; indicative only" if measured["indicative_only"] else ""))
        table.add_column("label")
        table.add_column("before", justify="right")
        table.add_column("after", justify="right")
        for name, value in after.items():
            table.add_row(name, _number(before.get(name)), _number(value))
        table.add_row("mean", _number(measured["mean_dice_before"]), _number(measured["mean_dice_after"]))
        console.print(table)
    console.print(f"{bundle.name} {bundle.version}: {bundle.path}", soft_wrap=True)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
