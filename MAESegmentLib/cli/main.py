"""Entry point of `maesegment`: finds the command, imports only that one, turns failures into one clear message."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

from ..errors import Cancelled, ConfigurationError, MAESegmentError, refusal_by_system
from ..processes.processor import spin_briefly
from ..version import __version__
from .options import Parser
from .terminal import Stdout, StdoutError, say, tolerate_any_encoding

#: Exit codes: 1 is a command's own "done, but not all of it", 2 a failure reported in one message, 130 Ctrl-C.
FAILED = 2
INTERRUPTED = 130


class Command(NamedTuple):
    """`module` is imported only when the command is asked for, so that `--help` needs neither numpy nor torch, nor what
    a dataclass loads."""

    name: str
    module: str
    summary: str

    def load(self) -> ModuleType:
        return importlib.import_module(self.module, package=__package__)


COMMANDS = (
    Command("segment", ".segment", "label the structures in one scan (NIfTI, NRRD, MHA, MGZ or a DICOM folder)"),
    Command("batch", ".batch", "segment every scan in a folder or DICOM archive; resumable, with one table of results"),
    Command("update", ".update", "let the rest of a scan follow from slices that were corrected or drawn"),
    Command("demo", ".demo", "segment both hippocampi of a sample head that comes with the installation"),
    Command(
        "cases",
        ".cases",
        "manage the corrected cases a model is fine-tuned on: add, list, check, remove, choose the next",
    ),
    Command("finetune", ".finetune", "adapt a model to your own labelled cases"),
    Command("pretrain", ".pretrain", "learn anatomy from scans without labels (masked autoencoder)"),
    Command("evaluate", ".evaluate", "compare a model, or label maps you already have, with reference labels"),
    Command("models", ".models", "list, show, verify, compare, import, export and remove models"),
    Command("app", ".app", "open Slicer's views in the browser: segment, correct, improve, export"),
    Command("doctor", ".doctor", "check this machine and say what to do about each problem"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the process's exit code."""
    tolerate_any_encoding()
    spin_briefly(os.environ)
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    try:
        with contextlib.redirect_stdout(Stdout(sys.stdout)):
            return _run(words)
    except BrokenPipeError:
        # The reader (`| head`) has gone.
        _abandon_stdout()
        return FAILED
    except StdoutError as error:
        _abandon_stdout()
        return report_failure(error)
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            traceback.print_exc()
        return report_failure(error)


def _run(words: Sequence[str]) -> int:
    parser = build_parser(_requested_command(words))
    arguments, unknown = parser.parse_known_args(words)
    if unknown:
        command = " ".join(word for word in (arguments.command, getattr(arguments, "action", None)) if word)
        raise ConfigurationError(
            f"`maesegment {command}` does not take {unknown[0]!r}.",
            f"`maesegment {command} --help` says what it takes; write options in full.",
        )
    if arguments.command is None:
        parser.print_help(sys.stderr)
        return FAILED
    code = int(arguments.run(arguments) or 0)
    sys.stdout.flush()  # what cannot be written is said, and not left to Python's end
    return code


def build_parser(wanted: str | None) -> argparse.ArgumentParser:
    """A parser that knows every command's name and the arguments of `wanted` alone."""
    parser = Parser(
        prog="maesegment",
        description="3D medical image segmentation with MAE-pretrained nnFormer models. Research use only.",
        epilog="maesegment COMMAND --help describes one command.",
    )
    parser.add_argument("--version", action="version", version=f"maesegment {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the full traceback of an error")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for command in COMMANDS:
        subparser = subparsers.add_parser(command.name, help=command.summary, description=_sentence(command.summary))
        subparser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        if command.name == wanted:
            module = command.load()
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run)
    return parser


def _requested_command(words: Sequence[str]) -> str | None:
    """The first word that is not an option (no option before it takes a value); an unknown one is an error here."""
    wanted = next((word for word in words if not word.startswith("-")), None)
    names = [command.name for command in COMMANDS]
    if wanted is None or wanted in names:
        return wanted
    import difflib

    close = difflib.get_close_matches(wanted, names, n=1)
    guess = f"Did you mean `maesegment {close[0]}`? " if close else ""
    raise ConfigurationError(f"There is no command {wanted!r}.", f"{guess}The commands are: {', '.join(names)}.")


def report_failure(error: BaseException) -> int:
    """Print what went wrong and what to do about it, without a traceback; returns the exit code."""
    if isinstance(error, KeyboardInterrupt):
        return _say("Stopped by Ctrl-C.", "", INTERRUPTED)
    if isinstance(error, MAESegmentError):
        return _say(error.message, error.hint, INTERRUPTED if isinstance(error, Cancelled) else FAILED)
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("MAESegmentLib"):
        package = (error.name or "a package").split(".")[0]
        if package == "torch":
            return _say(
                "This needs PyTorch, which is not installed. Without it, models are run by OpenVINO and not trained.",
                "Install it, and what else training needs, with: pip install 'maesegment[train]'",
                FAILED,
            )
        return _say(
            f"The Python package {package!r} is not installed.",
            "Install everything with: pip install 'maesegment[train,demo]'",
            FAILED,
        )
    refusal = refusal_by_system(error)
    if refusal is not None:
        return _say(refusal.message, refusal.hint, FAILED)
    return _say(
        f"{type(error).__name__}: {error}",
        "This is a defect of MAESegment. Run the same command with --debug and report what it prints.",
        FAILED,
    )


def _abandon_stdout() -> None:
    """Python would complain once more while it closes stdout."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(message: str, hint: str, code: int) -> int:
    say(f"error: {message}", error=True)
    for line in hint.splitlines():
        say(f"  {line}", error=True)
    return code


def _sentence(summary: str) -> str:
    return f"{summary[:1].upper()}{summary[1:]}."


if __name__ == "__main__":
    sys.exit(main())
