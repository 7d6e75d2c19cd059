"""`python -m Testing.differential [FOLDER...]`: our readers against the field's; 1 if any file disagrees."""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from .comparing import AGREED, DISAGREE, EQUAL, REFUSED, Outcome
from .running import run
from .subjects import Subject, find_subjects, usual_folders

_KINDS = (EQUAL, REFUSED, AGREED, DISAGREE)


def table(outcomes: Iterable[tuple[Subject, Outcome]]) -> list[str]:
    """Lines: a row of counts for each kind of file."""
    counts: dict[str, Counter[str]] = {}
    for subject, outcome in outcomes:
        counts.setdefault(subject.kind, Counter())[outcome.kind] += 1
    counts["all"] = sum(counts.values(), Counter())
    lines = ["kind        tried " + " ".join(f"{kind:>8}" for kind in _KINDS)]
    for kind, counter in counts.items():
        lines.append(f"{kind:<10} {counter.total():>6} " + " ".join(f"{counter[key]:>8}" for key in _KINDS))
    return lines


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m Testing.differential", description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, help="default: the packages' test files and the real data")
    parser.add_argument("--refusals", action="store_true", help="list every refusal, too")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as unpacked:
        subjects = find_subjects(options.folders or usual_folders(), Path(unpacked))
        outcomes = list(run(subjects))
    for subject, outcome in outcomes:
        if outcome.kind in (AGREED, DISAGREE) or (outcome.kind == REFUSED and options.refusals):
            print(f"{outcome.kind}: {subject}\n    {outcome.text}")
    print("\n".join(table(outcomes)))
    return int(any(outcome.kind == DISAGREE for _, outcome in outcomes))


if __name__ == "__main__":
    raise SystemExit(main())
