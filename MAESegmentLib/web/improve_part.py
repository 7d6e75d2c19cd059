"""What the parts of the section Improve have in common: each is the host of its presenter."""

from __future__ import annotations

from typing import Any

from ..bundle import Bundle
from .panel import Panel


class ImprovePart(Panel):
    """`app.presenters.presenter.CaseHost`, of what is chosen on the page."""

    @property
    def bundle(self) -> Bundle | None:
        return self.app.segment.bundle

    @property
    def volume(self) -> Any:
        return self.workspace.scan.node if self.workspace.scan is not None else None

    @property
    def scan(self) -> Any:
        """A scan has one channel here."""
        return self.volume

    @property
    def segmentation(self) -> Any:
        return self.workspace.segmentation

    @property
    def roi(self) -> Any:
        return self.app.segment.region

    @property
    def device(self) -> str:
        return self.app.segment.device
