"""What Slicer's module offers scripts, for the scene of this process."""

from __future__ import annotations

from pathlib import Path

from ..scene.learning_calls import LearningCalls
from ..scene.model_library import ModelLibrary
from ..scene.session import SceneSession


class Logic(LearningCalls):
    """Every call with `wait=False`: nothing in the browser waits within the event loop."""

    def __init__(self, session: SceneSession, case_folder: Path | None = None) -> None:
        self.session = session
        self._library = ModelLibrary()
        self._case_folder = case_folder
