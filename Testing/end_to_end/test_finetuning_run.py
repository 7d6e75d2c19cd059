"""Fine-tuning in its own process: it outlives whoever started it, continues after a kill, and leaves whole versions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from MAESegmentLib.bundle import ModelStore, verify_bundle
from MAESegmentLib.errors import BundleError
from MAESegmentLib.images.hashing import FIRST, voxel_hash
from MAESegmentLib.images.writing import write_volume
from MAESegmentLib.runs import FineTuneRun, RunState, create_run, list_runs
from MAESegmentLib.runs.run_folder import StatusWriter
from MAESegmentLib.runs.trainer import DONE, work_through
from MAESegmentLib.runs.training import FineTuneWork
from MAESegmentLib.training.run_context import Progress
from Testing.finetuning import (
    SETTINGS,
    Clinic,
    kill_trainer,
    launch,
    make_clinic,
    trainer_pid,
    wait_for_end,
    wait_until,
)
from Testing.phantoms import PhantomFactory

#: So many steps that something can happen meanwhile.
LONG = {**SETTINGS, "steps": 4000, "validate_every": 2}


@pytest.fixture
def clinic(tmp_path: Path) -> Clinic:
    return make_clinic(tmp_path)


def wait_for_step(run: FineTuneRun, step: int) -> None:
    wait_until(run, lambda: run.status().step >= step or run.status().is_finished)
    assert not run.status().is_finished, run.log_tail()


def versions(clinic: Clinic) -> list[str]:
    bundles, problems = clinic.models.scan()
    assert not problems
    for bundle in bundles:
        verify_bundle(bundle.path)
    return [bundle.version for bundle in bundles]


def test_a_few_cases_make_a_version_with_proof_that_nobody_uses_unasked(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "monai", None)  # Slicer is not asked to install it
    run = clinic.train(clinic.request())
    result = run.status().outcome()
    child = clinic.models.find(f"tiny-mr@{result.model['version']}")
    assert child.parent == clinic.base.reference == result.parent
    assert result.model == child.reference
    assert clinic.models.find("tiny-mr").version == "1.0.0"
    # Three cases: leave-one-out, called by its name.
    assert result.indicative_only
    assert [row.case for row in result.per_case] == ["case-0001", "case-0002", "case-0003"]
    assert "indicative only" in result.banner
    assert "3 cases, each left out of training in turn" in result.banner
    curves = run.curves()
    assert [step for step, _loss in curves.loss] == list(range(1, 7))
    assert [step for step, _row in curves.dice] == [2, 4, 6]
    assert curves.before is not None
    assert set(curves.before) == {"front", "back", "mean"}


def test_cases_kept_to_check_are_never_trained_on(clinic: Clinic) -> None:
    result = clinic.train(clinic.request(check=["case-0002"])).status().outcome()
    assert (result.cases, result.how, result.indicative_only) == (2, "1 held-out case", False)
    training = clinic.models.find(f"tiny-mr@{result.model['version']}").metadata["maesegment"]["training"]
    held = voxel_hash(clinic.store.read_image("case-0002").array, FIRST)
    assert [case["image"] for case in training["held_out_cases"]] == [held]
    assert held not in [case["image"] for case in training["cases"]]
    assert str(clinic.folder) not in json.dumps(training)


@pytest.mark.parametrize("method", [None, "masked"], ids=["cases alone", "with scans without labels"])
def test_killed_training_goes_on_from_its_last_checkpoint_with_the_cases_that_it_had(
    clinic: Clinic, method: str | None
) -> None:
    """To the same weights as a training that was not killed, though a case was removed meanwhile."""
    request = clinic.request(check=["case-0003"], settings={**SETTINGS, "steps": 40})
    if method is not None:
        (clinic.folder / "scans").mkdir()
        for seed in (7, 8):
            scan = PhantomFactory()(shape=(27, 22, 18), noise=20.0, seed=seed).volume
            write_volume(clinic.folder / "scans" / f"{seed}.nii.gz", scan)
        settings = {**request.settings, "unlabelled_method": method, "unlabelled_ramp": 0.2}
        request = replace(request, settings=settings, unlabelled=(str(clinic.folder / "scans"),))
    whole = clinic.train(request).status().outcome()
    run = clinic.start(request)
    wait_for_step(run, 5)
    kill_trainer(run)
    assert run.status().state is RunState.INTERRUPTED
    assert versions(clinic) == ["1.0.0", "1.1.0"]
    clinic.store.remove("case-0001")
    run.resume(work_through)
    result = run.status().outcome()
    assert [step for step, _loss in run.curves().loss] == list(range(1, 41))
    assert (result.cases, result.after) == (2, whole.after)


def test_the_run_goes_on_in_its_process_when_whoever_started_it_is_killed(clinic: Clinic) -> None:
    request = json.dumps(clinic.request(check=["case-0003"], settings=LONG).to_dict())
    code = (
        "import sys, json; from pathlib import Path;"
        "from Testing.finetuning import launch;"
        "from MAESegmentLib.runs import RunRequest, create_run;"
        "run = create_run(Path(sys.argv[1]), RunRequest.from_dict(json.loads(sys.argv[2])));"
        "launch(run); print(run.path, flush=True); sys.stdin.read()"
    )
    client = subprocess.Popen(
        [sys.executable, "-c", code, str(clinic.runs), request],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert client.stdout is not None
    path = Path(client.stdout.readline().strip())
    os.kill(client.pid, signal.SIGKILL)
    client.wait()
    # Another program finds it by its folder and stops it.
    (run,) = list_runs(clinic.runs)
    assert run.path == path
    wait_for_step(run, 4)
    first = trainer_pid(run)
    psutil.Process(launch(run)).wait(60)
    assert trainer_pid(run) == first, "a second process gets no run that has one"
    run.stop_and_keep()
    wait_for_end(run)
    assert run.status().outcome().indicative_only  # the best was chosen on the case that it is measured on
    assert versions(clinic) == ["1.0.0", "1.1.0"]


def test_a_discarded_run_leaves_nothing(clinic: Clinic) -> None:
    run = create_run(clinic.runs, clinic.request(check=["case-0003"], settings=LONG))

    def discard_when_it_trains() -> None:
        wait_until(run, lambda: run.status().step >= 2)
        with run.lock:  # this process is the run's
            run.discard()

    with ThreadPoolExecutor() as pool:
        pool.submit(discard_when_it_trains)
        assert work_through(run) == DONE
    assert run.status().state is RunState.DISCARDED
    assert not run.work.exists()
    assert versions(clinic) == ["1.0.0"]
    run.remove()
    assert list_runs(clinic.runs) == []
    assert not list(clinic.runs.glob(".*"))


def test_what_went_wrong_is_said_and_can_be_mended(clinic: Clinic) -> None:
    hidden = clinic.base.path.with_name("elsewhere")
    run_request = clinic.request(check=["case-0003"])
    clinic.base.path.rename(hidden)
    run = clinic.train(run_request)
    status = run.status()
    assert status.state is RunState.FAILED
    assert isinstance(status.error, BundleError)
    assert status.error.hint
    hidden.rename(clinic.base.path)
    run.resume(work_through)
    assert run.status().state is RunState.DONE, run.log_tail()


def test_a_version_number_that_is_taken_meanwhile_is_left_alone(clinic: Clinic) -> None:
    """Two runs from one base become two versions: the other one ends just before this one is published."""
    first, other = (clinic.request(check=["case-0003"], settings={**SETTINGS, "seed": seed}) for seed in (1, 2))
    others = [other]

    class Status(StatusWriter):
        def __call__(self, progress: Progress) -> None:
            if progress.stage == "save" and others:
                clinic.train(others.pop())

    run = create_run(clinic.runs, first)
    result = FineTuneWork(run, Status(run), should_cancel=lambda: False, should_stop=lambda: False).result()
    assert result.model["version"] == "1.2.0"
    assert versions(clinic) == ["1.0.0", "1.1.0", "1.2.0"]
    assert len(ModelStore(clinic.models.user_folder).children(clinic.base)) == 2
