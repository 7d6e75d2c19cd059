"""`maesegment doctor`: does everything needed here work, and what to do where it does not."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from . import options
from .findings import Finding, Level, worst
from .terminal import make_console, say

if TYPE_CHECKING:
    from rich.console import Console

Check = Callable[[], Iterable[Finding]]

_COLOURS = {Level.OK: "green", Level.NOTE: "cyan", Level.WARNING: "yellow", Level.PROBLEM: "bold red"}
_VERDICTS = {
    Level.OK: "Everything works.",
    Level.NOTE: "Everything works; the notes say what could be better.",
    Level.WARNING: "It works, with restrictions: see the warnings.",
    Level.PROBLEM: "Something needed does not work: see the problems.",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_json(parser, "print the findings as JSON")


def run(arguments: argparse.Namespace) -> int:
    findings = []
    console = make_console()
    for finding in examine(_checks()):
        findings.append(finding)
        if not arguments.json:
            _print(console, finding)
    if arguments.json:
        say(as_json(findings))
    else:
        console.print(f"\n{_VERDICTS[worst(findings)]}", style="bold")
    return 1 if worst(findings) is Level.PROBLEM else 0


def _checks() -> Sequence[tuple[str, Check]]:
    from .check_compute import check_gpus, check_processor
    from .check_installation import check_memory, check_models, check_software, check_storage

    return (
        ("packages", check_software),
        ("processor", check_processor),
        ("memory", check_memory),
        ("GPU", check_gpus),
        ("storage", check_storage),
        ("models", check_models),
    )


def examine(checks: Iterable[tuple[str, Check]]) -> Iterator[Finding]:
    """Findings of every check; one that fails is a finding itself and does not end the examination."""
    for topic, check in checks:
        try:
            yield from check()
        except Exception as error:
            reason = (str(error).splitlines() or [""])[0]
            advice = "Solve the problems above first; if there are none, this is a defect of MAESegment: report it."
            yield Finding(topic, Level.PROBLEM, f"could not be examined ({type(error).__name__}: {reason})", advice)


def as_json(findings: Sequence[Finding]) -> str:
    """`{"works": bool, "findings": [{topic, level, fact, advice, figures}]}`"""
    works = worst(findings) is not Level.PROBLEM
    return json.dumps({"works": works, "findings": [finding.to_dict() for finding in findings]}, indent=2, default=str)


def _print(console: Console, finding: Finding) -> None:
    from rich.table import Table
    from rich.text import Text

    colour = _COLOURS[finding.level]
    fact = Text(finding.fact)
    if finding.advice:
        fact.append(f"\n→ {finding.advice}", style=colour)
    line = Table.grid(padding=(0, 1))
    line.add_column(width=8)
    line.add_column(width=15)
    line.add_column(overflow="fold")
    line.add_row(Text(finding.level.value, style=colour), finding.topic, fact)
    console.print(line)
