"""A segmentation request and its answer, with the test in the worker's place."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from MAESegmentLib.errors import ConfigurationError
from MAESegmentLib.images.volume import LabelMap
from MAESegmentLib.jobs import JobState
from MAESegmentLib.worker.client.requests import submit_segmentation
from MAESegmentLib.worker.job_folder import JobFolder, full_label_array
from MAESegmentLib.worker.protocol import Error

MODEL = SimpleNamespace(path=Path("models") / "tiny")


@pytest.fixture
def submit(world, tmp_path):
    world.ready()

    def make(channels=None, **options):
        arrays = channels or [np.arange(4 * 5 * 6, dtype=">i2").reshape(4, 5, 6)]

        def finish(data, folder):
            block, origin = folder.read_labels(data["labels"])
            yield 0.5
            return full_label_array(block, origin, (6, 5, 4))

        options = {"model": MODEL, "settings": {}, "working_folder": tmp_path, "finish": finish, **options}
        return submit_segmentation(world.client, arrays, np.diag([1.0, 2.0, 3.0, 1.0]), **options)

    return make


def request_of(world) -> dict:
    return next(message for message in reversed(world.worker.sent) if message["type"] == "segment")


def test_request_says_what_was_asked(world, submit):
    job = submit(settings={"overlap": 0.25}, roi=np.arange(6.0))
    world.clock.advance(0)
    request = request_of(world)
    assert request["id"] == job.id
    assert request["model"] == str(MODEL.path)
    assert request["settings"] == {"overlap": 0.25}
    assert request["roi"] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_volume_goes_there_and_labels_come_back(world, submit, tmp_path):
    job = submit()
    world.clock.advance(0)
    folder = JobFolder(request_of(world)["folder"])
    volume = folder.read_volume()
    assert volume.array.shape == (1, 6, 5, 4)
    np.testing.assert_array_equal(volume.array[0].T, np.arange(120).reshape(4, 5, 6))
    labels = (np.asarray(volume.array[0]) > 60).astype(np.uint8)
    world.worker.answer(job.id, labels=folder.write_labels(LabelMap(labels, volume.ijk_to_ras)))
    np.testing.assert_array_equal(job.result(), labels.T)
    assert [*tmp_path.iterdir()] == []


def test_nothing_is_left_of_a_failure_or_a_cancel(world, submit, tmp_path):
    failing, cancelled = submit(), submit()
    world.clock.advance(0)
    cancelled.cancel()
    world.worker.say(Error(failing.id, "geometry", "no"), Error(cancelled.id, "cancelled", "yes"))
    assert failing.state is JobState.FAILED
    assert cancelled.state is JobState.CANCELLED
    assert [*tmp_path.iterdir()] == []


def test_cancel_in_the_middle_of_sending_removes_what_was_written(world, submit, tmp_path):
    job = submit([np.zeros((64, 512, 512), np.uint8)])
    world.clock.turn()
    assert any(path.is_file() for path in tmp_path.rglob("*"))
    assert job.state is JobState.PREPARING
    job.cancel()
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("roi", [(1.0, 2.0), (0.0, 1.0, float("nan"), 3.0, 4.0, 5.0)])
def test_wrong_box_is_refused_at_once(submit, tmp_path, roi):
    with pytest.raises(ConfigurationError):
        submit(roi=roi)
    assert [*tmp_path.iterdir()] == []
