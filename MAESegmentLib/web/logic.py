"""What Slicer's module offers scripts, for the scene of this process."""

from __future__ import annotations

from pathlib import Path

from ..app.logic.learning import LearningCalls
from ..app.session import SceneSession
from ..bundle.library import ModelLibrary


class Logic(LearningCalls):
    """Every call with `wait=False`: nothing in the browser waits within the event loop."""

    def __init__(self, session: SceneSession, case_folder: Path | None = None) -> None:
        self.session = session
        self._library = ModelLibrary()
        self._case_folder = case_folder
