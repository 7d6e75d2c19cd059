"""`maesegment finetune`: a model and labelled cases in, a new version of the model out."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cases.records import CHECK, TRAIN, role_name
from ..errors import ConfigurationError
from . import options
from .terminal import figure, interruptible, make_console, make_table, training_display

if TYPE_CHECKING:
    from ..bundle import Bundle, ModelStore
    from ..cases.dataset import CaseDataset
    from ..images.labels import Label
    from ..training.settings import FineTuneSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cases", type=Path, required=True, metavar="DIR|dataset.json", help="cases with label maps")
    options.add_model(parser, "model to start from: name, NAME@VERSION or folder", required=True)
    options.add_out(parser, "DIR", "run folder; the new model is DIR/model", required=True)
    parser.add_argument(
        "--split",
        help='cases to learn from: a split ("pool"), a part of it ("pool:8") or ids; '
        'default: every labelled case, or in a case store those with the role "train"',
    )
    parser.add_argument(
        "--validation",
        help="cases to hold out: a split, ids, a fraction (0.2), loo (leave-one-out) or none; "
        'default: those with the role "validation" in a case store; otherwise loo below five cases, else 0.2',
    )
    parser.add_argument(
        "--unlabelled",
        type=Path,
        nargs="+",
        default=[],
        metavar="PATH",
        help="scans without labels to learn from too, files or folders, best from the same scanner as the cases",
    )
    parser.add_argument("--labels", help="labels to learn, separated by commas (default: all in the dataset)")
    parser.add_argument("--name", help="name of the new model (default: the base's, if the labels are the same)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML or JSON file with only training settings")
    parser.add_argument(
        "--minutes",
        type=float,
        metavar="MIN",
        help="time for all of it, in place of --steps: it trains for as long as that leaves, and ends in time",
    )
    parser.add_argument(
        "--synthesise",
        action="store_true",
        help="the images are tissue maps: draw training images from them, as SynthSeg does",
    )
    parser.add_argument("--from-scratch", action="store_true", help="start from random weights, as a control")
    parser.add_argument(
        "--keep", choices=("last", "best"), help="save the last weights (default), or the best on held-out cases"
    )
    options.add_training(parser)


def run(arguments: argparse.Namespace) -> int:
    from ..bundle import ModelStore
    from ..processes.processor import process_began
    from ..training.finetune import finetune
    from ..training.loop.distributed import joined
    from ..training.recipe import read_recipe, read_settings_file
    from ..training.run_context import RunContext

    recipe = read_recipe(arguments.recipe)
    settings = _chosen(arguments, recipe.settings, read_settings_file(arguments.config) if arguments.config else {})
    if arguments.from_scratch:
        settings["initial_weights"] = "random"
    if arguments.synthesise:
        settings.setdefault("synthesis", {})
    if arguments.keep:
        settings["keep"] = arguments.keep
    labels = arguments.labels.split(",") if arguments.labels else recipe.cases.get("labels")
    labels = [label.strip() for label in labels] if labels else None
    description = replace(recipe.description, name=arguments.name) if arguments.name else recipe.description
    models = ModelStore()
    base = models.find(arguments.model)
    cases = _cases(arguments.cases, base)
    if cases.is_store and base.kind == "segmentation":
        description = replace(description, name=description.name or base.name)
    _check_name(models, description.name, cases.dataset)
    learnt = labels or cases.dataset.labels
    chosen = _settings(settings, arguments.out, base, learnt, has_recipe=arguments.recipe is not None)
    with interruptible() as should_cancel, joined(chosen.device) as team, training_display(team.is_first) as display:
        bundle = finetune(
            cases.dataset,
            base,
            arguments.out,
            chosen,
            split=arguments.split or recipe.cases.get("split") or cases.split,
            validation=arguments.validation or str(recipe.cases.get("validation", cases.validation)),
            labels=labels,
            description=replace(description, labels=(*cases.new_labels, *description.labels)),
            # A number that no version among the models has, so that the result can join them.
            version_of=None if description.version else partial(_version, models, base),
            unlabelled=arguments.unlabelled,
            context=RunContext(display, should_cancel, team=team, begun=process_began()),
        )
    if team.is_first:
        _print_result(bundle)
    return 0


def _chosen(arguments: argparse.Namespace, recipe: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe gives way to a file of settings, and that to the command line."""
    from ..training.settings import refuse_time_and_steps

    own = {} if arguments.minutes is None else {"minutes": arguments.minutes}
    given = {**options.training_settings(arguments, {}), **own}
    below = {**_beside(config, recipe), **config}
    chosen = {**options.training_settings(arguments, _beside(given, below)), **own}
    refuse_time_and_steps(chosen)
    return chosen


