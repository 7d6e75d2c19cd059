"""What an ordinary user may not read or write is said, or passed over, as that; root hides every one of these."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from MAESegmentLib.bundle import ModelStore, export_bundle, import_bundle, open_bundle
from MAESegmentLib.cases.dataset import load_dataset
from MAESegmentLib.cases.store import CaseStore
from MAESegmentLib.cases.submission import CaseSubmission
from MAESegmentLib.cli.case_stores import known_stores
from MAESegmentLib.errors import MAESegmentError, OutputError
from MAESegmentLib.images.archive import ArchiveIndex
from MAESegmentLib.images.reading import read_volume
from MAESegmentLib.images.writing import write_volume
from MAESegmentLib.runs import RunRequest, create_run, list_runs
from MAESegmentLib.worker.job_folder import JobFolder
from Testing import dicom_series
from Testing.bundles import save_tiny, tiny_spec
from Testing.children import become_nobody, run
from Testing.datasets import write_dataset
from Testing.phantoms import LABELS, PhantomFactory

_REQUEST = RunRequest({"name": "tiny", "version": "1.0.0", "hash": "0"}, "/models/tiny", "/cases", ("case-0001",))


def lock_away(*paths: Path) -> None:
    """As another user's private files are."""
    for path in paths:
        path.chmod(0)


def open_to_read(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)


def as_ordinary_user(work: Callable[[], object]) -> None:
    def child() -> None:
        become_nobody()
        work()

    run(child)


def test_another_users_model_hides_no_other(public: Path) -> None:
    store = ModelStore(public / "models", shipped_folder=public / "shipped")
    for version in ("1.0.0", "1.1.0"):
        save_tiny(store.folder_for("tiny-mr", version), tiny_spec(version=version))
    save_tiny(store.folder_for("other-mr", "1.0.0"), tiny_spec(name="other-mr"))
    lock_away(store.folder_for("tiny-mr", "1.1.0"), store.user_folder / "other-mr")

    def look() -> None:
        bundles, problems = store.scan()
        assert [bundle.version for bundle in bundles] == ["1.0.0"]
        assert all("Permission denied" in error.message for _folder, error in problems)
        assert len(problems) == 2
        assert store.next_version("tiny-mr") == "1.2.0"

    as_ordinary_user(look)
    lock_away(store.user_folder)

    def look_again() -> None:
        bundles, problems = store.scan()
        assert bundles == []
        assert [folder for folder, _error in problems] == [store.user_folder]

    as_ordinary_user(look_again)


def test_another_users_run_hides_no_other(public: Path) -> None:
    mine, theirs = (create_run(public / "runs", _REQUEST) for _ in range(2))
    (public / "runs").chmod(0o755)
    open_to_read(mine.path)
    lock_away(theirs.path)
    as_ordinary_user(lambda: _check([run.path for run in list_runs(public / "runs")] == [mine.path]))
    lock_away(public / "runs")
    as_ordinary_user(lambda: _check(list_runs(public / "runs") == []))


def _check(value: object) -> None:
    assert value


def test_another_users_case_hides_no_other(public: Path) -> None:
    store = CaseStore(public / "cases" / "tiny-mr")
    for seed in range(2):
        phantom = PhantomFactory()(noise=10.0, seed=seed)
        store.add(phantom.volume, phantom.label_map, CaseSubmission(LABELS))
    open_to_read(public / "cases")
    store.folder.chmod(0o755)
    lock_away(store.folder / "case-0002")

    def look() -> None:
        records, problems = store.scan()
        assert [record.id for record in records] == ["case-0001"]
        assert ["Permission denied" in error.message for _path, error in problems] == [True]
        with pytest.raises(MAESegmentError):
            store.get("case-0002")

    as_ordinary_user(look)


