"""The real worker by lines of JSON, as any other client would drive it."""

from __future__ import annotations

import os
import re
import resource
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from MAESegmentLib import __version__
from MAESegmentLib.bundle import Bundle
from MAESegmentLib.processes.environment import SEGMENT, requirements_for
from MAESegmentLib.worker.job_folder import JobFolder
from MAESegmentLib.worker.protocol import PROTOCOL, STAGES
from Testing.bundles import save_tiny, tiny_spec
from Testing.processes import RawWorker, resident_bytes

ROOT = Path(__file__).parents[2]
CPU = {"device": "cpu", "check_familiarity": False}
WAIT_S = 120.0


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> list[Bundle]:
    folder = tmp_path_factory.mktemp("models")
    return [save_tiny(folder / f"tiny-{n}", tiny_spec(name=f"tiny-{n}"), seed=n) for n in range(3)]


@pytest.fixture(scope="module")
def shared() -> Iterator[RawWorker]:
    """One process for the tests that leave it as they found it."""
    with RawWorker() as worker:
        worker.until_it_says("ready")
        yield worker


@pytest.fixture
def worker(shared) -> RawWorker:
    assert shared.process.poll() is None
    shared.events.clear()
    return shared


_number = iter(range(10**6))


def request(parent: Path, model: Bundle | Path, size: int = 24, **changes: Any) -> dict[str, Any]:
    job = JobFolder.create(parent)
    volume = np.random.default_rng(size).integers(0, 500, (size, size, size)).astype(np.int16)
    assert [*job.write_volume([volume], np.diag([-1.0, -1.0, 1.0, 1.0]))][-1] == 1.0
    path = model.path if isinstance(model, Bundle) else model
    name = f"job-{next(_number)}"
    return {"type": "segment", "id": name, "folder": str(job.path), "model": str(path), "settings": CPU} | changes


def labels_of(asked: Mapping[str, Any], data: Mapping[str, Any]) -> tuple[np.ndarray, tuple[int, int, int]]:
    block, origin = JobFolder(asked["folder"]).read_labels(data["labels"])
    return np.array(block), origin


def test_its_first_words():
    with RawWorker() as worker:
        ready = worker.until_it_says("ready")
        hello = worker.events[0]
        assert (hello["type"], hello["protocol"], hello["version"]) == ("hello", PROTOCOL, __version__)
        assert hello["pid"] == worker.process.pid
        assert os.getpgid(hello["pid"]) == hello["pid"]
        assert [event["type"] for event in worker.events] == ["hello", "ready"]
        assert ready["devices"][-1]["name"] == "cpu"
        assert 0 < ready["devices"][-1]["free_bytes"] <= ready["devices"][-1]["total_bytes"]
        worker.tell({"type": "shutdown"})
        assert worker.process.wait(WAIT_S) == 0


def test_stages_of_a_segmentation_and_its_answer(worker, models, tmp_path):
    asked = request(tmp_path, models[0], 40)
    worker.tell(asked)
    data = worker.result_of(asked["id"])
    kinds = [event["type"] for event in worker.events]
    assert kinds[:2] == ["accepted", "started"]
    progress = [event for event in worker.events if event["type"] == "progress"]
    stages = list(dict.fromkeys(event["stage"] for event in progress))
    assert stages == [stage for stage in STAGES if stage not in ("send", "locate")]
    assert len(progress) < 30 + 10 * data["seconds"]
    assert all(event["eta_s"] is None or event["stage"] == "segment" for event in progress)
    for stage in stages:
        fractions = [event["fraction"] for event in progress if event["stage"] == stage]
        assert fractions == sorted(fractions)
    assert data["model"] == models[0].reference
    assert data["device"] == "cpu"
    assert data["device_title"]
    assert set(data["timings"]) == set(stages)
    assert sum(data["timings"].values()) == pytest.approx(data["seconds"], abs=0.05)
    block, _origin = labels_of(asked, data)
    for value in (1, 2):
        assert data["volumes_ml"][str(value)] == pytest.approx((block == value).sum() / 1000, abs=1e-4)


def test_segmentation_that_is_cancelled_ends_and_the_next_one_is_done(worker, models, tmp_path):
    first, second = request(tmp_path, models[0], 128), request(tmp_path, models[0])
    worker.tell(first)
    worker.until(lambda event: event["type"] == "progress" and event["stage"] == "segment")
    worker.tell(second)
    worker.tell({"type": "cancel", "id": first["id"]})
    assert worker.end_of(first["id"])["code"] == "cancelled"
    assert worker.result_of(second["id"])


def test_region_of_interest(worker, models, tmp_path):
    """Nothing outside the box, which is in world millimetres; the labels lie on the whole grid."""
    asked = request(tmp_path, models[0], 32, roi=[-20, -4, -28, -8, 2, 20])
    worker.tell(asked)
    data = worker.result_of(asked["id"])
    block, origin = labels_of(asked, data)
    assert data["labels"]["shape_ijk"] == [32, 32, 32]
    assert block.size
    ends = np.add(origin, block.shape[::-1])
    assert np.all(np.array(origin) >= (3, 7, 1))
    assert np.all(ends <= (22, 30, 22))