def _beside(above: Mapping[str, Any], below: Mapping[str, Any]) -> dict[str, Any]:
    """Without what `above` takes the place of: a number of steps by a time, and the other way round."""
    gone: tuple[str, ...] = ("steps",) if above.get("minutes") is not None else ()
    gone += ("minutes", "until_no_better") if above.get("steps") is not None else ()
    return {name: value for name, value in below.items() if name not in gone}


@dataclass(frozen=True)
class _Cases:
    dataset: CaseDataset
    is_store: bool = False
    new_labels: tuple[Label, ...] = ()
    split: str | None = None
    validation: str = "auto"


def _cases(path: Path, base: Bundle) -> _Cases:
    """A dataset, or a case store, whose roles say what is learnt from and what is held out."""
    from ..cases.dataset import load_dataset
    from ..cases.store import CaseStore
    from ..training.data.labelling import store_dataset

    store = CaseStore(path)
    records = store.list() if path.is_dir() else []
    if not records:
        return _Cases(load_dataset(path))
    if not any(record.role == TRAIN for record in records):
        raise ConfigurationError(
            f"Every case in {path} is a validation case: none is left to learn from.",
            "Give one the other role: `maesegment cases role ID train`.",
        )
    dataset, new = store_dataset(store.dataset_path, store.labels(), base)
    has_check = any(record.role == CHECK for record in records)
    return _Cases(dataset, True, new, TRAIN, CHECK if has_check else "auto")


def _check_name(models: ModelStore, name: str, dataset: CaseDataset) -> None:
    """Before hours of training: versions of one name must be interchangeable."""
    channels = {len(case.image) for case in dataset.labelled}
    for bundle in models.list() if name else ():
        if bundle.name == name and channels and len(bundle.spec.channels) not in channels:
            raise ConfigurationError(
                f"{name} {bundle.version} takes {len(bundle.spec.channels)} channel(s); the cases have "
                f"{', '.join(map(str, sorted(channels)))}.",
                "Give the new model another name: --name.",
            )


def _settings(
    chosen: Mapping[str, Any], out: Path, base: Bundle, labels: Iterable[str], *, has_recipe: bool
) -> FineTuneSettings:
    """A recipe says everything; otherwise what is not chosen is what the panel does."""
    from ..images.labels import other_names
    from ..training.defaults import settings_in
    from ..training.settings import FineTuneSettings

    if has_recipe:
        return FineTuneSettings.from_dict(chosen)
    learnt = tuple(labels)
    new_labels = other_names(learnt, [label.name for label in base.labels])
    return settings_in(out, base, new_labels=bool(new_labels), chosen=chosen, learnt=learnt)


def _version(models: ModelStore, base: Bundle, name: str, same_labels: bool) -> str:
    return models.next_version(name, major=name == base.name and not same_labels)


def _print_result(bundle: Bundle) -> None:
    console = make_console()
    measured: dict[str, Any] = bundle.metadata["maesegment"]["metrics"].get("validation", {})
    if measured:
        before, after = measured["dice_before"] or {}, measured["dice_after"]
        cases = measured["cases"]
        title = f"Dice on {cases} held-out case{'' if cases == 1 else 's'} ({role_name(measured['held_out'])})"
        title += "; indicative only" if measured["indicative_only"] else ""
        table = make_table("label", "before", "after", right=("before", "after"), title=title)
        for name, value in after.items():
            table.add_row(name, figure(before.get(name)), figure(value))
        table.add_row("mean", figure(measured["mean_dice_before"]), figure(measured["mean_dice_after"]))
        console.print(table)
    console.print(f"{bundle.name} {bundle.version}: {bundle.path}", soft_wrap=True)
