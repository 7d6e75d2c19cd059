"""Options that several commands have, each declared once, and what is made of them."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import ConfigurationError, refused

if TYPE_CHECKING:
    from ..bundle import Bundle
    from ..images.roi import Roi
    from ..inference.settings import InferenceSettings

T = TypeVar("T")
Run = Callable[[argparse.Namespace], int]

MODEL = "model name (or its beginning), NAME@VERSION, or a folder; `maesegment models list` lists them"
BOX = "R0,R1,A0,A1,S0,S1"
_DEVICE = "auto, cuda, cuda:N or cpu (default: auto)"
_PRECISIONS = ("auto", "fp32", "bf16", "fp16")
_NEGATIVE_LIST = re.compile(r"-\.?\d[\d.eE+-]*,[\d.,eE+-]*")


def _given_path(text: str) -> Path:
    """Of an empty one `Path` would make the working directory."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty: is a variable of the shell not set?")
    return Path(text)


class Parser(argparse.ArgumentParser):
    """Takes whole options only, no empty path, and `--roi -40,-5,...`, of which argparse would take the value for an
    option.

    Parsers of actions do, too.
    """

    def __init__(self, **how: Any) -> None:
        super().__init__(**how, allow_abbrev=False)
        self.register("type", Path, _given_path)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        words: list[str] = []
        for word in sys.argv[1:] if args is None else args:
            if words and re.fullmatch(r"--[\w-]+", words[-1]) and _NEGATIVE_LIST.fullmatch(word):
                words[-1] += f"={word}"
            else:
                words.append(word)
        return super().parse_known_args(words, namespace)


def add_model(parser: Any, help: str = MODEL, *, required: bool = False, default: str | None = None) -> None:  # noqa: A002
    """`parser` may be a group."""
    parser.add_argument("-m", "--model", required=required, default=default, help=help)


def add_out(
    parser: argparse.ArgumentParser,
    metavar: str,
    help: str,  # noqa: A002
    *,
    required: bool = False,
    default: Path | None = None,
) -> None:
    parser.add_argument(
        *("-o", "--out", "--output"), type=Path, metavar=metavar, required=required, default=default, help=help
    )


def add_dataset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, metavar="PATH", help="dataset.json, or a folder of cases")
    parser.add_argument(
        "--split", help="a split of the dataset, or case IDs separated by commas (default: every labelled case)"
    )


def add_store(parser: argparse.ArgumentParser, help: str = "the cases in this folder") -> None:  # noqa: A002
    parser.add_argument("--store", type=Path, metavar="DIR", help=help)


def add_quiet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-q", "--quiet", action="store_true", help="print only errors")


def add_json(parser: argparse.ArgumentParser, what: str = "print JSON") -> None:
    parser.add_argument("--json", action="store_true", help=what)


def add_yes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask for confirmation")


def add_roi(parser: argparse.ArgumentParser, what: str) -> None:
    how = "its bounds in RAS mm (R: right, A: anterior, S: superior), or the .mrk.json of an ROI that 3D Slicer saved"
    parser.add_argument("--roi", metavar=BOX, help=f"{what}: {how}")


def chosen_roi(arguments: argparse.Namespace) -> Roi | None:
    """Raises `ConfigurationError` if the text is not a box."""
    from ..images.roi import Roi

    return Roi.of(arguments.roi) if arguments.roi is not None else None


def scans_in(places: Sequence[Path], find: Callable[[Sequence[Path]], Sequence[T]]) -> Sequence[T]:
    """What `find` finds in files and folders that were named; `ConfigurationError` if that is nothing."""
    scans = find(places)
    if not scans:
        raise ConfigurationError(
            f"There is no scan in {', '.join(map(str, places))}.",
            "Give folders with NIfTI, NRRD, MetaImage, MGZ or DICOM files.",
        )
    return scans


