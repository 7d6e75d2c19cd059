"""A process to start, and how it is kept apart from this one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Launch:
    """What to run. `environment` is the complete one."""

    program: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]


def hidden() -> dict[str, Any]:
    """Options of `Popen` for a process without a window (Windows), in this one's session."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NO_WINDOW}
    return {}


def apart() -> dict[str, Any]:
    """Options of `Popen` for a session (Windows: a group without a window) of its own, which Ctrl+C does not reach."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}
