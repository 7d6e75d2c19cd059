"""`Console.process`: the module's call pattern outside Slicer, on files and volumes, with the real worker."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from MAESegmentLib.bundle import ModelStore
from MAESegmentLib.console import Console, SegmentedVolume
from MAESegmentLib.errors import (
    BundleError,
    Cancelled,
    ConfigurationError,
    GeometryError,
    OutputError,
    VolumeReadError,
    WorkerError,
)
from MAESegmentLib.images import read_label_map, read_volume, write_volume
from MAESegmentLib.images.volume import Volume
from MAESegmentLib.inference import InferenceSettings, Predictor, Roi
from MAESegmentLib.jobs import JobState
from Testing.bundles import save_tiny
from Testing.children import run
from Testing.processes import wait_for_end, wait_until


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> ModelStore:
    folder = tmp_path_factory.mktemp("models")
    save_tiny(folder / "tiny-mr" / "1.0.0")
    return ModelStore(folder, shipped_folder=folder / "none")


@pytest.fixture(scope="module")
def console(store, tmp_path_factory):
    with Console(store=store, working_folder=tmp_path_factory.mktemp("work")) as console:
        yield console


@pytest.fixture(scope="module")
def oblique_scan(tmp_path_factory, phantom) -> Path:
    volume = phantom.oblique().volume
    return write_volume(tmp_path_factory.mktemp("scan") / "scan.nii.gz", volume)


OPTIONS = {"model": "tiny", "device": "cpu", "check_familiarity": False}


def test_file_in_label_map_on_its_grid_out(console, oblique_scan):
    result = console.process(str(oblique_scan), **OPTIONS)
    assert isinstance(result, SegmentedVolume)
    volume = read_volume(oblique_scan)
    assert result.label_map.grid.matches(volume.grid)
    assert [label.name for label in result.labels] == ["anterior", "posterior"]
    assert set(result.volumes_ml) == {1, 2}
    assert result.device == "cpu"
    assert result.model == "tiny-mr@1.0.0"
    assert result.seconds > 0


def test_statistics_of_a_result_are_those_of_its_label_map(console, oblique_scan, tmp_path):
    result = console.process(str(oblique_scan), **OPTIONS)
    rows = console.statistics(oblique_scan, result.label_map, result.labels, out=tmp_path / "t.csv")
    assert {label.value: one for label, (_name, one) in zip(result.labels, rows, strict=True)} == result.statistics
    assert {value: one.volume_mm3 / 1000 for value, one in result.statistics.items()} == pytest.approx(
        result.volumes_ml, abs=1e-4
    )
    assert (tmp_path / "t.csv").read_text().startswith("Segment,Voxel count,Volume mm3,")
    with pytest.raises(OutputError, match="not written in this format"):
        console.statistics(oblique_scan, result.label_map, out=oblique_scan)


def test_same_voxels_as_without_a_worker(console, oblique_scan, store):
    volume = read_volume(oblique_scan)
    bundle = store.find("tiny")
    settings = InferenceSettings.of_model(bundle.spec.inference, device="cpu", check_familiarity=False)
    expected = Predictor(bundle, settings).predict(volume).label_map
    result = console.process(volume, **OPTIONS)
    np.testing.assert_array_equal(result.label_map.array, expected.array)
    np.testing.assert_array_equal(result.label_map.ijk_to_ras, expected.ijk_to_ras)
    assert result.label_map.array.any()


def test_voxels_that_are_changed_meanwhile_are_a_warning(console, oblique_scan):
    volume = read_volume(oblique_scan)
    volume = Volume(volume.array.copy(), volume.ijk_to_ras)
    assert console.process(volume, **OPTIONS).warnings == ()
    job = console.process(volume, wait=False, **OPTIONS)
    volume.array[0, 0, 0, 0] += 1
    assert "voxels were changed" in " ".join(job.result(120).warnings)


def test_region_of_interest_confines_it(console, oblique_scan):
    volume = read_volume(oblique_scan)
    centre = volume.ijk_to_ras @ [*(np.array(volume.grid.shape) / 2), 1]
    box = [bound for c in centre[:3] for bound in (c - 4, c + 4)]
    labels = console.process(volume, roi=box, **OPTIONS).label_map
    as_text = console.process(volume, roi=",".join(map(str, box)), **OPTIONS).label_map
    np.testing.assert_array_equal(as_text.array, labels.array)
    block = Roi((box[0], box[2], box[4]), (box[1], box[3], box[5])).voxels(labels.grid)
    inside = labels.array[block]
    assert 0 < np.count_nonzero(inside) == np.count_nonzero(labels.array)
    assert inside.size < labels.array.size


@pytest.mark.parametrize("name", ["result.nii.gz", "result.seg.nrrd"])
def test_result_is_saved(console, oblique_scan, tmp_path, name):
    result = console.process(oblique_scan, out=tmp_path / "now.nii.gz", **OPTIONS)
    path = result.save(tmp_path / name)
    for written in (path, tmp_path / "now.nii.gz"):
        label_map = read_label_map(written)
        np.testing.assert_array_equal(label_map.on_grid(result.label_map.grid).array, result.label_map.array)


def test_job_goes_on_while_it_is_looked_at(console, oblique_scan):
    job = console.process(oblique_scan, wait=False, **OPTIONS)
    end = time.monotonic() + 120
    while not job.is_finished and time.monotonic() < end:
        time.sleep(0.01)
    assert job.state is JobState.DONE
    assert job.progress.fraction == 1.0
    assert isinstance(job.result(), SegmentedVolume)


def test_worker_needs_nobody_to_look(console, oblique_scan):
    """From the call on it works by itself."""
    job = console.process(oblique_scan, wait=False, **OPTIONS)
    wait_until(lambda: [*console.working_folder.rglob("labels.npy")], time.sleep, 120)
    assert isinstance(job.result(), SegmentedVolume)


def test_a_slow_callback_hears_of_changes_in_their_order(console, oblique_scan):
    seen = []

    def note(job):
        state = job.state
        time.sleep(0.05)  # more has happened when it looks again
        seen.append((state, job.progress, job.state))

    console.process(oblique_scan, callback=note, **OPTIONS).result()
    assert seen[-1][0] is JobState.DONE
    assert all(before is after for before, _, after in seen)


def test_callback_hears_of_every_change(console, oblique_scan):
    seen = []
    job = console.process(oblique_scan, callback=lambda job: seen.append((job.state, job.progress.stage)), **OPTIONS)
    job.result()
    assert seen[-1][0] is JobState.DONE
    assert (JobState.RUNNING, "segment") in seen


def test_cancel(console):
    scan = Volume(np.random.default_rng(0).normal(size=(1, 128, 128, 128)).astype(np.float32), np.eye(4))
    job = console.process(scan, wait=False, **OPTIONS)
    while job.progress.stage != "segment":
        time.sleep(0.01)
    job.cancel()
    with pytest.raises(Cancelled):
        job.result(30)
    assert job.state is JobState.CANCELLED


def test_two_jobs_one_after_the_other(console, oblique_scan):
    first, second = (console.process(oblique_scan, wait=False, **OPTIONS) for _ in range(2))
    assert second.progress.position in (0, 1)
    np.testing.assert_array_equal(second.result().label_map.array, first.result().label_map.array)


def test_one_process_for_all_calls_and_no_folder_left(console, oblique_scan):
    console.process(oblique_scan, **OPTIONS)
    process = console.client._process
    console.process(oblique_scan, **OPTIONS)
    assert console.client._process is process
    assert [*console.working_folder.iterdir()] == []


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"model": "nothing-like-it"}, BundleError),
        ({"overlap": 2.0}, ConfigurationError),
        ({"precision": "int3"}, ConfigurationError),
        ({"roi": (0, 1, 2)}, ConfigurationError),
        ({"out": "result.jpeg"}, OutputError),
        ({"device": "cuda:99"}, Exception),
    ],
)
def test_what_cannot_work_is_said(console, oblique_scan, options, error):
    with pytest.raises(error):
        console.process(oblique_scan, **{**OPTIONS, **options})
    assert [*console.working_folder.iterdir()] == []


def test_scans_that_cannot_be_used(console, tmp_path):
    with pytest.raises(VolumeReadError):
        console.process(tmp_path / "missing.nii.gz", **OPTIONS)
    with pytest.raises(ConfigurationError, match="NoneType"):
        console.process(None, **OPTIONS)
    with pytest.raises(ConfigurationError, match="needs 1 channel"):
        console.process(Volume(np.ones((2, 8, 8, 8)), np.eye(4)), **OPTIONS)
    with pytest.raises(GeometryError):
        console.process(Volume(np.ones((1, 8, 8, 8)), np.diag([1.0, 1.0, 0.0, 1.0])), **OPTIONS)


def test_python_that_will_not_do(store, tmp_path, oblique_scan):
    console = Console("/no/such/python", store=store, working_folder=tmp_path)
    with pytest.raises(WorkerError, match="does not exist"):
        console.process(oblique_scan, **OPTIONS)


def test_console_that_nobody_closed_ends_its_worker(store, tmp_path, oblique_scan):
    console = Console(store=store, working_folder=tmp_path)
    console.process(oblique_scan, **OPTIONS)
    pid = console.client._process._pid
    del console
    gc.collect()
    wait_for_end([pid])


def test_script_that_just_ends(store, tmp_path, oblique_scan):
    """As users write it: no `with`, no `close`."""
    script = (
        "import sys; from MAESegmentLib.console import Console; from MAESegmentLib.bundle import ModelStore\n"
        "console = Console(store=ModelStore(sys.argv[1]), working_folder=sys.argv[2])\n"
        "result = console.process(sys.argv[3], model='tiny', device='cpu', check_familiarity=False)\n"
        "print(console.client._process._pid, sorted(result.volumes_ml), 'torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(store.user_folder), str(tmp_path), str(oblique_scan)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    pid, rest = done.stdout.strip().split(" ", 1)
    assert rest == "[1, 2] False"
    wait_for_end([int(pid)])


def test_a_fork_of_the_program_leaves_its_worker_alone(console, oblique_scan):
    """Also when it leaves the `with`, and ends as a program does."""
    job = console.process(oblique_scan, **OPTIONS, wait=False)
    pid = console.client._process._pid
    run(lambda: (console.close(), console._finalizer()))
    assert sorted(job.result().volumes_ml) == [1, 2]
    assert console.client._process._pid == pid
