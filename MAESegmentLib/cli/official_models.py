"""`maesegment models import-official`: a checkpoint of the published nnFormer code becomes a model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from . import options
from .terminal import say

if TYPE_CHECKING:
    from ..bundle import ModelSpec
    from ..networks import NnFormer
    from ..preprocessing.intensity import IntensityRecipe

PRESETS = ("synapse", "acdc", "brats")
_HINT_INTENSITY = (
    "Write --intensity zscore, or --intensity ct:LOWER:UPPER:MEAN:STD with HU, e.g. ct:-958:325:82.9:136.5."
)
#: The official code reads with SimpleITK and does not reorient: of a usual axial scan, its axes are these.
_OFFICIAL_ORIENTATION = "SPL"
_UNKNOWN_LICENCE = "Whoever imported these weights did not state their licence. Ask the authors of the checkpoint.\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="model_best.model or a state_dict (.pt)")
    parser.add_argument("--preset", choices=PRESETS, required=True, help="which published network it is")
    options.add_out(parser, "OUT", "folder of the new model", required=True)
    parser.add_argument(
        "--spacing", type=float, nargs=3, required=True, metavar="MM", help="voxel size it was trained at, along D H W"
    )
    parser.add_argument(
        "--intensity",
        required=True,
        metavar="RECIPE",
        help="zscore, or ct:LOWER:UPPER:MEAN:STD (HU; dataset fingerprint of the training)",
    )
    parser.add_argument(
        "--labels", metavar="A,B,...", help="names of the classes, without background (default: class_1, ...)"
    )
    parser.add_argument("--channels", metavar="A,B,...", help="names of the input channels (default: the modality)")
    parser.add_argument("--modality", help="MR or CT (default: CT for ct intensities, else MR)")
    parser.add_argument(
        "--orientation",
        default=_OFFICIAL_ORIENTATION,
        help=f"directions of the network's D, H, W axes (default: {_OFFICIAL_ORIENTATION}, axial slices)",
    )
    parser.add_argument(
        "--crop-size",
        type=int,
        nargs=3,
        metavar="N",
        help="patch size in voxels it was trained with, along D H W (default: as published)",
    )
    parser.add_argument("--name", help="name of the model (default: nnformer-PRESET)")
    parser.add_argument("--version", default="1.0.0", help="version of the model (default: 1.0.0)")
    parser.add_argument("--data-source", default="Not stated by the importer", help="what it was trained on")
    parser.add_argument("--copyright", default="The authors of the checkpoint", help="whose weights these are")
    parser.add_argument("--licence", default="unknown", help="name of the weights' licence")
    parser.add_argument("--licence-file", type=Path, help="file with the text of that licence")


def run(arguments: argparse.Namespace) -> int:
    import torch

    from ..bundle import save_bundle
    from ..bundle.weights_official import read_checkpoint
    from ..errors import ConfigurationError
    from ..networks.official import import_official

    intensity = parse_intensity(arguments.intensity)
    crop_size = tuple(arguments.crop_size) if arguments.crop_size else None
    network = import_official(read_checkpoint(arguments.checkpoint), arguments.preset, crop_size=crop_size)
    spec = _spec(arguments, network, intensity)
    licence = _UNKNOWN_LICENCE
    if arguments.licence_file:
        try:
            licence = arguments.licence_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{arguments.licence_file} cannot be read as text: {error}.") from None
    bundle = save_bundle(
        arguments.out, spec, network.state_dict(), card=_card(spec), licence_text=licence, dtype=torch.float16
    )
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    say(f"Made {bundle.name} {bundle.version} ({millions:.1f} M parameters): {bundle.path}")
    say(f"  maesegment segment SCAN -m {arguments.out}")
    say(f"  maesegment models import {arguments.out}      # to use it by name")
    return 0


def parse_intensity(text: str) -> IntensityRecipe:
    """`zscore` or `ct:LOWER:UPPER:MEAN:STD`."""
    from ..errors import ConfigurationError
    from ..preprocessing.intensity import IntensityRecipe

    kind, *numbers = text.split(":")
    try:
        values = [float(number) for number in numbers]
    except ValueError:
        values = []
    if kind == "zscore" and not numbers:
        # The official code standardises without clipping.
        return IntensityRecipe("zscore", lower_percentile=0.0, upper_percentile=100.0)
    if kind == "ct" and len(values) == 4:
        lower, upper, mean, std = values
        return IntensityRecipe("ct", lower=lower, upper=upper, mean=mean, std=std)
    raise ConfigurationError(f"{text!r} is not an intensity recipe.", _HINT_INTENSITY)


def _spec(arguments: argparse.Namespace, network: NnFormer, intensity: IntensityRecipe) -> ModelSpec:
    from ..bundle import ModelSpec
    from ..images.labels import Label, distinct_colour
    from ..preprocessing.plan import Preprocessing

    config = network.config
    modality = arguments.modality or ("CT" if intensity.kind == "ct" else "MR")
    classes, inputs = range(1, config.out_channels), range(1, config.in_channels + 1)
    labels = _names("labels", arguments.labels, [f"class_{n}" for n in classes])
    channels = [modality] if len(inputs) == 1 else [f"{modality}_{n}" for n in inputs]
    return ModelSpec(
        name=arguments.name or f"nnformer-{arguments.preset}",
        version=arguments.version,
        kind="segmentation",
        description=f"The official nnFormer ({arguments.preset}), imported from {arguments.checkpoint.name}",
        intended_use="Research only. Not validated by MAESegment.",
        modality=modality,
        channels=tuple(_names("channels", arguments.channels, channels)),
        labels=tuple(Label(n, name, distinct_colour(n)) for n, name in enumerate(labels, start=1)),
        network=config,
        preprocessing=Preprocessing(arguments.orientation, tuple(arguments.spacing), config.crop_size, intensity),
        inference={"overlap": 0.5, "mirroring": False, "mirror_axes": [0, 1, 2]},
        licence=arguments.licence,
        copyright=arguments.copyright,
        data_source=arguments.data_source,
        authors="The authors of nnFormer (arXiv 2109.03201)",
        changelog="Imported",
    )


def _names(what: str, text: str | None, default: list[str]) -> list[str]:
    """Those that were given, with commas: as many as there are in `default`."""
    from ..errors import ConfigurationError

    names = [name.strip() for name in text.split(",")] if text else default
    if len(names) != len(default):
        raise ConfigurationError(f"{len(names)} {what} are named; the checkpoint has {len(default)}.")
    return names


def _card(spec: ModelSpec) -> str:
    return (
        f"# {spec.name} {spec.version}\n\n{spec.description}.\n\n{spec.intended_use}\n\n"
        f"* Trained on: {spec.data_source}\n* Weights: {spec.copyright}, licence {spec.licence}\n"
        "* Spacing, intensities and label names are as stated by whoever imported it.\n"
    )
