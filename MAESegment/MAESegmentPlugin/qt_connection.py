"""Signals connected by name, which Qt refuses silently if the name is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def connect(sender: Any, signal: str, slot: Callable[..., Any]) -> None:
    """`sender.connect(signal, slot)`; an unknown signal is an error, not a False that nobody looks at."""
    if not sender.connect(signal, slot):
        raise RuntimeError(f"{sender.className()} has no signal {signal}")
