"""The part of a logic that knows the models and their versions."""

from __future__ import annotations

import os
from pathlib import Path

from ...bundle import Bundle, export_bundle
from ...errors import MAESegmentError
from .part import ModelChoice, Part


class Models(Part):
    """Models that segment. The worker verifies what it loads."""

    def models(self) -> list[Bundle]:
        """By name and version."""
        return self.library.models()

    def problems(self) -> list[tuple[Path, MAESegmentError]]:
        """(folder, error) of what lies among the models but cannot be used."""
        return self.library.problems()

    def defaultModel(self) -> Bundle | None:
        """What a panel shows first; None if there is none."""
        return self.library.default()

    def selectedModel(self, name: str) -> Bundle | None:
        """The version that the whole name of a model means: the one that was chosen, else the highest."""
        return self.library.meant(name)

    def useVersion(self, model: ModelChoice) -> Bundle:
        """From now on the name of this model means this version, here and in every other program."""
        bundle = self.library.find(model)
        self.library.store.select(bundle)
        return bundle

    def removableReason(self, model: ModelChoice) -> str:
        """Why a version cannot be removed, in a sentence; "" if it can."""
        return self.library.store.removable(self.library.find(model))

    def removeVersion(self, model: ModelChoice) -> None:
        """Delete a version that nothing was made from; `BundleError` says why one cannot be removed."""
        self.library.store.remove(self.library.find(model))

    def importModel(self, path: str | os.PathLike[str]) -> Bundle:
        """Verify a zip or a folder and add it to the user's models; the event loop continues meanwhile."""
        return self.session.loop.call_aside(lambda: self.library.add(path))

    def exportModel(self, model: ModelChoice, path: str | os.PathLike[str]) -> Path:
        """Write a model as a zip that `importModel` reads; the event loop continues meanwhile."""
        bundle = self.library.find(model)
        return self.session.loop.call_aside(lambda: export_bundle(bundle, path))