def made_folder(folder: Path) -> Path:
    """Raises `OutputError` if it is not there and cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refused(f"The folder {folder} cannot be made", error, "Choose another folder with -o.") from error
    return folder


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help=_DEVICE)


def add_inference(parser: argparse.ArgumentParser) -> None:
    """How a model is run: `inference_settings`."""
    add_device(parser)
    parser.add_argument(
        "--speed",
        choices=("best", "fast", "averaged"),
        default="best",
        help="best: as the model was measured (default); fast: fewer windows, no mirrored copies; averaged: the mean "
        "over mirrored copies, where the model knows them, and shifted ones, in two to four times the time",
    )
    parser.add_argument("--precision", choices=_PRECISIONS, default="auto", help="number format (default: auto)")
    parser.add_argument(
        "--runtime",
        choices=("auto", "torch", "openvino"),
        default="auto",
        help="what runs the network; auto: on a processor OpenVINO, if it is installed and the model was prepared for "
        "it (`maesegment models prepare`), else torch (default: auto)",
    )
    parser.add_argument(
        "--overlap", type=float, help="fraction of a window that the next one overlaps, 0 to 0.9 (default: the model's)"
    )
    parser.add_argument(
        "--mirror",
        action="store_true",
        default=None,
        help="average over mirrored copies of the scan: slower, often better",
    )
    parser.add_argument(
        "--no-cpu", action="store_true", help="fail instead of falling back to the CPU when the GPU runs out of memory"
    )
    parser.add_argument("--no-clean", action="store_true", help="leave the stray pieces that the model would remove")


def add_allow_mismatch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--allow-mismatch", action="store_true", help="segment even what the model cannot fit (a CT with an MR model)"
    )


def inference_settings(arguments: argparse.Namespace, bundle: Bundle, **changes: Any) -> InferenceSettings:
    """The model's own, with what was given (all of `add_inference`, or `add_device` alone) and `changes` on top."""
    from ..inference.settings import InferenceSettings, with_speed

    chosen: dict[str, Any] = {"device": arguments.device}
    if hasattr(arguments, "overlap"):
        chosen |= {"precision": arguments.precision, "overlap": arguments.overlap, "mirroring": arguments.mirror}
        chosen |= {"runtime": arguments.runtime, "allow_cpu": not arguments.no_cpu, "clean": not arguments.no_clean}
        chosen = with_speed(arguments.speed, chosen)
    return InferenceSettings.of_model(bundle.spec.inference, **{**chosen, **changes})


# Training: options that are settings, so that a recipe or the defaults hold where one is not given -------------------

_TRAINING: Mapping[str, dict[str, Any]] = {
    "--steps": {"type": int, "help": "optimiser steps"},
    "--batch-size": {"type": int, "help": "patches per step"},
    "--micro-batch": {
        "type": int,
        "metavar": "PATCHES",
        "help": "patches computed at a time (default: all of a step; with torchrun, an equal share per process)",
    },
    "--learning-rate": {"type": float, "help": "peak learning rate"},
    "--seed": {"type": int, "help": "the same seed gives the same result (default: 0)"},
    "--device": {"help": _DEVICE},
    "--precision": {"choices": _PRECISIONS, "help": "number format (default: auto)"},
    "--threads": {"type": int, "help": "CPU threads (default: all)"},
    "--workers": {"type": int, "dest": "num_workers", "help": "processes that prepare patches (default: none)"},
    "--cache-gb": {"type": float, "help": "memory for prepared cases; the rest go to disk (default: 4)"},
    "--checkpoint-every": {"type": int, "metavar": "STEPS", "help": "save a checkpoint every so many steps"},
    "--validate-every": {"type": int, "metavar": "STEPS", "help": "validate every so many steps"},
}


def add_training(parser: argparse.ArgumentParser) -> None:
    """Options that pretraining and fine-tuning share: `training_settings`."""
    parser.add_argument(
        "--recipe", type=Path, metavar="FILE", help="TOML or JSON file that sets all of these options and more"
    )
    names = [parser.add_argument(flag, **details).dest for flag, details in _TRAINING.items()]
    parser.set_defaults(setting_names=names)
    parser.add_argument(
        "--set",
        dest="more",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other training setting, e.g. --set ema_decay=0.99 --set augmentation.affine=0.5",
    )


def training_settings(arguments: argparse.Namespace, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's settings with what was given on the command line on top."""
    settings: dict[str, Any] = {**recipe, "augmentation": dict(recipe.get("augmentation", {}))}
    given = {name: getattr(arguments, name) for name in arguments.setting_names}
    settings.update({name: value for name, value in given.items() if value is not None})
    for item in arguments.more:
        name, equals, text = item.partition("=")
        if not equals:
            raise ConfigurationError(f"--set {item}: write NAME=VALUE.")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        table, _, entry = name.rpartition(".")
        if table not in ("", "augmentation"):
            raise ConfigurationError(f"--set {item}: there is no group of settings {table!r}.")
        (settings["augmentation"] if table else settings)[entry] = value
    return settings


# Commands with actions: `maesegment models list` ----------------------------------------------------------------------


def add_actions(parser: argparse.ArgumentParser) -> Any:
    """For `add_action`; without one of them, the command shows what there are and fails."""

    def show(_arguments: argparse.Namespace) -> int:
        parser.print_help(sys.stderr)
        return 2

    parser.set_defaults(action_run=show)
    return parser.add_subparsers(dest="action", metavar="ACTION", title="actions")


def add_action(actions: Any, name: str, summary: str, function: Run) -> argparse.ArgumentParser:
    """One of them; `run_action` calls `function`."""
    parser: argparse.ArgumentParser = actions.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}."
    )
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.set_defaults(action_run=function)
    return parser


def run_action(arguments: argparse.Namespace) -> int:
    function: Run = arguments.action_run
    return function(arguments)
