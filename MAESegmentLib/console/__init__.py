"""The same calls as in Slicer, on files and volumes, for notebooks and scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import importing

if TYPE_CHECKING:
    from .console import Console, SegmentedVolume

__all__ = ["Console", "SegmentedVolume"]

__getattr__ = importing(__name__, {"Console": "console", "SegmentedVolume": "console"})
