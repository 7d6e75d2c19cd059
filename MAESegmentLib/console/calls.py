"""The calls that scripts have: on files (`Console`), and in Slicer (`MAESegmentLogic`) by the same names in camelCase.

docs/console.md lists them. A call returns what it makes. With `wait=False`, or a `callback(job)` after every change, it
returns a job at once, with `state`, `progress`, `is_finished`, `error`, `cancel()` and `result(timeout_s)`. Both raise
`MAESegmentError`s.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def part(attribute: str, method: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], R]:
    """A call that one part of an object does: `process = part("_segmenting", Segmenting.process)`."""

    @functools.wraps(method)
    def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return method(getattr(self, attribute), *args, **kwargs)

    return call
