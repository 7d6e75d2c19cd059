"""A process to start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Launch:
    """What to run. `environment` is the complete one."""

    program: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
