"""What a person sees of a training run in the terminal, and a Ctrl-C that loses nothing."""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError
from .terminal import make_console, say

if TYPE_CHECKING:
    from ..training.loop.loop import Progress, Report

_STAGES = {"prepare": "Preparing", "train": "Training", "validate": "Checking", "save": "Saving"}
#: Without a terminal, a line of progress at most this often.
_QUIET_SECONDS = 30.0
#: Signals so soon after each other are one wish.
_SAME_REQUEST_SECONDS = 1.0


class TrainingDisplay:
    """A progress bar with time left and loss in a terminal; plain lines elsewhere."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn
        from rich.progress import Progress as Bar

        self._console = make_console(stderr=True)
        self._bar = Bar(
            TextColumn("{task.description:<10}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("Starting", total=1.0, detail="")
        self._last_line = 0.0

    def __call__(self, progress: Progress) -> None:
        if progress.stage == "log":
            self._print(progress.message)
            return
        stage = _STAGES.get(progress.stage, progress.stage)
        detail = progress.message or _describe(progress)
        self._bar.update(self._task, completed=progress.fraction, description=stage, detail=detail)
        if progress.stage == "validate" and progress.metrics:
            self._print(f"step {progress.step}: {_numbers(progress.metrics)}")
        elif not self._console.is_terminal and time.monotonic() - self._last_line > _QUIET_SECONDS:
            self._print(f"{stage} {100 * progress.fraction:.0f} % {detail}")

    def _print(self, text: str) -> None:
        self._last_line = time.monotonic()
        if self._console.is_terminal:
            self._bar.print(text)
        else:
            say(text, error=True)

    def __enter__(self) -> Report:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def training_display(is_shown: bool) -> AbstractContextManager[Report]:
    """What is told of a run's progress; of several processes that train together, one shows it."""
    return TrainingDisplay() if is_shown else nullcontext(lambda _: None)


@contextmanager
def interruptible() -> Iterator[Any]:
    """Yield `should_cancel`: true after the first Ctrl-C (or SIGTERM), which then lets the run save its checkpoint.

    A second Ctrl-C stops at once, unless it comes with the first: a launcher passes on what its processes got already.
    """
    requested = False
    since = 0.0

    def request(number: int, _: object) -> None:
        nonlocal requested, since
        if requested:
            if number == signal.SIGINT and time.monotonic() - since > _SAME_REQUEST_SECONDS:
                raise KeyboardInterrupt
            return
        requested, since = True, time.monotonic()
        say("Stopping after this step; the checkpoint is saved ...", error=True)

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def add_setting_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that pretraining and fine-tuning share."""
    parser.add_argument("--steps", type=int, help="optimiser steps")
    parser.add_argument("--batch-size", type=int, help="patches a step")
    parser.add_argument(
        "--micro-batch",
        type=int,
        metavar="PATCHES",
        help="patches computed at a time (default: all of a step; with torchrun, an equal part for each process)",
    )
    parser.add_argument("--learning-rate", type=float, help="peak learning rate")
    parser.add_argument("--seed", type=int, help="same seed, same result (default: 0)")
    parser.add_argument("--device", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), help="number format (default: auto)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all)")
    parser.add_argument("--workers", dest="num_workers", type=int, help="processes that make patches (default: none)")
    parser.add_argument("--cache-gb", type=float, help="memory for prepared cases; more go to disk (default: 4)")
    parser.add_argument("--checkpoint-every", type=int, metavar="STEPS")
    parser.add_argument("--validate-every", type=int, metavar="STEPS")
    parser.add_argument(
        "--set",
        dest="more",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other training setting, e.g. --set ema_decay=0.99 --set augmentation.affine=0.5",
    )


_DIRECT = (
    "steps",
    "batch_size",
    "micro_batch",
    "learning_rate",
    "seed",
    "device",
    "precision",
    "threads",
    "num_workers",
    "cache_gb",
    "checkpoint_every",
    "validate_every",
)


def chosen_settings(arguments: argparse.Namespace, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's settings with what was given on the command line on top."""
    import json

    settings: dict[str, Any] = {**recipe, "augmentation": dict(recipe.get("augmentation", {}))}
    settings.update({name: getattr(arguments, name) for name in _DIRECT if getattr(arguments, name) is not None})
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


def _describe(progress: Progress) -> str:
    parts = [f"step {progress.step}"]
    if "loss" in progress.metrics:
        parts.append(f"loss {progress.metrics['loss']:.3f}")
    if progress.eta_s is not None:
        parts.append(f"{_duration(progress.eta_s)} left")
    return ", ".join(parts)


def _numbers(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in metrics.items() if name != "score")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