def test_models_are_kept_warm_but_not_many(worker, models, tmp_path):
    """The first time a network is read and built; a third one pushes out the oldest."""
    loaded = []
    for index in (0, 1, 0, 1, 2, 0):
        asked = request(tmp_path, models[index])
        worker.tell(asked)
        data = worker.result_of(asked["id"])
        assert data["model"]["name"] == models[index].name
        loaded.append(labels_of(asked, data)[0])
    assert np.array_equal(loaded[0], loaded[2])
    assert np.array_equal(loaded[0], loaded[5])
    assert np.array_equal(loaded[1], loaded[3])
    assert not np.array_equal(loaded[0], loaded[1])


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"settings": {"colour": "red"}}, "configuration"),
        ({"settings": {"device": "cuda:77"}}, "device"),
        ({"settings": {"overlap": 7}}, "configuration"),
        ({"settings": 3}, "protocol"),
        ({"roi": [1, 2]}, "error"),
        ({"roi": [500, 600, 500, 600, 500, 600]}, "geometry"),
        ({"model": "/none"}, "bundle"),
        ({"folder": "/none/maesegment-1-0"}, "volume_read"),
    ],
    ids=["unknown setting", "device", "overlap", "no settings", "roi", "outside", "model", "folder"],
)
def test_request_that_cannot_work(worker, models, tmp_path, changes, code):
    asked = request(tmp_path, models[0]) | changes
    worker.tell(asked)
    event = worker.end_of(asked["id"])
    assert (event["type"], event["code"]) == ("error", code)
    assert event["message"]


def test_memory_of_many_sizes_does_not_pile_up(worker, models, tmp_path):
    for size in (24, 64, 40):
        asked = request(tmp_path, models[0], size)
        worker.tell(asked)
        worker.result_of(asked["id"])
    before = resident_bytes(worker.process.pid)
    for size in (24, 64, 40, 64, 24):
        asked = request(tmp_path, models[0], size)
        worker.tell(asked)
        worker.result_of(asked["id"])
    assert resident_bytes(worker.process.pid) - before < 64 * 2**20


def started_with(code: str) -> RawWorker:
    """The worker in a process that ran `code` before."""
    return RawWorker("-c", f"{code}\nimport runpy\nrunpy.run_module('MAESegmentLib.worker', run_name='__main__')")


STRAY = """
import ctypes, os, sys, threading, time

def chatter():
    while True:
        print("from Python")
        sys.stdout.flush()
        os.write(1, b"past Python, no newline {")
        ctypes.CDLL(None).puts(b"from C")
        ctypes.CDLL(None).fflush(None)
        time.sleep(0.01)

threading.Timer(%s, chatter).start()
"""


def test_stray_prints_never_reach_the_protocol(models, tmp_path):
    """`until` would refuse them. They begin once the worker has begun."""
    with started_with(STRAY.replace("%s", "1.0")) as worker:
        worker.until_it_says("ready")
        asked = request(tmp_path, models[0], 64)
        worker.tell(asked)
        assert worker.result_of(asked["id"])
        deadline = time.monotonic() + WAIT_S
        while "from C" not in worker.log and time.monotonic() < deadline:
            time.sleep(0.02)
        for source in ("from Python", "past Python", "from C"):
            assert source in worker.log


def test_it_needs_no_package_that_it_does_not_name(models, tmp_path):
    """Nothing but these is asked for in Slicer; the familiarity check included."""
    needed = [text for text in metadata.requires("maesegment") if "extra" not in text or "train" in text]
    depends = {re.match(r"[\w-]+", text)[0].lower() for text in needed}
    asked_for = {requirement.name for requirement in requirements_for(SEGMENT)}
    blocked = [
        module
        for module, distributions in metadata.packages_distributions().items()
        if {name.lower() for name in distributions} & depends - asked_for
    ]
    assert {"monai", "nibabel", "scipy", "SimpleITK"} <= set(blocked)
    with started_with(f"import sys\nfor name in {blocked}: sys.modules[name] = None") as worker:
        worker.until_it_says("ready")
        asked = request(tmp_path, models[0], settings={"device": "cpu"})
        worker.tell(asked)
        assert worker.result_of(asked["id"])


def test_out_of_memory_is_an_offer(models, tmp_path):
    """The device refuses everything; the answer has the figures to decide by, and the worker lives on."""
    with started_with(
        "import torch\n"
        "def full(module, inputs):\n"
        "    raise torch.OutOfMemoryError('out of memory')\n"
        "torch.nn.modules.module.register_module_forward_pre_hook(full)"
    ) as worker:
        worker.until_it_says("ready")
        asked = request(tmp_path, models[0])
        worker.tell(asked)
        event = worker.end_of(asked["id"])
        assert event["code"] == "device_memory"
        assert event["details"]["free_bytes"] > 2**20
        assert event["hint"]
        worker.tell({"type": "devices", "id": "after"})
        assert worker.result_of("after")


@pytest.mark.parametrize("spare_mib", [100, 300])
def test_computer_that_runs_out_of_memory(models, tmp_path, spare_mib):
    """Wherever it happens, it is said, and what fits is done afterwards."""
    with RawWorker() as worker:
        worker.until_it_says("ready")
        small, large = request(tmp_path, models[0]), request(tmp_path, models[0], 380)
        worker.tell(small)
        worker.result_of(small["id"])
        pid = worker.process.pid
        used = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
        _soft, hard = resource.prlimit(pid, resource.RLIMIT_AS)
        resource.prlimit(pid, resource.RLIMIT_AS, (used + spare_mib * 2**20, hard))
        worker.tell(large)
        assert worker.end_of(large["id"])["code"] == "device_memory"
        worker.tell({**small, "id": "again"})
        assert worker.result_of("again")
