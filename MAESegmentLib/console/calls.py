"""The calls that scripts have: on files (`Console`), and in Slicer (`MAESegmentLogic`) by the same names in camelCase.

docs/console.md lists them. A call returns what it makes. With `wait=False`, or a `callback(job)` after every change, it
returns a job at once, with `state`, `progress`, `is_finished`, `error`, `cancel()` and `result(timeout_s)`. Both raise
`MAESegmentError`s.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, Concatenate, ParamSpec, TypeVar

from ..errors import ConfigurationError
from ..translation import tr as _

P = ParamSpec("P")
R = TypeVar("R")


def part(attribute: str, method: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], R]:
    """A call that one part of an object does: `process = part("_segmenting", Segmenting.process)`."""

    @functools.wraps(method)
    def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return method(getattr(self, attribute), *args, **kwargs)

    return call


def several(given: Any, kinds: tuple[type[Any], ...], expected: str, inside: tuple[type[Any], ...] = ()) -> list[Any]:
    """One of `kinds`, several or None, as a list; those of `inside` are one only within a list. `ConfigurationError`,
    which says what is `expected`, for all else."""
    if given is None or isinstance(given, kinds):
        listed = [] if given is None else [given]
    else:
        listed = list(given) if isinstance(given, Iterable) and not isinstance(given, str | bytes) else [given]
    for one in listed:
        if not isinstance(one, (*kinds, *inside)):
            raise ConfigurationError(_("{kind} was given.").format(kind=type(one).__name__), expected)
        if one == "":  # as a path, that would be the working directory
            raise ConfigurationError(_("An empty text was given."), expected)
    return listed
