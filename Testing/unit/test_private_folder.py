"""Folders with patients' data are for their owner alone, unless the owner opened them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from MAESegmentLib.cases.store import CaseStore
from MAESegmentLib.cases.submission import Entry
from MAESegmentLib.runs import RunRequest, create_run
from MAESegmentLib.storage.private_folder import make_private_folder
from MAESegmentLib.training.loop.output_folder import claimed
from Testing.phantoms import LABELS, PhantomFactory

_REQUEST = RunRequest({"name": "tiny", "version": "1.0.0", "hash": "0"}, "/models/tiny", "/cases", ("case-0001",))


@pytest.fixture(autouse=True)
def open_umask():
    """As careless as it can be."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(folder: Path) -> int:
    return stat.S_IMODE(folder.stat().st_mode)


def add_case(store: CaseStore) -> None:
    phantom = PhantomFactory()(noise=10.0)
    store.add(phantom.volume, phantom.label_map, Entry(LABELS))


def test_a_new_case_store_is_private(tmp_path: Path) -> None:
    store = CaseStore(tmp_path / "cases" / "tiny-mr")
    add_case(store)
    assert mode(store.folder) == mode(store.folder.parent) == 0o700


def test_a_store_that_is_shared_on_purpose_stays_shared(tmp_path: Path) -> None:
    store = CaseStore(tmp_path / "shared")
    store.folder.mkdir(mode=0o770)
    add_case(store)
    assert mode(store.folder) == 0o770
    assert [record.id for record in store.list()] == ["case-0001"]


def test_runs_are_private(tmp_path: Path) -> None:
    run = create_run(tmp_path / "runs", _REQUEST)
    with claimed(tmp_path / "out"):
        pass
    assert mode(run.path) == mode(run.path.parent) == mode(tmp_path / "out") == 0o700


def test_a_file_in_the_way_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match="file"):
            make_private_folder(folder)