def test_case_stores_of_others_are_passed_over(public: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAESEGMENT_CASES", str(public / "cases"))
    for name in ("mine", "theirs"):
        phantom = PhantomFactory()(noise=10.0)
        CaseStore(public / "cases" / name).add(phantom.volume, phantom.label_map, CaseSubmission(LABELS))
    open_to_read(public / "cases")
    lock_away(public / "cases" / "theirs")
    assert len(known_stores()) == 2
    as_ordinary_user(lambda: _check([store.folder.name for store in known_stores()] == ["mine"]))


def test_scans_that_may_not_be_read_are_named(public: Path) -> None:
    volume = PhantomFactory()().volume
    scan = write_volume(public / "scan.nii.gz", volume)
    series = public / "series"
    series.mkdir()
    data = write_dataset(public / "data", 2)
    read_volume(scan)
    load_dataset(data)
    lock_away(scan, series, data / "labels")

    def look() -> None:
        for path in (scan, series, series / "slice.dcm"):
            with pytest.raises(MAESegmentError, match=r"[Pp]ermission|may not"):
                read_volume(path)
        with pytest.raises(MAESegmentError, match=r"[Pp]ermission|may not"):
            load_dataset(data)

    as_ordinary_user(look)


def test_slices_that_may_not_be_read_are_missed_by_every_door(public: Path) -> None:
    for name in ("series", "deep"):
        for file in dicom_series.head().write(public / name).iterdir():
            file.rename(file.with_suffix(""))  # as slices often are called
    (public / "deep" / "more").mkdir()
    results = public / "results"
    results.mkdir()
    results.chmod(0o777)
    read_volume(public / "series")
    lock_away(public / "series" / "IM0003", public / "deep" / "more")

    def look() -> None:
        for name in ("series", "deep"):
            with pytest.raises(MAESegmentError, match="no permission"):
                read_volume(public / name)
        scans = ArchiveIndex(results / "index.jsonl").scans([public / "series"])
        with pytest.raises(MAESegmentError, match="no permission"):
            scans[0].read()

    as_ordinary_user(look)


def test_an_archive_passes_over_folders_that_may_not_be_read(public: Path) -> None:
    volume = PhantomFactory()().volume
    for name in ("open", "closed"):
        (public / name).mkdir()
        write_volume(public / name / "scan.nii.gz", volume)
    lock_away(public / "closed")
    (public / "results").mkdir()
    (public / "results").chmod(0o777)

    def look() -> None:
        index = ArchiveIndex(public / "results" / "index.jsonl")
        assert "open/scan" in [scan.name for scan in index.scans([public])]

    as_ordinary_user(look)


def test_folders_that_may_not_be_written_to_are_named(public: Path) -> None:
    store = ModelStore(public / "models", shipped_folder=public / "shipped")
    bundle = save_tiny(public / "staged" / "tiny")
    archive = export_bundle(bundle, public / "tiny.zip")
    store.user_folder.mkdir()
    volume = PhantomFactory()().volume
    write_volume(public / "before.nii.gz", volume)
    (public / "closed" / "below").mkdir(parents=True)
    open_to_read(public)
    lock_away(public / "closed")

    def look() -> None:
        attempts: list[Callable[[], object]] = [
            lambda: store.add(bundle.path),
            lambda: import_bundle(archive, store),
            lambda: store.select(open_bundle(bundle.path)),
            lambda: export_bundle(bundle, public / "again.zip"),
            lambda: save_tiny(public / "new" / "1.0.0"),
            lambda: create_run(public / "runs", _REQUEST),
            lambda: JobFolder.create(public / "work"),
            lambda: write_volume(public / "after.nii.gz", volume),
            lambda: write_volume(public / "closed" / "below" / "after.nii.gz", volume),
        ]
        for attempt in attempts:
            with pytest.raises(MAESegmentError) as raised:
                attempt()
            assert raised.value.hint

    as_ordinary_user(look)


def test_a_change_of_the_models_that_is_not_permitted_is_told_as_that(public: Path) -> None:
    store = ModelStore(public / "models", shipped_folder=public / "none")
    save_tiny(store.folder_for("tiny-mr", "1.0.0"))
    child = save_tiny(store.folder_for("tiny-mr", "1.1.0"), tiny_spec(version="1.1.0"))
    store.select(store.find("tiny-mr@1.1.0"))
    archive = export_bundle(child, public / "tiny.zip")
    closed = public / "closed" / "models"
    closed.parent.mkdir()
    open_to_read(public)
    (store.user_folder / ".lock").chmod(0o666)  # of a folder that several use

    def look() -> None:
        with pytest.raises(
            OutputError, match=r"Model tiny-mr 1\.1\.0 could not be removed: the folder of your"
        ) as raised:
            store.remove(store.find("tiny-mr@1.1.0"))
        assert "permission" in raised.value.hint
        with pytest.raises(OutputError, match=f"folder of your models, {closed}: Permission denied") as raised:
            import_bundle(archive, ModelStore(closed, shipped_folder=public / "none"))
        assert "permission" in raised.value.hint

    as_ordinary_user(look)
    assert store.find("tiny-mr").version == "1.1.0"
