"""From a case store to a version: the shell, the estimate in the worker, full disks and what is new to the base."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from MAESegmentLib.bundle import open_bundle
from MAESegmentLib.cases.submission import CaseSubmission
from MAESegmentLib.cli.main import main
from MAESegmentLib.errors import ConfigurationError, DatasetError, OutputError
from MAESegmentLib.images.labels import Label
from MAESegmentLib.images.volume import LabelMap
from MAESegmentLib.images.writing import write_volume
from MAESegmentLib.processes.interpreter import Interpreter
from MAESegmentLib.runs import RunRequest, RunState, create_run
from MAESegmentLib.runs.trainer import work_through
from MAESegmentLib.worker.client.requests import submit_estimate
from Testing.children import no_file_beyond
from Testing.finetuning import LABELS, SETTINGS, Clinic, make_clinic
from Testing.phantoms import PhantomFactory
from Testing.processes import real_worker

QUICK = ["--steps", "2", "--device", "cpu", "--threads", "1"]
PYTHON = Interpreter(Path(sys.executable), "the tests' own")


@pytest.fixture
def clinic(tmp_path: Path) -> Clinic:
    return make_clinic(tmp_path / "Klinik für alle")


@pytest.fixture
def shell(clinic: Clinic, monkeypatch: pytest.MonkeyPatch):
    """`maesegment` with the clinic's models."""
    monkeypatch.setenv("MAESEGMENT_MODELS", str(clinic.models.user_folder))
    return lambda *words: main([str(word) for word in words])


def test_the_shell_trains_on_the_cases_to_learn_from_and_validates_on_the_others(clinic, shell, capsys) -> None:
    clinic.store.set_role("case-0002", "validation")
    out = clinic.folder / "run"
    assert shell("finetune", "--cases", clinic.store.folder, "-m", "tiny-mr", "-o", out, *QUICK) == 0
    assert "Dice on 1 held-out case (validation)" in capsys.readouterr().out
    child = open_bundle(out / "model")
    assert (child.name, child.version) == ("tiny-mr", "1.1.0")
    assert child.spec.metrics["validation"]["cases"] == 1
    assert child.spec.metrics["validation"]["held_out"] == "validation"
    assert len(child.spec.training["cases"]) == 2
    assert child.spec.training["settings"]["learning_rate"] > 0


def test_two_fine_tunings_of_one_base_get_two_versions(clinic: Clinic, shell) -> None:
    for number in (1, 2):
        out = clinic.folder / f"run{number}"
        words = ["--seed", number, "--validation", "none", *QUICK]
        assert shell("finetune", "--cases", clinic.store.folder, "-m", "tiny-mr@1.0.0", "-o", out, *words) == 0
        assert shell("models", "import", out / "model") == 0
    assert [bundle.version for bundle in clinic.models.list()] == ["1.0.0", "1.1.0", "1.2.0"]


def test_a_run_learns_from_scans_without_labels_in_its_folder_and_elsewhere(clinic: Clinic) -> None:
    elsewhere = clinic.folder / "elsewhere" / "one.nii.gz"
    request = replace(clinic.request(check=["case-0002"]), unlabelled=("scans", str(elsewhere)))
    run = create_run(clinic.runs, request)
    assert replace(run.request, unlabelled=()) == replace(
        clinic.request(check=["case-0002"]), created=run.request.created
    )
    for seed, path in ((7, run.path / "scans" / "two.nii.gz"), (8, elsewhere)):
        path.parent.mkdir()
        write_volume(path, PhantomFactory()(shape=(27, 22, 18), noise=20.0, seed=seed).volume)
    work_through(run)
    result = run.status().outcome()
    said = next(note for note in result.notes if note.startswith("2 scans without labels to learn from. "))
    assert "Whether any of them shows a patient who is held out" in said  # cases in a store are not DICOM
    assert len(open_bundle(result.path).spec.training["unlabelled"]["images"]) == 2


def test_a_request_of_the_version_before_opens(clinic: Clinic) -> None:
    content = clinic.request().to_dict()
    del content["unlabelled"]
    assert RunRequest.from_dict(content) == clinic.request()


def test_with_nothing_to_learn_from_it_says_what_to_do(clinic: Clinic, shell, capsys) -> None:
    for record in clinic.store.list():
        clinic.store.set_role(record.id, "check")
    assert shell("finetune", "--cases", clinic.store.folder, "-m", "tiny-mr", "-o", clinic.folder / "run") == 2
    assert "cases role ID train" in capsys.readouterr().err


