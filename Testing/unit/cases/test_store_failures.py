"""Whatever happens to a writer, the store is as it was before or as it should be after."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from MAESegmentLib.cases.dataset import load_dataset
from MAESegmentLib.cases.records import CaseRecord
from MAESegmentLib.cases.store import CaseStore
from MAESegmentLib.cases.submission import CaseSubmission
from MAESegmentLib.errors import DatasetError, DuplicateCase, OutputError
from Testing.children import become_nobody, fork, killed_before, limit_file_size, run, wait
from Testing.phantoms import LABELS, Phantom

Scan = Callable[[int], Phantom]


def check(store: CaseStore) -> list[CaseRecord]:
    """The records, once every case is found sound and `dataset.json` to tell of them."""
    records, problems = store.scan()
    assert problems == []
    for record in records:
        store.verify(record.id)
    if records:
        assert [case.id for case in load_dataset(store.folder).cases] == [record.id for record in records]
    return records


def check_tidy(store: CaseStore) -> None:
    """Nothing of dead writers is left after the next one."""
    store.remember({})
    hidden = [path for path in store.folder.rglob("*") if path.name.startswith((".", "tmp"))]
    assert hidden == [store.folder / ".lock"]


# Killed ---------------------------------------------------------------------------------------------------------------


def killed(store: CaseStore, work: Callable[[], object], look: Callable[[list[CaseRecord]], object]) -> list[object]:
    """Kill `work` before its first change of the store, its second, ... until it ends: what `look` returned of the
    sound cases after each kill."""
    seen: list[object] = []
    while killed_before(len(seen), store.folder, work):
        seen.append(look(check(store)))
    return seen


def test_killed_at_any_moment_while_adding(store: CaseStore, add) -> None:
    before = add(1)

    def look(records: list[CaseRecord]) -> int:
        assert records[0] == before
        for arrived in records[1:]:
            store.remove(arrived.id)
        return len(records)

    seen = killed(store, lambda: add(2), look)
    assert len(check(store)) == 2
    assert len(seen) > 15
    assert 2 in seen
    check_tidy(store)


def test_killed_at_any_moment_while_updating(store: CaseStore, add) -> None:
    add(1, unknown=("middle",))
    add(2)
    moment, seen = 0, set()
    while seen != {1, 2} and killed_before(
        moment, store.folder, lambda: add(1, replace="case-0001", unknown=("other",))
    ):
        first, second = check(store)
        seen.add(first.revision)
        assert first.unknown == (("middle",) if first.revision == 1 else ("other",))
        assert second.revision == 1
        moment += 1
    assert moment > 15
    assert seen == {1, 2}
    check_tidy(store)


def test_killed_at_any_moment_after_the_new_version_is_in_its_place(store: CaseStore, add) -> None:
    """The rest of an update: the old version is deleted, `dataset.json` written."""
    add(1)
    seen = killed(store, lambda: add(1, replace="case-0001"), lambda records: [one.revision for one in records])
    assert seen == sorted(seen)
    [record] = check(store)
    assert [record.revision - 1] == seen[-1]
    check_tidy(store)


def test_killed_at_any_moment_while_removing(store: CaseStore, add) -> None:
    add(1)
    gone = [add(2).id]

    def look(records: list[CaseRecord]) -> None:
        names = [record.id for record in records]
        assert names in (["case-0001"], ["case-0001", gone[-1]])
        if len(names) == 1:
            gone.append(add(10 + len(gone)).id)

    killed(store, lambda: store.remove(gone[-1]), look)
    assert [record.id for record in check(store)] == ["case-0001"]
    assert len(set(gone)) == len(gone) > 2
    check_tidy(store)


def test_killed_at_any_moment_while_changing_the_role(store: CaseStore, add) -> None:
    add(1)

    def look(records: list[CaseRecord]) -> None:
        assert load_dataset(store.folder).splits[records[0].role] == ("case-0001",)

    assert len(killed(store, lambda: store.set_role("case-0001", "check"), look)) > 3
    assert check(store)[0].role == "check"
    check_tidy(store)


# No space, no permission ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 200, 1000, 5000])
@pytest.mark.parametrize("replaced", ["", "case-0001"])
def test_full_disk_is_named_and_nothing_is_lost(store: CaseStore, add, size: int, replaced: str) -> None:
    add(1)
    before = check(store)

    def work() -> None:
        limit_file_size(size)
        with pytest.raises(OutputError, match="full") as raised:
            add(1 if replaced else 2, replace=replaced)
        assert "Free some space" in raised.value.hint

    run(work)
    assert check(store) == before
    check_tidy(store)
    assert add(2).id == "case-0002"


def test_case_that_is_in_the_store_counts_even_if_dataset_json_cannot_be_written(store: CaseStore, add) -> None:
    add(1)
    largest = max(path.stat().st_size for path in (store.folder / "case-0001").iterdir())
    for number in range(2, 4):
        add(number, group="p" * largest)

    def work() -> None:
        limit_file_size(largest + 1000)
        add(9)

    run(work)
    assert [record.id for record in check(store)] == ["case-0001", "case-0002", "case-0003", "case-0004"]
    assert "case-0004" not in (store.folder / "dataset.json").read_text()
    assert "case-0004" in store.dataset_path.read_text()


def test_read_only_store_can_be_read_and_says_so_when_written_to(public: Path, scan: Scan) -> None:
    store = CaseStore(public / "cases")
    phantom = scan(1)
    submission = CaseSubmission(LABELS)
    store.add(phantom.volume, phantom.label_map, submission)
    (store.folder / "dataset.json").write_text("{}")  # as after a kill
    for path in (store.folder, *store.folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)

    def work() -> None:
        become_nobody()
        check(store)
        other = scan(2)
        for write in (
            lambda: store.add(other.volume, other.label_map, submission),
            lambda: store.add(phantom.volume, phantom.label_map, CaseSubmission(LABELS, replace="case-0001")),
            lambda: store.remove("case-0001"),
            lambda: store.set_role("case-0001", "check"),
            lambda: store.remember({"a": "b"}),
        ):
            with pytest.raises(OutputError, match="written") as raised:
                write()
            assert "permission" in str(raised.value)
        check(store)

    run(work)
    assert len(check(store)) == 1


def test_torn_case_in_a_read_only_store_is_reported(public: Path, scan: Scan) -> None:
    store = CaseStore(public / "cases")
    phantom = scan(1)
    store.add(phantom.volume, phantom.label_map, CaseSubmission(LABELS))
    (store.folder / "case-0001").rename(store.folder / ".case-0001.old-0123abcd")
    store.folder.chmod(0o555)

    def work() -> None:
        become_nobody()
        assert [error.message for _, error in store.scan()[1]] == ["Case case-0001 was being replaced."]

    run(work)
    store.folder.chmod(0o755)
    assert [record.id for record in check(store)] == ["case-0001"]


def test_store_that_may_not_be_read_is_not_taken_for_an_empty_one(public: Path, scan: Scan) -> None:
    store = CaseStore(public / "cases")
    phantom = scan(1)
    store.add(phantom.volume, phantom.label_map, CaseSubmission(LABELS))
    store.folder.chmod(0o700)

    def work() -> None:
        become_nobody()
        if os.access(store.folder, os.R_OK):
            store.folder.chmod(0o300)  # it is our own
        with pytest.raises(DatasetError, match="cannot be read: Permission denied"):
            store.list()

    run(work)
    store.folder.chmod(0o700)


def test_place_that_is_a_file_is_no_store(tmp_path: Path, scan: Scan) -> None:
    (tmp_path / "file").touch()
    phantom = scan(1)
    for store in (CaseStore(tmp_path / "file"), CaseStore(tmp_path / "file" / "store")):
        assert store.list() == []
        with pytest.raises(OutputError, match="file"):
            store.add(phantom.volume, phantom.label_map, CaseSubmission(LABELS))


def test_place_where_no_folder_can_be_made(public: Path, scan: Scan) -> None:
    public.chmod(0o555)
    phantom = scan(1)

    def work() -> None:
        become_nobody()
        with pytest.raises(OutputError, match="Permission denied") as raised:
            CaseStore(public / "a" / "b").add(phantom.volume, phantom.label_map, CaseSubmission(LABELS))
        assert "folder of your own" in raised.value.hint

    run(work)


def test_path_with_spaces_and_other_letters(tmp_path: Path, scan: Scan) -> None:
    store = CaseStore(tmp_path / "Fälle von Dr. Müller (2024) №1" / "моя модель 手")
    phantom = scan(1)
    record = store.add(phantom.volume, phantom.label_map, CaseSubmission(LABELS))
    assert check(store) == [record]
    assert store.dataset_path.is_file()


# Several programs -----------------------------------------------------------------------------------------------------


def test_programs_that_add_at_once_do_not_disturb_each_other(store: CaseStore, add) -> None:
    def work(program: int) -> None:
        for number in range(4):
            add(100 * program + number)
        with suppress(DuplicateCase):  # one of them is the first
            add(7)

    programs = [fork(lambda program=program: work(program)) for program in (1, 2, 3, 4)]
    assert [wait(pid) for pid in programs] == [0] * 4
    assert [record.id for record in check(store)] == [f"case-{number:04d}" for number in range(1, 18)]
    check_tidy(store)


def test_reader_always_finds_a_case_that_another_program_keeps_replacing(store: CaseStore, add) -> None:
    add(1)
    add(2)

    def work() -> None:
        for _ in range(40):
            add(1, replace="case-0001")

    writer = fork(work)
    revisions = [0]
    while os.waitpid(writer, os.WNOHANG) == (0, 0):
        records, problems = store.scan()
        assert problems == []
        assert [record.id for record in records] == ["case-0001", "case-0002"]
        assert records[0].revision >= revisions[-1]
        revisions.append(records[0].revision)
    assert len(set(revisions)) > 5
    assert check(store)[0].revision == 41
