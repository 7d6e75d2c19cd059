"""Where a campaign runs, and on what."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from MAESegmentLib.bundle import Bundle, ModelStore, open_bundle


@dataclass(frozen=True)
class Plan:
    """Where and on what the parts run. `rehearse`: on drawn scans with tiny networks, as shortly as can be."""

    device: str
    files: Path
    work: Path
    rehearse: bool = False

    @property
    def data(self) -> Path:
        return self.work / "drawn" if self.rehearse else self.files / "data"

    def base(self, model: str) -> Bundle:
        """A shipped model, or its stand-in."""
        return open_bundle(self.data / model) if self.rehearse else ModelStore().find(model)

    @property
    def workers(self) -> int:
        """Processes that make patches, of each of two fine-tunings at once."""
        return 0 if self.rehearse else min(6, (os.cpu_count() or 1) // 3)

    @property
    def seconds(self) -> float:
        """Of a block of a benchmark."""
        return 0.0 if self.rehearse else 3.0
