"""Runs that end once they have come to some step."""

from __future__ import annotations

from collections.abc import Callable

from MAESegmentLib.training.run_context import Progress, Report


def once_at(step: int) -> tuple[Report, Callable[[], bool]]:
    """A report, and whether `step` steps have been reported: for a `RunContext` that cancels or stops then."""
    seen = [0]

    def report(progress: Progress) -> None:
        seen[0] = max(seen[0], progress.step)

    return report, lambda: seen[0] >= step
