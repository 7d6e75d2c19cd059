"""A sound model of which strangers make bad ones, and a store that must refuse these."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from MAESegmentLib.bundle import Bundle, ModelStore
from Testing.bundles import save_tiny
from Testing.hostile_bundles import (
    Change,
    Entries,
    Refused,
    assert_refused,
    entries_of,
    forged,
    write_zip,
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return save_tiny(tmp_path_factory.mktemp("bundle") / "tiny-mr")


@pytest.fixture(scope="module")
def entries(bundle: Bundle) -> Entries:
    return entries_of(bundle)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    """An empty store, which commands use, too; beside it are the models that ship with MAESegment."""
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("MAESEGMENT_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    return ModelStore()


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file that exists if anything of a model ran."""
    return tmp_path / "canary"


@pytest.fixture
def refused(entries: Entries, store: ModelStore, tmp_path: Path) -> Refused:
    """`refused(match, files, change)`: the model with these changes is refused, for a reason that matches."""

    def check(match: str, files: Mapping[str, bytes] | None = None, change: Change | None = None) -> None:
        assert_refused(write_zip(tmp_path / "bad.zip", forged(entries, files, change)), store, match)

    return check
