"""Slicer's own translation of what panels say; plain English outside Slicer."""

from __future__ import annotations

import sys

# A process that has not imported `slicer` itself is not Slicer: importing it here would load VTK for a few sentences.
if "slicer" in sys.modules:
    try:
        from slicer.i18n import tr
    except ImportError:  # slicer-core has no translations

        def tr(text: str) -> str:
            """`text` as it is."""
            return text

else:

    def tr(text: str) -> str:
        """`text` as it is."""
        return text


__all__ = ["tr"]