def test_a_new_label_makes_a_new_major_version_that_keeps_the_old_ones(clinic: Clinic) -> None:
    """Also where a case has only the new label: the others are unknown there, not gone."""
    phantom = PhantomFactory()(shape=(26, 22, 18), noise=20.0, seed=9)
    only_new = LabelMap((phantom.label_map.array == 1).astype(np.uint8) * 7, phantom.label_map.ijk_to_ras)
    label = Label(7, "lesion", (1, 2, 3))
    clinic.store.add(phantom.volume, only_new, CaseSubmission((label,), unknown=("front", "back")))
    run = clinic.train(clinic.request(check=["case-0003"]))
    result = run.status().outcome()
    assert result.model["version"] == "2.0.0"
    child = clinic.models.find("tiny-mr@2.0.0")
    assert [label.name for label in child.labels] == ["front", "back", "lesion"]
    assert [label.value for label in child.labels] == [1, 2, 3]
    assert child.labels[2].colour == (1, 2, 3)
    # The base cannot segment a lesion: there is no fair "before".
    assert result.mean_before is None


def test_a_label_that_no_case_has_stays_in_the_model(clinic: Clinic) -> None:
    for record in clinic.store.list():
        clinic.store.remove(record.id)
    for seed in (1, 2):
        phantom = PhantomFactory()(shape=(20, 22, 18), noise=20.0, seed=seed)
        front = LabelMap(np.where(phantom.label_map.array == 1, 1, 0).astype(np.uint8), phantom.label_map.ijk_to_ras)
        clinic.store.add(phantom.volume, front, CaseSubmission(LABELS[:1]))
    run = clinic.train(clinic.request())
    result = run.status().outcome()
    assert result.model["version"] == "1.1.0"
    assert any("neither learnt nor checked: back" in note for note in result.notes)
    assert set(result.after or {}) == {"front"}


def test_how_long_it_takes_is_measured_in_the_worker(clinic: Clinic) -> None:
    with real_worker() as client:
        three = submit_estimate(client, clinic.request()).result(120)
        kept = submit_estimate(client, clinic.request(check=["case-0003"])).result(120)
        by_time = {"minutes": 0.02, "device": "cpu", "threads": 1}
        timed = submit_estimate(client, clinic.request(settings=by_time)).result(120)
        # A step of these has a batch of scans beside that of the cases, and says what is wrong with it.
        settings = {**SETTINGS, "unlabelled_method": "mean_teacher", "ema_decay": 0}
        with pytest.raises(ConfigurationError, match="ema_decay is 0"):
            submit_estimate(client, replace(clinic.request(settings=settings), unlabelled=("scans",))).result(120)
        with pytest.raises(DatasetError, match="no case case-0099"):
            submit_estimate(client, clinic.request(training=["case-0099"])).result(120)
    assert 20.0 < timed.seconds < 60.0, "starting and saving alone take longer than what was chosen"
    assert timed.patches == 2 * timed.steps
    assert "Choose a longer time." in timed.warnings[0]
    assert "too few to learn from" in timed.warnings[1]
    assert timed.how.startswith("nothing: the time is too short")
    assert three.how == "leave-one-out (indicative only)"
    assert kept.how == "1 validation case"
    assert (three.cases, kept.cases) == (3, 2)
    assert three.seconds > kept.seconds > 0
    assert three.steps == SETTINGS["steps"]
    assert 0 < kept.memory_bytes < kept.free_bytes


def test_a_full_disk_is_said_and_nothing_is_lost(clinic: Clinic) -> None:
    with no_file_beyond(100_000):
        run = clinic.train(clinic.request(check=["case-0003"]))
    status = run.status()
    assert status.state is RunState.FAILED
    assert isinstance(status.error, OutputError)
    assert status.error.hint
    assert [bundle.version for bundle in clinic.models.list()] == ["1.0.0"]
    assert not clinic.models.scan()[1]
    run.resume(work_through)  # there is room again
    assert run.status().state is RunState.DONE, run.log_tail()


def test_models_that_cannot_be_written_to_do_not_lose_the_work(clinic: Clinic) -> None:
    """The folder for models is a file: training is through, but the version has nowhere to go."""
    request = replace(clinic.request(check=["case-0003"]), models=str(clinic.folder / "taken"))
    (clinic.folder / "taken").write_text("in the way")
    run = clinic.train(request)
    status = run.status()
    assert status.state is RunState.FAILED
    assert isinstance(status.error, OutputError)
    (clinic.folder / "taken").unlink()
    run.resume(work_through)
    assert run.status().state is RunState.DONE, run.log_tail()
