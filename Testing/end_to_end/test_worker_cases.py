"""A corrected case on its way through the real worker into the store."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from MAESegmentLib.cases.records import CaseRecord
from MAESegmentLib.cases.store import CaseStore
from MAESegmentLib.cases.submission import CaseSubmission
from MAESegmentLib.errors import ConfigurationError, DatasetError, DuplicateCase, OutputError
from MAESegmentLib.jobs import Job
from MAESegmentLib.worker.client.client import WorkerClient
from MAESegmentLib.worker.client.requests import submit_case
from Testing.phantoms import LABELS, Phantom, PhantomFactory
from Testing.processes import real_worker, wait_for_end

WAIT_S = 120.0

Submit = Callable[..., Job[CaseRecord]]


@pytest.fixture(scope="module")
def client() -> Iterator[WorkerClient]:
    with real_worker() as client:
        yield client


@pytest.fixture
def submit(client: WorkerClient, tmp_path: Path) -> Submit:
    """Store a phantom, given as Slicer has it: axes (K, J, I)."""

    def submit(
        scan: Phantom, submission: CaseSubmission | None = None, store: Path = tmp_path / "store"
    ) -> Job[CaseRecord]:
        return submit_case(
            client,
            [channel.T for channel in scan.volume.array],
            scan.volume.ijk_to_ras,
            scan.label_map.array.T,
            store=store,
            submission=submission or CaseSubmission(LABELS),
            working_folder=tmp_path / "jobs",
        )

    return submit


@pytest.mark.parametrize("kind", ["__call__", "las", "oblique", "anisotropic"])
def test_case_is_stored_where_it_lies_in_the_world(submit: Submit, tmp_path: Path, kind: str) -> None:
    scan = getattr(PhantomFactory(), kind)(channels=2, noise=10.0, dtype=np.int16)
    model = {"name": "tiny", "version": "1.0.0", "hash": "0" * 64}
    record = submit(scan, CaseSubmission(LABELS, unknown=("middle",), role="check", group="p1", model=model)).result(
        WAIT_S
    )
    store = CaseStore(tmp_path / "store")
    assert store.list() == [record]
    assert (record.role, record.group, record.unknown, record.model) == ("check", "p1", ("middle",), model)
    volume, label_map = store.read_image(record.id), store.read_label_map(record.id)
    assert volume.grid.matches(scan.volume.grid, 1e-4)
    assert label_map.grid.matches(scan.volume.grid, 1e-4)
    assert np.array_equal(volume.array, scan.volume.array)
    assert np.array_equal(label_map.array, scan.label_map.array)
    assert list((tmp_path / "jobs").iterdir()) == []


def test_scan_that_is_there_already_names_the_case_to_update(submit: Submit, tmp_path: Path) -> None:
    scan = PhantomFactory()()
    first = submit(scan).result(WAIT_S)
    with pytest.raises(DuplicateCase) as raised:
        submit(scan).result(WAIT_S)
    assert raised.value.details == {"case": first.id}
    second = submit(scan, CaseSubmission(LABELS, replace=first.id)).result(WAIT_S)
    assert (second.id, second.revision) == (first.id, 2)
    assert len(CaseStore(tmp_path / "store").list()) == 1


def test_what_cannot_be_learnt_from_is_refused_with_every_reason(submit: Submit) -> None:
    scan = PhantomFactory()()
    empty = replace(scan, label_map=replace(scan.label_map, array=scan.label_map.array * 0))
    submission = CaseSubmission((replace(LABELS[0], name="background"), LABELS[1]))
    with pytest.raises(DatasetError, match=r"(?s)cannot be called 'background'.*Nothing is annotated"):
        submit(empty, submission).result(WAIT_S)


def test_place_that_cannot_be_written_to_is_named(submit: Submit, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"):
        submit(PhantomFactory()(), store=tmp_path / "file" / "store").result(WAIT_S)


def test_label_map_of_another_size_is_refused_before_anything_is_written(client: WorkerClient, tmp_path: Path) -> None:
    scan = PhantomFactory()()
    with pytest.raises(ConfigurationError, match="size"):
        submit_case(
            client,
            [scan.volume.array[0].T],
            scan.volume.ijk_to_ras,
            scan.label_map.array.T[1:],
            store=tmp_path / "store",
            submission=CaseSubmission(LABELS),
            working_folder=tmp_path / "jobs",
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("moment", [0.0, 0.1])
def test_worker_killed_while_it_stores_leaves_a_store_that_works(tmp_path: Path, moment: float) -> None:
    """Then the same case can be added once more, whether it arrived or not."""
    scan = PhantomFactory()(shape=(96, 96, 96), noise=30.0)
    store = CaseStore(tmp_path / "store")
    arguments = ([scan.volume.array[0].T], scan.volume.ijk_to_ras, scan.label_map.array.T)
    options = {"store": store.folder, "submission": CaseSubmission(LABELS), "working_folder": tmp_path / "jobs"}
    with real_worker() as client:
        job = submit_case(client, *arguments, **options)
        while job.stage != "write":
            client.loop.pump(0.01)
            assert not job.is_finished
        client.loop.pump(moment)
        pid = client._process._pid
        os.kill(pid, 9)
        wait_for_end([pid])
        kept = store.list()
        for record in kept:
            store.verify(record.id)
        assert store.scan()[1] == []
        if not kept:
            submit_case(client, *arguments, **options).result(WAIT_S)
        store.remember({})  # the next writer tidies up
        assert [path.name for path in store.folder.iterdir() if path.name.startswith(".")] == [".lock"]
