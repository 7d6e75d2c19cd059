"""One command line for the studies: list the runs, do those that the results lack, make the report.

A run's rows are written together after its end, so that a run that was killed is done again (or resumed, where its
work folder has a checkpoint) and one that is in the results is not.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar


class Run(Protocol):
    """One training with what is measured of it."""

    @property
    def name(self) -> str:
        """Unique in the study; `list` shows it, `--only` searches it, and the results can be traced to it."""
        ...


S = TypeVar("S")
R = TypeVar("R", bound=Run)


@dataclass(frozen=True)
class Engine(Generic[S, R]):
    """What a study S with runs R adds to the command line.

    `perform(study, run, data, work, results)` does one run and adds its rows; `finished(results)` gives the names of
    the runs that `results` (a file, or a folder of files) holds; `report(study, results, folder)` refreshes README.md
    and plots of `folder`.
    """

    folder: Path
    read: Callable[[Path], S]
    runs: Callable[[S], Iterable[R]]
    finished: Callable[[Path], set[str]]
    perform: Callable[[S, R, Path, Path, Path], None]
    report: Callable[[S, Path, Path], None]
    file: str = "study.toml"
    results: str = "results.csv"

    def missing(self, study: S, results: Path, only: str = "") -> list[R]:
        """Runs that the results lack, in the study's order, whose names hold the words `only`; * is anything."""
        done = self.finished(results)
        return [run for run in self.runs(study) if run.name not in done and fnmatchcase(run.name, f"*{only}*")]

    def do_missing(self, study: S, data: Path, work: Path, results: Path, only: str = "") -> int:
        """Do the missing runs; returns how many there were. What another process has done meanwhile is left out."""
        missing = self.missing(study, results, only)
        for run in missing:
            if run.name in self.finished(results):
                continue
            print(run.name, flush=True)
            started = time.perf_counter()
            self.perform(study, run, data, work, results)
            print(f"  done in {time.perf_counter() - started:.0f} s", flush=True)
        return len(missing)

    def parser(self, doc: str | None) -> tuple[argparse.ArgumentParser, Any]:
        """The command line with `run`, `list` and `report`, and its subparsers, to which a study may add its own."""
        parser = argparse.ArgumentParser(
            description=(doc or "").strip(), formatter_class=argparse.RawDescriptionHelpFormatter
        )
        commands = parser.add_subparsers(dest="command", required=True)
        run = commands.add_parser("run", help="do the runs that are missing")
        add_places(run)
        listing = commands.add_parser("list", help="name the runs that are missing")
        for command in (run, listing, commands.add_parser("report", help="make tables and plots from the results")):
            command.add_argument("--study", type=Path, default=self.folder / self.file)
            command.add_argument("--results", type=Path, default=self.folder / self.results)
        for command in (run, listing):
            command.add_argument(
                "--only", default="", metavar="WORDS", help="only runs whose names hold these words; * is anything"
            )
        return parser, commands

    def main(self, doc: str | None, arguments: Sequence[str] | None = None) -> None:
        """Do what the command line says."""
        parser, _ = self.parser(doc)
        self.execute(parser.parse_args(arguments))

    def execute(self, arguments: argparse.Namespace) -> None:
        """Do `run`, `list` or `report`."""
        study = self.read(arguments.study)
        if arguments.command == "report":
            self.report(study, arguments.results, self.folder)
        elif arguments.command == "list":
            for run in self.missing(study, arguments.results, arguments.only):
                print(run.name)
        else:
            self.do_missing(study, arguments.data, arguments.work, arguments.results, arguments.only)


def add_places(command: argparse.ArgumentParser) -> None:
    """`--data` and `--work` of a command that trains."""
    command.add_argument("--data", type=Path, required=True, help="the folder that holds the data sets")
    command.add_argument("--work", type=Path, required=True, help="for models, checkpoints and what can be made again")
