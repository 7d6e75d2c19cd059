"""A fine-tuning as the panels and scripts hold it: before it has a run, and runs that somebody else began."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from MAESegmentLib.app.finetuning import FineTuneJob, store_cases
from MAESegmentLib.app.session import RunWatch
from MAESegmentLib.cases.records import CaseRecord
from MAESegmentLib.errors import Cancelled, OutputError, WorkerError
from MAESegmentLib.processes.interpreter import Interpreter
from MAESegmentLib.runs import RunRequest, RunResult, RunState, create_run
from MAESegmentLib.runs.run_folder import RESULT, write_json
from Testing.unit.worker.fakes import FakeLoop

REQUEST = RunRequest({"name": "tiny", "version": "1.0.0", "hash": "old"}, "", "", ("case-0001",))


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Whose fine-tunings are processes that end at once."""
    monkeypatch.setenv("MAESEGMENT_RUNS", str(tmp_path))
    loop = FakeLoop()
    interpreter = Interpreter(Path("/bin/true"), "a test")
    return SimpleNamespace(loop=loop, watch=RunWatch(loop), interpreter=lambda: interpreter, environment=dict)


@pytest.fixture
def job(session: SimpleNamespace, tmp_path: Path) -> FineTuneJob:
    """Its first case could not be stored, because the disk was full; now there is room again."""
    errors = [OutputError("The disk is full.")]

    def store(_volume: object, _node: object) -> SimpleNamespace:
        if errors:
            raise errors.pop()
        return SimpleNamespace(id="case-0001")

    def make_run(records: list[CaseRecord]):
        assert [record.id for record in records] == ["case-0001"]
        return create_run(tmp_path, REQUEST)

    def prepare():
        return make_run((yield from store_cases([("volume", "node")], store)))

    job = FineTuneJob(session, None)
    job.begin_after(prepare)
    session.loop.advance(0)
    assert (job.status.state, job.run) == (RunState.FAILED, None)
    return job


def test_case_that_could_not_be_stored_is_stored_when_it_is_resumed(session, job) -> None:
    job.resume()
    assert job.status.state is RunState.WAITING
    session.loop.advance(0)
    assert job.run is not None
    assert job.run.request.training == REQUEST.training


def test_fine_tuning_whose_cases_could_not_be_stored_can_be_discarded(job, tmp_path) -> None:
    job.discard()
    assert job.status.state is RunState.DISCARDED
    assert [*tmp_path.iterdir()] == []


def test_interrupted_run_is_said_to_be_and_can_be_resumed(session, tmp_path) -> None:
    job = FineTuneJob.of_run(session, None, create_run(tmp_path, REQUEST))
    assert job.status.state is RunState.INTERRUPTED
    with pytest.raises(WorkerError, match="ended before it could begin"):
        job.result()
    job.resume()
    assert job.status.state is RunState.WAITING


@pytest.fixture
def finished(session, tmp_path) -> FineTuneJob:
    """Its result is version 1.1.0; `selected` of the session says what is used."""
    version = {"name": "tiny", "version": "1.1.0", "hash": "new"}
    run = create_run(tmp_path, REQUEST)
    result = RunResult(version, "", REQUEST.base, cases=1, how="nothing was held out", indicative_only=True)
    write_json(run.path / RESULT, result.to_dict())
    session.selected = []
    models = SimpleNamespace(
        list=lambda: [SimpleNamespace(content_hash="new")],
        select=session.selected.append,
        selected=lambda _name: None,
    )
    return FineTuneJob.of_run(session, models, run)


@pytest.mark.parametrize("decision", ["accepted", "declined"])
def test_version_is_used_only_if_it_is_accepted(session, finished, decision) -> None:
    assert finished.result().model["version"] == "1.1.0"
    assert finished.decision == ""
    if decision == "accepted":
        finished.accept()
    else:
        finished.decline()
    assert finished.run.decision == finished.decision == decision
    assert [one.content_hash for one in session.selected] == ["new"] * (decision == "accepted")


def test_discarded_run_is_gone_and_says_so(session, tmp_path) -> None:
    job = FineTuneJob.of_run(session, None, create_run(tmp_path, REQUEST))
    job.discard()
    with pytest.raises(Cancelled, match="discarded"):
        job.result()
    assert [*tmp_path.iterdir()] == []


def test_run_that_somebody_else_begins_is_noticed_once(session, tmp_path) -> None:
    create_run(tmp_path, REQUEST)
    noticed = []
    session.watch.look_for_new(lambda: noticed.append(1))
    session.loop.advance(5)
    assert noticed == []
    create_run(tmp_path, REQUEST)
    session.loop.advance(5)
    assert noticed == [1]
    session.watch.stop()
    create_run(tmp_path, REQUEST)
    session.loop.advance(5)
    assert noticed == [1]
