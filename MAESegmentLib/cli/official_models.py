"""`maesegment models import-official`: a checkpoint of the published nnFormer code becomes a model."""

from __future__ import annotations

import argparse
import colorsys
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import options
from .terminal import say

if TYPE_CHECKING:
    from ..bundle import ModelSpec
    from ..errors import WeightsError
    from ..images.labels import Label
    from ..networks import NnFormer, NnFormerConfig
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
    parser.add_argument("--preset", choices=PRESETS, required=True, help="which of the published networks it is")
    options.add_out(parser, "OUT", "folder to make", required=True)
    parser.add_argument(
        "--spacing", type=float, nargs=3, required=True, metavar="MM", help="voxel size it was trained at, D H W order"
    )
    parser.add_argument(
        "--intensity",
        required=True,
        metavar="RECIPE",
        help="zscore, or ct:LOWER:UPPER:MEAN:STD (HU; dataset fingerprint of the training)",
    )
    parser.add_argument(
        "--labels", metavar="A,B,...", help="names of the classes without background (default: class_1, ...)"
    )
    parser.add_argument("--channels", metavar="A,B,...", help="names of the input channels (default: the modality)")
    parser.add_argument("--modality", help="MR or CT (default: CT for ct intensities, else MR)")
    parser.add_argument(
        "--orientation",
        default=_OFFICIAL_ORIENTATION,
        help=f"directions of the network's D, H, W axes (default: {_OFFICIAL_ORIENTATION}, axial slices)",
    )
    parser.add_argument(
        "--crop-size", type=int, nargs=3, metavar="N", help="voxels it was trained on, D H W (default: the published)"
    )
    parser.add_argument("--name", help="(default: nnformer-PRESET)")
    parser.add_argument("--version", default="1.0.0", help="(default: 1.0.0)")
    parser.add_argument("--data-source", default="Not stated by the importer", help="what it was trained on")
    parser.add_argument("--copyright", default="The authors of the checkpoint", help="whose weights these are")
    parser.add_argument("--licence", default="unknown", help="name of the weights' licence")
    parser.add_argument("--licence-file", type=Path, help="its text")


def run(arguments: argparse.Namespace) -> int:
    import torch

    from ..bundle import save_bundle
    from ..errors import ConfigurationError
    from ..networks.official import import_official

    intensity = parse_intensity(arguments.intensity)
    crop_size = tuple(arguments.crop_size) if arguments.crop_size else None
    network = import_official(load_checkpoint(arguments.checkpoint), arguments.preset, crop_size=crop_size)
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


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state_dict in an official training checkpoint, or a file that is one. Nothing in it is executed."""
    import torch

    from ..errors import WeightsError

    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.", "Check the path.") from None
    except Exception as error:  # of any kind, as the file may hold anything; MemoryError and LookupError were met
        raise _unreadable(path, str(error)) from None
    state = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else None
    if not isinstance(state, Mapping) or not state:
        raise WeightsError(
            f"{path.name} holds no state_dict.", "Give model_best.model or model_final_checkpoint.model."
        )
    for key, value in state.items():
        is_dense = isinstance(value, torch.Tensor) and value.layout == torch.strided and value.device.type == "cpu"
        if not isinstance(key, str) or not is_dense or value.is_quantized:
            raise WeightsError(
                f"{path.name} holds something else than plain tensors in its state_dict.",
                "Where it was trained, save its weights alone: torch.save(network.state_dict(), 'weights.pt').",
            )
    return dict(state)


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
    from ..preprocessing.plan import Preprocessing

    config = network.config
    modality = arguments.modality or ("CT" if intensity.kind == "ct" else "MR")
    return ModelSpec(
        name=arguments.name or f"nnformer-{arguments.preset}",
        version=arguments.version,
        kind="segmentation",
        description=f"The official nnFormer ({arguments.preset}), imported from {arguments.checkpoint.name}",
        intended_use="Research only. Not validated by MAESegment.",
        modality=modality,
        channels=_channels(arguments.channels, config, modality),
        labels=_labels(arguments.labels, config),
        network=config,
        preprocessing=Preprocessing(arguments.orientation, tuple(arguments.spacing), config.crop_size, intensity),
        inference={"overlap": 0.5, "mirroring": False, "mirror_axes": [0, 1, 2]},
        licence=arguments.licence,
        copyright=arguments.copyright,
        data_source=arguments.data_source,
        authors="The authors of nnFormer (arXiv 2109.03201)",
        changelog="Imported",
    )


def _labels(text: str | None, config: NnFormerConfig) -> tuple[Label, ...]:
    from ..errors import ConfigurationError
    from ..images.labels import Label

    count = config.out_channels - 1
    names = [name.strip() for name in text.split(",")] if text else [f"class_{n}" for n in range(1, count + 1)]
    if len(names) != count:
        raise ConfigurationError(f"{len(names)} labels are named; the checkpoint has {count} besides background.")
    return tuple(Label(n + 1, name, _colour(n)) for n, name in enumerate(names))


def _channels(text: str | None, config: NnFormerConfig, modality: str) -> tuple[str, ...]:
    from ..errors import ConfigurationError

    count = config.in_channels
    default = [modality] if count == 1 else [f"{modality}_{n}" for n in range(1, count + 1)]
    names = [name.strip() for name in text.split(",")] if text else default
    if len(names) != count:
        raise ConfigurationError(f"{len(names)} channels are named; the checkpoint takes {count}.")
    return tuple(names)


def _colour(index: int) -> tuple[int, int, int]:
    """Hues a golden angle apart: neighbours differ, and none repeats."""
    red, green, blue = colorsys.hsv_to_rgb(index * 0.618034 % 1.0, 0.65, 0.9)
    return round(red * 255), round(green * 255), round(blue * 255)


def _card(spec: ModelSpec) -> str:
    return (
        f"# {spec.name} {spec.version}\n\n{spec.description}.\n\n{spec.intended_use}\n\n"
        f"* Trained on: {spec.data_source}\n* Weights: {spec.copyright}, licence {spec.licence}\n"
        "* Spacing, intensities and label names are as stated by whoever imported it.\n"
    )


def _numpy_scalars() -> list[Any]:
    """Official checkpoints keep their loss curves as numpy numbers, under the old or the new name of numpy's core."""
    import numpy as np

    scalar = type(np.float64(0)).__reduce__(np.float64(0))[0]
    dtypes = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.bool_)]
    return [(scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar"), np.dtype, *dtypes]


def _unreadable(path: Path, reason: str) -> WeightsError:
    """torch's own text recommends to switch the protection off; this one does not."""
    from ..errors import WeightsError

    foreign = re.search(r"GLOBAL (\S+)", reason)
    if foreign is None:
        return WeightsError(f"{path.name} is not a PyTorch checkpoint, or is damaged.", "Copy or download it again.")
    return WeightsError(
        f"{path.name} holds more than tensors and numbers ({foreign[1]}), so it was not opened.",
        "Where it was trained, save its weights alone: torch.save(network.state_dict(), 'weights.pt').",
    )
