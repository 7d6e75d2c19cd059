"""Fine-tuning from the console: the real trainer, in a process that nobody here has to keep."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import slicer

from MAESegmentLib import mrml
from MAESegmentLib.app.logic.learning import _pairs
from MAESegmentLib.errors import ConfigurationError, DatasetError
from MAESegmentLib.images import read_volume
from Testing.gui.logic_fixtures import edit

pytestmark = pytest.mark.usefixtures("case_root")

#: Some seconds of real training.
QUICK = {"steps": 6, "validate_every": 2, "checkpoint_every": 1, "threads": 1}


@pytest.fixture
def volume(scene):
    return scene.plain("Scan")


@pytest.fixture
def logic(make_logic, models_folder, tmp_path, runs_folder):
    """On a folder of models of its own, because versions are added to it."""
    import shutil

    shutil.copytree(models_folder, tmp_path / "own models")
    assert not runs_folder.exists()
    return make_logic(tmp_path / "own models")


@pytest.fixture
def pairs(scene, draw):
    """Three scans with corrected segmentations."""

    def make(kind: str):
        volume = getattr(scene, kind)(kind)
        grey = slicer.util.arrayFromVolume(volume)
        return volume, draw(volume, front=(grey > 600) & (grey < 900), back=grey > 1000)

    return [make(kind) for kind in ("plain", "left_handed", "oblique")]


@pytest.fixture
def cases(logic, pairs, case_root):
    assert not case_root.exists()
    return [logic.addCase(volume, node) for volume, node in pairs]


@pytest.fixture(autouse=True)
def no_trainer_left(runs_folder: Path):
    """Whatever a test did, its processes end."""
    yield
    from MAESegmentLib.runs import list_runs
    from MAESegmentLib.runs.launching import reap

    for run in list_runs(runs_folder):
        if run.is_alive:
            run.discard()
    for run in list_runs(runs_folder):
        _wait_for(lambda run=run: not run.is_alive)
    _wait_for(lambda: not reap())


def _wait_for(condition, seconds: float = 600.0) -> None:
    import time

    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.usefixtures("cases")
def test_a_new_version_is_used_once_it_is_accepted(logic, volume):
    from MAESegmentLib.runs import RunState

    seen = []
    base = logic.defaultModel()
    job = logic.fineTune(callback=lambda job: seen.append((job.status.state, job.status.stage)), **QUICK)
    assert not job.is_finished
    result = job.result(600)
    assert result.parent["hash"] == base.content_hash
    assert result.cases == 3
    assert result.indicative_only, "three cases are few"
    assert result.banner
    assert RunState.RUNNING in {state for state, _stage in seen}
    assert seen[-1][0] is RunState.DONE
    assert job.curves.loss
    assert logic.defaultModel().content_hash == base.content_hash, "nothing changes by itself"
    assert [one.run.id for one in logic.fineTuneRuns()] == [job.run.id], "nobody answered yet"
    bundle = job.accept()
    assert bundle.content_hash == result.model["hash"] == logic.defaultModel().content_hash
    assert logic.fineTuneRuns() == []
    assert job.decision == "accepted"
    assert logic.process(volume).GetAttribute("MAESegment.ModelHash") == bundle.content_hash
    assert logic.caseStore().folder.name == "self-test", "a child's cases are its family's"
    logic.useVersion(base)
    assert logic.defaultModel().content_hash == base.content_hash


@pytest.mark.usefixtures("cases")
def test_a_run_of_minutes_says_when_it_ends_and_is_stopped_with_what_it_has_learned(logic, process_events_until):
    job = logic.fineTune(minutes=5.0, validation="none", threads=1, wait=False)
    process_events_until(lambda: job.status.step > 2 and job.status.eta_s is not None, 600.0)
    # Saving the model is counted, and what preparing took is gone.
    assert 60 < job.status.eta_s < 300
    job.stopAndKeep()
    process_events_until(lambda: job.status.stop_requested, 60.0)
    result = job.result(600)
    assert result.mean_after is None, "nothing was held out"
    assert result.seconds < 240
    assert (result.model["version"], result.cases) == ("1.1.0", 3)


def test_pairs_of_nodes_are_stored_first(logic, pairs, process_events_until):
    logic.addCase(*pairs[0])
    logic.addCase(*pairs[1])
    edit(pairs[1][1])
    job = logic.fineTune(pairs, wait=False, **QUICK)
    assert job.run is None
    assert "Storing" in job.status.text
    process_events_until(lambda: job.run is not None, 600.0)
    assert job.run.request.training == ("case-0001", "case-0002", "case-0003")
    job.discard()
    assert [(case.id, case.revision) for case in logic.cases()] == [
        ("case-0001", 1),
        ("case-0002", 2),
        ("case-0003", 1),
    ]


def test_a_pair_that_cannot_be_stored_ends_it_with_the_reason(logic, pairs, draw, scene):
    other = scene.left_handed("Other")
    slicer.util.arrayFromVolume(other)[0, 0, 0] += 1
    unclear = draw(other, nobody=np.ones(slicer.util.arrayFromVolume(other).shape))
    job = logic.fineTune([pairs[0], (other, unclear)], wait=False, **QUICK)
    with pytest.raises(Exception, match="not clear which labels"):
        job.result(600)
    assert logic.fineTuneRuns() == []


@pytest.mark.usefixtures("cases")
def test_scans_of_the_scene_are_learnt_from_but_for_those_that_are_named(logic, scene, volume, process_events_until):
    other, blank = scene.oblique("Other: 1/2"), scene.plain("Blank")
    grey = slicer.util.arrayFromVolume(other)
    grey[:] = grey[::-1] + np.random.default_rng(0).integers(0, 150, grey.shape).astype(grey.dtype)
    slicer.util.arrayFromVolume(blank)[:] = 7
    job = logic.fineTune(unlabelled=[volume, other, blank], validation="none", wait=False, **QUICK)
    process_events_until(lambda: job.run is not None, 600.0)
    run = job.run
    assert run.request.unlabelled == ("scans/Scan.nii.gz", "scans/Other_ 1_2.nii.gz")
    assert (run.path / "scans").stat().st_mode & 0o077 == 0
    for node, file in zip((volume, other), run.request.unlabelled, strict=True):
        found = read_volume(run.path / file)
        np.testing.assert_array_equal(found.array[0], slicer.util.arrayFromVolume(node).transpose(2, 1, 0))
        np.testing.assert_allclose(found.ijk_to_ras, mrml.image_of((node,)).ijk_to_world, atol=1e-5)
    assert [*logic.session.working_folder.iterdir()] == []
    process_events_until(lambda: job.status.warnings or job.is_finished, 600.0)
    same = "Left out: Scan.nii.gz: it is the image of case case-0001."
    assert same in job.status.warnings
    notes = job.result(600).notes
    assert any(note.startswith("Left out: Blank: The scan is blank") for note in notes)
    assert {"1 scan without labels to learn from; 1 could not be used.", same} <= {*notes}
    process_events_until(lambda: not run.is_alive, 60.0)
    assert not (run.path / "scans").exists(), "patients' scans are not kept"


@pytest.mark.usefixtures("cases")
def test_without_a_usable_scan_among_those_without_labels_nothing_begins(logic, scene):
    blank = scene.plain("Blank")
    slicer.util.arrayFromVolume(blank)[:] = 7
    job = logic.fineTune(unlabelled=blank, wait=False, **QUICK)
    with pytest.raises(DatasetError, match="Left out: Blank"):
        job.result(600)
    assert logic.fineTuneRuns() == []
    assert [*logic.session.working_folder.iterdir()] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "no case to learn from"),
        ({"cases": ["case-0009"]}, "no case 'case-0009'"),
        ({"speed": 3}, "no setting called speed"),
        ({"steps": 0}, "steps"),
        ({"cases": ["case-0001", (None, None)]}, "pairs of nodes"),
        ({"unlabelled": "/no/such folder"}, "There is no /no/such folder"),
        ({"unlabelled": 7}, r"int was given.\nGive a folder, a file or a volume node"),
        ({"unlabelled": [None]}, "NoneType was given"),
        ({"cases": 7}, r"int was given.\nGive ids of stored cases, or pairs"),
    ],
)
def test_what_cannot_work_is_said_at_once(logic, volume, corrected, arguments, words):
    if arguments:
        logic.addCase(volume, corrected)
    with pytest.raises(Exception, match=words):
        logic.fineTune(**arguments)
    assert logic.fineTuneRuns() == []


def test_one_node_is_a_list_of_one_and_anything_else_is_refused(logic, volume, corrected):
    assert [row.name for row in logic.processBatch(volume)] == ["Scan"]
    assert len(logic.nextCases(volume)) == 1
    for call in (logic.processBatch, logic.nextCases, lambda it: logic.addCase(volume, corrected, absent=it)):
        for wrong in (7, [None], b"scan"):
            with pytest.raises(ConfigurationError, match="was given"):
                call(wrong)
    assert _pairs((volume, corrected)) == _pairs([[volume, corrected]]) == [(volume, corrected)]


def test_cases_kept_to_check_are_not_learnt_from(logic, volume, corrected):
    logic.addCase(volume, corrected, role="check")
    with pytest.raises(Exception, match="no case to learn from"):
        logic.fineTune()


@pytest.mark.usefixtures("cases")
def test_segmenting_goes_on_meanwhile_and_a_later_slicer_finds_the_run_and_ends_it(
    logic, make_logic, tmp_path, process_events_until, volume
):
    from MAESegmentLib.runs import RunState

    job = logic.fineTune(wait=False, **{**QUICK, "steps": 400})
    with pytest.raises(Exception, match="running already"):
        logic.fineTune()
    process_events_until(lambda: job.status.step > 2, 600.0)
    assert logic.process(volume).GetScene() is not None
    assert job.status.state is RunState.RUNNING
    logic.session.watch.stop()  # as when the module is loaded again: the process continues
    assert job.run.is_alive
    later = make_logic(tmp_path / "own models")
    (found,) = later.fineTuneRuns()
    assert found is not job
    assert found.status.state is RunState.RUNNING
    found.stopAndKeep()
    assert found.result(600).model["version"] == "1.1.0"


def test_while_the_gpu_trains_the_processor_segments_and_says_so(logic, volume, runs_folder):
    """The run is made up: its folder says that it has a GPU, and this process holds its lock."""
    from MAESegmentLib.runs import RunRequest, create_run
    from MAESegmentLib.runs.run_folder import STATUS, write_json

    run = create_run(runs_folder, RunRequest({"name": "self-test"}, "", "", ("case-0001",)))
    write_json(run.path / STATUS, {"stage": "train", "device": "cuda:0"})
    with run.lock:
        job = logic.process(volume, wait=False)
        job.result(600)
        assert job.summary.device == "cpu"
        assert job.summary.warnings[-1] == "The GPU is busy with fine-tuning: this was done on the processor."
    job = logic.process(volume, wait=False)
    job.result(600)
    assert not any("busy" in warning for warning in job.summary.warnings)


@pytest.mark.usefixtures("cases")
def test_an_estimate_is_measured_here(logic, volume):
    estimate = logic.estimateFineTune(steps=100)
    assert estimate.steps == 100
    assert estimate.cases == 3
    assert estimate.seconds > 100 * estimate.seconds_per_step > 0
    assert estimate.memory_bytes > 0
    assert estimate.device == "cpu"
    assert estimate.device_title
    by_time = logic.estimateFineTune(minutes=1.0, validation="none", unlabelled=volume)
    assert by_time.seconds == 60.0
    assert by_time.steps > 0
