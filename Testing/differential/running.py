"""Comparisons in another process, and in a new one once a reader has crashed, as ITK and VTK do on damaged files."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

from .comparing import DISAGREE, Outcome, compare
from .subjects import Subject

#: So long one subject may take: none of these files is large.
_SECONDS = 120


class _Child:
    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def compare(self, subject: Subject) -> Outcome | None:
        """None if the process has to be given up."""
        try:
            self._connection.send(subject)
            outcome: Outcome | None = self._connection.recv() if self._connection.poll(_SECONDS) else None
        except (EOFError, OSError):
            return None
        return outcome

    def end(self) -> str:
        """How the process ended."""
        self._connection.close()
        self._process.join(1)
        ended = self._process.exitcode
        self._process.kill()
        self._process.join()
        return f"not finished after {_SECONDS} s" if ended is None else f"a reader ended its process ({ended})"


def run(subjects: Iterable[Subject]) -> Iterator[tuple[Subject, Outcome]]:
    """Compare one after the other."""
    child = _Child()
    for subject in subjects:
        outcome = child.compare(subject)
        if outcome is None:
            outcome = Outcome(DISAGREE, child.end())
            child = _Child()
        yield subject, outcome
    child.end()


def _serve(connection: Connection) -> None:
    # ITK and VTK write their remarks where C does.
    with Path(os.devnull).open("w") as nowhere:
        for stream in (1, 2):
            os.dup2(nowhere.fileno(), stream)
    while True:
        try:
            subject = connection.recv()
        except EOFError:
            return
        connection.send(compare(subject))
