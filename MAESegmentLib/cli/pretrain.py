"""`maesegment pretrain`: scans without labels in, a masked autoencoder to fine-tune from out."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError
from . import options
from .terminal import interruptible, say, training_display

if TYPE_CHECKING:
    from ..cases.case import Case
    from ..training.recipe import MedianSpacing, Recipe

#: Reading and preparing a scan costs far more than cutting patches; more of them make a batch less varied.
PATCHES_PER_VOLUME = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=Path, nargs="+", metavar="DIR", help="folders of scans, or datasets (labels are not read)"
    )
    parser.add_argument(
        "--synthesise",
        type=Path,
        nargs="+",
        metavar="DIR",
        help="instead of --data, folders of label maps: images of any contrast are drawn from them, as SynthSeg does",
    )
    options.add_out(parser, "DIR", "run folder; the model is DIR/model", required=True)
    parser.add_argument("--split", help="only these cases of each dataset, e.g. pool (default: all)")
    parser.add_argument("--exclude", help="all but these cases of each dataset, e.g. validation")
    parser.add_argument("--network", metavar="PRESET", help="small (default), synapse, acdc or brats")
    parser.add_argument("--orientation", metavar="RAS", help="axis order the network sees (default: RAS)")
    parser.add_argument(
        "--spacing", metavar="D,H,W", help="voxel size in mm along the network's axes (default: median of the scans)"
    )
    parser.add_argument(
        "--patch", metavar="D,H,W", help="patch size in voxels along the network's axes (default: the preset's)"
    )
    parser.add_argument(
        "--intensity", choices=("zscore", "ct"), help="grey values: zscore for MR (default), ct for CT in HU"
    )
    parser.add_argument("--mask-ratio", type=float, help="fraction of the voxels to hide (default: 0.7)")
    parser.add_argument("--unit-mm", type=float, help="edge length of a hidden block in mm (default: 8 voxels)")
    parser.add_argument("--name", help="name of the model (default: the name of the run folder)")
    parser.add_argument(
        "--stream",
        action="store_true",
        help="for archives larger than memory: read each scan when it is needed, and skip unusable ones",
    )
    parser.add_argument(
        "--patches-per-volume",
        type=int,
        metavar="N",
        help="with --stream: patches cut from a scan each time it is read (default: 4)",
    )
    options.add_training(parser)


def run(arguments: argparse.Namespace) -> int:
    from ..training.data.archive import open_archive
    from ..training.loop.distributed import joined
    from ..training.loop.output_folder import claimed
    from ..training.pretrain import median_spacing, pretrain, pretrain_streaming
    from ..training.recipe import read_recipe
    from ..training.run_context import RunContext
    from ..training.settings import PretrainSettings

    recipe = _with_options(read_recipe(arguments.recipe), arguments)
    chosen = options.training_settings(arguments, recipe.settings)
    if arguments.patches_per_volume is not None:
        chosen["patches_per_volume"] = arguments.patches_per_volume
    if arguments.stream:
        chosen.setdefault("patches_per_volume", PATCHES_PER_VOLUME)
    if arguments.synthesise:
        _check_synthesis(arguments, chosen)
        chosen.setdefault("synthesis", {})
    settings, out = PretrainSettings.from_dict(chosen), arguments.out
    if settings.patches_per_volume and (arguments.split or arguments.exclude):
        raise ConfigurationError(
            "An archive that is streamed has no splits.",
            "Leave out --split and --exclude, and give with --data the folders to learn from.",
        )
    with interruptible() as should_cancel, joined(settings.device) as team, training_display(team.is_first) as display:
        context = RunContext(display, should_cancel, team=team)

        def plan(spacing: MedianSpacing) -> dict[str, Any]:
            preprocessing = recipe.preprocessing_plan(spacing)
            what = {"autoencoder": recipe.mae_config(preprocessing), "preprocessing": preprocessing}
            return {**what, "description": recipe.description, "context": context}

        if settings.patches_per_volume:
            with claimed(out, team):
                archive = open_archive(_folders(arguments, recipe), out, settings.held_out, context)
                spacing = partial(archive.median_spacing, team=team)
                bundle = pretrain_streaming(archive, out, settings, **plan(spacing))
        else:
            cases = _cases(arguments, recipe)
            bundle = pretrain(cases, out, settings, **plan(partial(median_spacing, cases)))
    if not team.is_first:
        return 0
    say(f"{bundle.name} {bundle.version}: {bundle.path}")
    say(f"Reconstructions: {out / 'reconstruction.png'}")
    say(f"Next: maesegment finetune --cases DIR --model {bundle.path} --out DIR")
    return 0


def _check_synthesis(arguments: argparse.Namespace, chosen: Mapping[str, Any]) -> None:
    if arguments.data or chosen.get("patches_per_volume"):
        other = "--data" if arguments.data else "--stream"
        raise ConfigurationError(
            f"--synthesise and {other} cannot be used together.", "Give the label maps with --synthesise alone."
        )


def _folders(arguments: argparse.Namespace, recipe: Recipe) -> list[Path]:
    folders = (
        arguments.synthesise
        or arguments.data
        or [arguments.recipe.parent / folder for folder in recipe.cases.get("data", [])]
    )
    if not folders:
        raise ConfigurationError("No scans were given.", "Name folders of scans with --data.")
    return list(folders)


def _cases(arguments: argparse.Namespace, recipe: Recipe) -> list[Case]:
    from ..cases.dataset import load_dataset

    folders = _folders(arguments, recipe)
    split = arguments.split or recipe.cases.get("split")
    exclude = arguments.exclude or recipe.cases.get("exclude")
    what = "label maps" if arguments.synthesise else "scans"
    cases: list[Case] = []
    for number, folder in enumerate(folders, start=1):
        dataset = load_dataset(folder, expected=f"Give a folder of {what}, or a dataset.json.")
        for note in dataset.notes:
            say(f"note: {note}", error=True)
        chosen = dataset.select(split) if split else dataset.cases
        left_out = {case.id for case in dataset.select(exclude)} if exclude else set()
        prefix = f"{number} {dataset.name}/" if len(folders) > 1 else ""  # two folders may hold equal file names
        cases += [
            replace(case, id=prefix + case.id, group=prefix + case.group) for case in chosen if case.id not in left_out
        ]
    return cases


def _with_options(recipe: Recipe, arguments: argparse.Namespace) -> Recipe:
    """The recipe's tables with what was given on the command line on top."""
    preprocessing, network = dict(recipe.preprocessing), dict(recipe.network)
    autoencoder = dict(recipe.autoencoder)
    if arguments.intensity:
        preprocessing["intensity"] = {**preprocessing.get("intensity", {}), "kind": arguments.intensity}
    if arguments.orientation:
        preprocessing["orientation"] = arguments.orientation
    if arguments.spacing:
        preprocessing["spacing"] = _three(arguments.spacing, float, "--spacing")
    if arguments.patch:
        preprocessing["patch_size"] = _three(arguments.patch, int, "--patch")
    if arguments.network:
        network["preset"] = arguments.network
    if arguments.mask_ratio is not None:
        autoencoder["mask_ratio"] = arguments.mask_ratio
    if arguments.unit_mm:
        autoencoder["unit_mm"] = arguments.unit_mm
    name = arguments.name or recipe.description.name
    return replace(
        recipe,
        description=replace(recipe.description, name=name),
        network=network,
        autoencoder=autoencoder,
        preprocessing=preprocessing,
    )


def _three(text: str, kind: type, option: str) -> tuple[Any, Any, Any]:
    try:
        first, second, third = (kind(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigurationError(f"{option} is {text!r}; write three numbers, e.g. 1,1,1.") from error
    return first, second, third
