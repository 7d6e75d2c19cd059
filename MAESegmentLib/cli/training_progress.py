"""What a user sees of a training run in the terminal, and a Ctrl-C that loses nothing."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from .terminal import ProgressBar, duration, say

if TYPE_CHECKING:
    from ..training.run_context import Progress, Report

_STAGES = {"prepare": "Preparing", "train": "Training", "validate": "Validating", "save": "Saving"}
#: Without a terminal, a line of progress at most this often.
_QUIET_SECONDS = 30.0
#: Signals so soon after each other are one wish.
_SAME_REQUEST_SECONDS = 1.0


class TrainingDisplay:
    """A progress bar with time left and loss in a terminal; plain lines elsewhere."""

    def __init__(self) -> None:
        self._bar = ProgressBar("Starting", stays=True)
        self._last_line = 0.0

    def __call__(self, progress: Progress) -> None:
        if progress.stage == "log":
            self._print(progress.message)
            return
        stage = _STAGES.get(progress.stage, progress.stage)
        detail = progress.message or _describe(progress)
        self._bar.update(progress.fraction, stage, detail)
        if progress.stage == "validate" and progress.metrics:
            self._print(f"step {progress.step}: {_numbers(progress.metrics)}")
        elif not self._bar.is_drawn and time.monotonic() - self._last_line > _QUIET_SECONDS:
            self._print(f"{stage} {100 * progress.fraction:.0f} % {detail}")

    def _print(self, text: str) -> None:
        self._last_line = time.monotonic()
        self._bar.print(text)

    def __enter__(self) -> Report:
        self._bar.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.__exit__()


def training_display(is_shown: bool) -> AbstractContextManager[Report]:
    """Shows a run's progress; of several processes that train together, one does."""
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


def _describe(progress: Progress) -> str:
    parts = [f"step {progress.step}"]
    if "loss" in progress.metrics:
        parts.append(f"loss {progress.metrics['loss']:.3f}")
    if progress.eta_s is not None:
        parts.append(f"{duration(progress.eta_s)} left")
    return ", ".join(parts)


def _numbers(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in metrics.items() if name != "score")
