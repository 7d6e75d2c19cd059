"""Fixtures of the tests of the section Improve: a scan, its corrected segmentation, the section open."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest


@pytest.fixture
def volume(panel: Any, add_volume: Callable[..., Any], settle: Callable[[], None]) -> Any:
    """A scan is chosen, and Improve is open."""
    node = add_volume("MNI152 head")
    panel.parameters.modelName = "hippocampus-mr@1.2.1"
    panel.ui.improveCollapsibleButton.collapsed = False
    settle()
    return node


@pytest.fixture
def segmentation(panel: Any, volume: Any, add_result: Callable[..., Any], settle: Callable[[], None]) -> Any:
    """A corrected result of the scan is chosen."""
    node, _summary = add_result(volume, panel.bundle)
    panel.parameters.outputSegmentation = node
    settle()
    return node


@pytest.fixture
def store(fake_logic: Any) -> Any:
    """The folder of cases."""
    return fake_logic.store


@pytest.fixture
def new_version(fake_logic: Any) -> Any:
    """hippocampus-mr 1.3.0, a child of the shipped one, among the models."""
    base = next(bundle for bundle in fake_logic.bundles if bundle.name == "hippocampus-mr")
    parent = {"name": base.name, "version": base.version, "hash": base.content_hash}
    new = SimpleNamespace(
        name=base.name,
        version="1.3.0",
        content_hash="new",
        metadata=base.metadata,
        labels=base.labels,
        card=base.card,
        path=base.path,
        kind=base.kind,
        parent=parent,
    )
    fake_logic.bundles = [*fake_logic.bundles, new]
    return new


def choose(combo: Any, text: str) -> None:
    """As a user does who reads the list."""
    index = combo.findText(text)
    assert index >= 0, [combo.itemText(number) for number in range(combo.count)]
    combo.setCurrentIndex(index)


def texts_of(table: Any, column: int) -> list[str]:
    """What stands in a column."""
    return [table.item(row, column).text() for row in range(table.rowCount)]
