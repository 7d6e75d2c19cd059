"""Where a user's folders are; and those with patients' data are for their owner alone, unless the owner opened them."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from MAESegmentLib.cases.store import CaseStore
from MAESegmentLib.cases.submission import CaseSubmission
from MAESegmentLib.runs import RunRequest, create_run
from MAESegmentLib.storage.user_folders import (
    default_cases_folder,
    default_models_folder,
    default_runs_folder,
    make_private_folder,
    user_data_folder,
)
from MAESegmentLib.training.loop.output_folder import claimed
from Testing.phantoms import LABELS, PhantomFactory

_REQUEST = RunRequest({"name": "tiny", "version": "1.0.0", "hash": "0"}, "/models/tiny", "/cases", ("case-0001",))


@pytest.fixture(autouse=True)
def open_umask():
    """As careless as it can be."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, "/home/me/.local/share/maesegment"),
        ("linux", {"XDG_DATA_HOME": "/data/of/me"}, "/data/of/me/maesegment"),
        ("linux", {"XDG_DATA_HOME": "  "}, "/home/me/.local/share/maesegment"),
        ("darwin", {}, "/home/me/Library/Application Support/maesegment"),
        ("win32", {}, "/home/me/AppData/Local/maesegment"),
        ("win32", {"LOCALAPPDATA": "/windows/local"}, "/windows/local/maesegment"),
    ],
)
def test_application_data_is_where_each_system_keeps_it(
    monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], expected: str
) -> None:
    """The folders that platformdirs names, which models were saved in by every version so far."""
    monkeypatch.setattr(sys, "platform", platform)
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", "USERPROFILE": "/home/me", **variables}.items():
        monkeypatch.setenv(name, value)
    assert user_data_folder() == Path(expected)


@pytest.mark.parametrize(
    ("variable", "folder", "default"),
    [
        ("MAESEGMENT_MODELS", default_models_folder, Path("models")),
        ("MAESEGMENT_RUNS", default_runs_folder, Path("fine-tuning")),
        ("MAESEGMENT_CASES", default_cases_folder, Path("/home/me/Documents/MAESegment cases")),
    ],
)
def test_a_variable_chooses_another_folder(
    monkeypatch: pytest.MonkeyPatch, variable: str, folder: Callable[[], Path], default: Path
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("USERPROFILE", "/home/me")
    monkeypatch.delenv(variable, raising=False)
    assert folder() == user_data_folder() / default
    monkeypatch.setenv(variable, "~/chosen")
    assert folder() == Path("/home/me/chosen")


def mode(folder: Path) -> int:
    return stat.S_IMODE(folder.stat().st_mode)


def add_case(store: CaseStore) -> None:
    phantom = PhantomFactory()(noise=10.0)
    store.add(phantom.volume, phantom.label_map, CaseSubmission(LABELS))


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
