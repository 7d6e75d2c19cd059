"""Every test here runs on Slicer's real scene, and fails if VTK reports an error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from Testing import slicer_core


@pytest.fixture(autouse=True)
def scene() -> Iterator[Any]:
    """The scene, empty before and after."""
    scene = slicer_core.fresh_scene()
    with slicer_core.no_vtk_errors():
        yield scene
    slicer_core.fresh_scene()
