"""Slicer's own translation of what panels say; plain English outside Slicer."""

from __future__ import annotations

try:
    from slicer.i18n import tr
except ImportError:  # slicer-core has no translations

    def tr(text: str) -> str:
        """`text` as it is."""
        return text


__all__ = ["tr"]
