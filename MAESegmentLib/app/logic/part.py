"""What the parts of a logic have in common, and what they need of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from ...bundle.library import ModelLibrary
from ..session import SceneSession

Node = Any

AUTO, CPU = "auto", "cpu"


class Host(Protocol):
    """The logic. Asked each time: Slicer's session and the folder of models may change while it lives."""

    @property
    def session(self) -> SceneSession: ...

    @property
    def library(self) -> ModelLibrary: ...

    @property
    def case_root(self) -> Path:
        """Where the cases of all models are, a folder for each."""


def nodes_of(volume: Any) -> tuple[Any, ...]:
    """One a channel, of a node or several."""
    return tuple(volume) if isinstance(volume, Sequence) and not isinstance(volume, str) else (volume,)


class Part:
    """Some of a logic's calls. Never opens a dialog."""

    def __init__(self, host: Host) -> None:
        self._host = host

    @property
    def session(self) -> SceneSession:
        return self._host.session

    @property
    def library(self) -> ModelLibrary:
        return self._host.library
