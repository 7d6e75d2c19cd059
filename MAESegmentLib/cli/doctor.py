"""`maesegment doctor`: does everything needed here work, and what to do where it does not."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from . import options
from .terminal import make_console, say

if TYPE_CHECKING:
    from rich.console import Console

    from .doctor_checks import CheckResult, Results

_COLOURS = {"ok": "green", "note": "cyan", "warning": "yellow", "problem": "bold red"}
_VERDICTS = {
    "ok": "Everything works.",
    "note": "Everything works; the notes say what could be better.",
    "warning": "It works, with restrictions: see the warnings.",
    "problem": "Something needed does not work: see the problems.",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_json(parser, "print the results as JSON")


def run(arguments: argparse.Namespace) -> int:
    from .doctor_checks import Level, as_json, worst_of

    results = []
    console = make_console()
    for result in check_all():
        results.append(result)
        if not arguments.json:
            _print(console, result)
    worst = worst_of(results)
    if arguments.json:
        say(as_json(results))
    else:
        console.print(f"\n{_VERDICTS[worst]}", style="bold")
    return 1 if worst is Level.PROBLEM else 0


def check_all() -> Results:
    from . import doctor_checks as checks
    from . import doctor_computing as computing

    for topic, run in {
        "packages": checks.check_software,
        "runtime": computing.check_runtimes,
        "processor": computing.check_processor,
        "memory": checks.check_memory,
        "GPU": computing.check_gpus,
        "storage": checks.check_storage,
        "models": checks.check_models,
    }.items():
        yield from checks.attempt(topic, run)


def _print(console: Console, result: CheckResult) -> None:
    from rich.table import Table
    from rich.text import Text

    colour = _COLOURS[result.level]
    fact = Text(result.fact)
    if result.advice:
        fact.append(f"\n→ {result.advice}", style=colour)
    line = Table.grid(padding=(0, 1))
    line.add_column(width=8)
    line.add_column(width=15)
    line.add_column(overflow="fold")
    line.add_row(Text(result.level.value, style=colour), result.topic, fact)
    console.print(line)
