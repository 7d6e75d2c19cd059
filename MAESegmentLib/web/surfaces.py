"""Surfaces in the 3D view without a still window: a segment a turn, and only when somebody asks for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from .. import mrml


class Surfaces:
    """One segmentation at a time; what is asked for last counts."""

    def __init__(self) -> None:
        self._asked = 0

    async def show(self, node: Any, visible: bool, tell: Callable[[str], None]) -> None:
        """Show or hide the surfaces of a segmentation; `tell(text)` says what is being done."""
        self._asked += 1
        asked = self._asked
        if not visible:
            mrml.show_in_3d(node, False)
            tell("")
            return
        tell("making the surfaces")
        try:
            for _part in mrml.surface_steps(node):
                await asyncio.sleep(0)
                if asked != self._asked or node.GetScene() is None:
                    return
            mrml.show_in_3d(node, True)
        finally:
            tell("")
