"""The real worker says how uncertain a model is about scans that it is handed and scans that it reads itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from MAESegmentLib.bundle import Bundle
from MAESegmentLib.errors import Cancelled, MAESegmentError, VolumeReadError
from MAESegmentLib.images.volume import Volume
from MAESegmentLib.inference import InferenceSettings, Predictor, Roi
from MAESegmentLib.inference.ranking import Uncertainty
from MAESegmentLib.inference.uncertainty import uncertainty_of
from MAESegmentLib.jobs import Job, JobState
from MAESegmentLib.worker.client.client import WorkerClient
from MAESegmentLib.worker.client.requests import submit_ranking, submit_scan_ranking
from Testing.bundles import save_taught
from Testing.phantoms import PhantomFactory
from Testing.processes import real_worker, wait_until

CPU = {"device": "cpu", "precision": "fp32"}
ROI = (-6.0, 7.0, -8.0, 8.0, -6.0, 5.0)


@pytest.fixture(scope="module")
def client() -> Iterator[WorkerClient]:
    with real_worker() as client:
        yield client


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return save_taught(tmp_path_factory.mktemp("models"), [PhantomFactory()(noise=20.0, seed=n).volume for n in (1, 2)])


@pytest.fixture
def volume(phantom: PhantomFactory) -> Volume:
    return phantom.oblique(noise=40.0).volume


def submit(client: WorkerClient, volume: Volume, model: Bundle, folder: Path, **options: object) -> Job[Uncertainty]:
    channels = [channel.transpose(2, 1, 0) for channel in volume.array]
    return submit_ranking(
        client, channels, volume.ijk_to_ras, model=model, settings=CPU, working_folder=folder, **options
    )


def close_to(found: Uncertainty, expected: Uncertainty) -> None:
    assert found.entropy == pytest.approx(expected.entropy, abs=1e-4)
    assert found.per_label == pytest.approx(expected.per_label, abs=1e-4)
    assert (found.slice_axis, found.slice_index, found.device) == (expected.slice_axis, expected.slice_index, "cpu")
    assert found.position_ras == pytest.approx(expected.position_ras, abs=1e-2)


def test_the_worker_finds_what_this_process_finds(
    client: WorkerClient, model: Bundle, volume: Volume, tmp_path: Path
) -> None:
    predictor = Predictor(model, InferenceSettings.of_model(model.spec.inference, **CPU))
    stages: list[str] = []
    job = submit(client, volume, model, tmp_path)
    job.add_listener(lambda job: stages.append(job.stage))
    close_to(job.result(120), uncertainty_of(predictor, volume))
    assert {"send", "load", "prepare", "segment"} <= set(stages)
    assert [*tmp_path.iterdir()] == []
    inside = submit(client, volume, model, tmp_path, roi=ROI).result(120)
    close_to(inside, uncertainty_of(predictor, volume, Roi(ROI[::2], ROI[1::2])))


def test_a_file_is_read_by_the_worker(client: WorkerClient, model: Bundle, volume: Volume, tmp_path: Path) -> None:
    file = tmp_path / "Gefäß scan.nii.gz"
    nib.save(nib.Nifti1Image(volume.array[0].astype(np.float32), volume.ijk_to_ras), file)
    handed = submit(client, volume, model, tmp_path / "jobs").result(120)
    close_to(submit_scan_ranking(client, file, model=model, settings=CPU).result(120), handed)


def test_one_bad_scan_does_not_stop_the_others(
    client: WorkerClient, model: Bundle, volume: Volume, tmp_path: Path
) -> None:
    (tmp_path / "bad.nii.gz").write_bytes(b"no image")
    jobs = [
        submit_scan_ranking(client, tmp_path / "bad.nii.gz", model=model, settings=CPU),
        submit_scan_ranking(client, tmp_path / "missing.nii.gz", model=model, settings=CPU),
        submit(client, volume, model, tmp_path / "jobs", roi=(500, 510, 0, 10, 0, 10)),
        submit(client, volume, model, tmp_path / "jobs"),
    ]
    with pytest.raises(VolumeReadError, match=r"bad\.nii\.gz"):
        jobs[0].result(120)
    with pytest.raises(VolumeReadError, match=r"missing\.nii\.gz"):
        jobs[1].result(120)
    with pytest.raises(MAESegmentError, match="outside the volume"):
        jobs[2].result(120)
    assert jobs[3].result(120).entropy > 0


def test_cancel(client: WorkerClient, model: Bundle, tmp_path: Path) -> None:
    large = Volume(np.random.default_rng(0).normal(size=(1, 96, 96, 96)).astype(np.float32), np.eye(4))
    job = submit(client, large, model, tmp_path)
    wait_until(lambda: job.stage == "segment" or job.is_finished, client.loop.pump, 120)
    job.cancel()
    with pytest.raises(Cancelled):
        job.result(120)
    assert job.state is JobState.CANCELLED
    wait_until(lambda: not [*tmp_path.iterdir()], client.loop.pump)
