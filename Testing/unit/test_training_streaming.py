"""Pretraining from an archive that is read as it goes: nothing twice, nothing forgotten, bad scans skipped."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from MAESegmentLib.bundle import Bundle
from MAESegmentLib.errors import Cancelled, ConfigurationError, DatasetError, TrainingError
from MAESegmentLib.images.archive import ArchivedScan
from MAESegmentLib.networks import MaeConfig
from MAESegmentLib.training.data.archive import Archive, open_archive
from MAESegmentLib.training.data.stream_order import StreamOrder
from MAESegmentLib.training.data.streaming import Stream
from MAESegmentLib.training.loop.distributed import SOLO, Team
from MAESegmentLib.training.loop.runlog import read_log
from MAESegmentLib.training.pretrain import pretrain_streaming
from MAESegmentLib.training.run_context import RunContext
from MAESegmentLib.training.settings import PretrainSettings
from Testing.bundles import tiny_network_config, tiny_spec
from Testing.datasets import write_dataset
from Testing.stopping import once_at

CPU = torch.device("cpu")
SCANS = 8
SETTINGS = PretrainSettings(
    steps=8,
    batch_size=4,
    micro_batch=2,
    patches_per_volume=2,
    open_volumes=2,
    held_out=0.25,
    log_every=1,
    checkpoint_every=2,
    device="cpu",
    precision="fp32",
    threads=1,
)
PREPROCESSING = tiny_spec().preprocessing


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("scans"), SCANS) / "images"


@pytest.fixture
def damaged(scans: Path, tmp_path: Path) -> Path:
    """The same with a scan that was cut off, one that is empty and one that is something else."""
    folder = Path(shutil.copytree(scans, tmp_path / "damaged"))
    whole = (folder / "case_1.nii.gz").read_bytes()
    (folder / "case_1.nii.gz").write_bytes(whole[: len(whole) // 2])
    (folder / "case_4.nii.gz").write_bytes(b"")
    (folder / "case_6.nii.gz").write_text("not a scan")
    return folder


def archive_of(folder: Path, out: Path, held_out: float = 0.0, team: Team = SOLO) -> Archive:
    out.mkdir(exist_ok=True)
    return open_archive([folder], out, held_out, RunContext(team=team))


def stream_of(folder: Path, out: Path, settings: PretrainSettings = SETTINGS, team: Team = SOLO) -> Stream:
    return Stream(archive_of(folder, out).training, PREPROCESSING, settings, out, team)


def pretrained(folder: Path, out: Path, **callbacks: Callable) -> Bundle:
    out.mkdir(exist_ok=True)
    archive = archive_of(folder, out, SETTINGS.held_out)
    config = MaeConfig(encoder=tiny_network_config(), decoder_dim=16)
    return pretrain_streaming(archive, out, SETTINGS, autoencoder=config, preprocessing=PREPROCESSING, **callbacks)


def skipped(out: Path) -> dict[str, str]:
    with (out / "skipped.csv").open(newline="") as file:
        return {row["volume"]: row["reason"] for row in csv.DictReader(file)}


@pytest.mark.parametrize(("volumes", "lanes", "opened", "patches"), [(40, 2, 4, 3), (7, 3, 2, 4), (5, 8, 16, 1)])
def test_every_volume_is_visited_once_before_any_comes_again(
    volumes: int, lanes: int, opened: int, patches: int
) -> None:
    order = StreamOrder(volumes, lanes, open_volumes=opened, patches_per_volume=patches, seed=3)
    visits = 3 * volumes
    found = [order.volume(visit % lanes, visit // lanes) for visit in range(visits)]
    for first in range(0, visits, volumes):
        assert sorted(found[first : first + volumes]) == [*range(volumes)]
    assert found[:volumes] != found[volumes : 2 * volumes] or volumes < 6


def test_every_patch_of_a_visit_is_used_once_and_few_volumes_are_open_at_a_time() -> None:
    order = StreamOrder(100, 2, open_volumes=5, patches_per_volume=4, seed=0)
    draws = [order.draw(1, number) for number in range(200)]
    assert len(set(draws)) == len(draws)
    per_visit = Counter(visit for visit, _ in draws)
    assert all(count == 4 for visit, count in per_visit.items() if 5 <= visit < 40)
    last = {visit: number for number, (visit, _) in enumerate(draws)}
    first = {visit: number for number, (visit, _) in reversed([*enumerate(draws)])}
    together = [sum(first[v] <= number <= last[v] for v in per_visit) for number in range(200)]
    assert max(together) <= 2 * 5


def test_stream_goes_on_in_the_middle(scans: Path, tmp_path: Path) -> None:
    whole = list(stream_of(scans, tmp_path).batches(0, CPU))
    assert len(whole) == 8 * 2
    rest = list(stream_of(scans, tmp_path).batches(3, CPU))
    for left, right in zip(whole[6:], rest, strict=True):
        assert torch.equal(left.image, right.image)
        assert (left.case_ids, left.part) == (right.case_ids, right.part)


@pytest.mark.parametrize("workers", [0, 2])
def test_two_processes_read_every_scan_once_between_them(scans: Path, tmp_path: Path, workers: int) -> None:
    settings = replace(SETTINGS, steps=2, num_workers=workers)
    whole = list(stream_of(scans, tmp_path).batches(0, CPU))[:4]
    parts = [list(stream_of(scans, tmp_path, settings, Team(rank, 2)).batches(0, CPU)) for rank in range(2)]
    names = [{name for batch in batches for name in batch.case_ids} for batches in parts]
    assert names[0]
    assert not names[0] & names[1]
    together = [batch for step in zip(*parts, strict=True) for batch in step]
    for left, right in zip(whole, together, strict=True):
        assert torch.equal(left.image, right.image)


def test_scans_that_cannot_be_used_are_skipped_and_listed_with_the_reason(damaged: Path, tmp_path: Path) -> None:
    stream = stream_of(damaged, tmp_path / "out", replace(SETTINGS, steps=20))
    seen = {name for batch in stream.batches(0, CPU) for name in batch.case_ids}
    assert seen == {f"case_{n}" for n in (0, 2, 3, 5, 7)}
    assert set(skipped(tmp_path / "out")) == {"case_1", "case_4", "case_6"}
    assert all(skipped(tmp_path / "out").values())


def test_skipped_scans_are_the_same_whether_or_not_they_were_known(damaged: Path, tmp_path: Path) -> None:
    first = list(stream_of(damaged, tmp_path / "out").batches(0, CPU))
    again = list(stream_of(damaged, tmp_path / "out").batches(0, CPU))
    assert all(torch.equal(left.image, right.image) for left, right in zip(first, again, strict=True))


def test_an_archive_without_one_usable_scan_is_one_clear_error(tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    for n in range(3):
        (folder / f"{n}.nii.gz").write_bytes(b"")
    with pytest.raises(TrainingError, match="in a row cannot be used"):
        list(stream_of(folder, tmp_path / "out").batches(0, CPU))
    with pytest.raises(ConfigurationError) as raised:
        archive_of(folder, tmp_path / "out").median_spacing("RAS")
    assert "--spacing" in raised.value.hint


def test_no_scan_and_no_folder_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no scan to learn from"):
        archive_of(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(DatasetError, match="nothing at"):
        archive_of(tmp_path / "absent", tmp_path / "out")


def test_usual_voxel_size_is_measured_on_what_can_be_read(damaged: Path, tmp_path: Path) -> None:
    assert archive_of(damaged, tmp_path / "out").median_spacing("RAS") == (1.0, 1.0, 1.0)


def test_held_out_scans_stay_held_out_when_the_archive_grows() -> None:
    small = Archive(tuple(ArchivedScan(f"scan {n}", Path(f"/a/{n}")) for n in range(300)), 0.2)
    large = Archive(tuple(ArchivedScan(f"scan {n}", Path(f"/a/{n}")) for n in range(600)), 0.2)
    names = {scan.name for scan in small.held_out}
    assert 30 < len(names) < 90
    assert names == {scan.name for scan in large.held_out} & {scan.name for scan in small.scans}
    assert not names & {scan.name for scan in small.training}


def test_scans_of_a_patient_are_held_out_together() -> None:
    scans = tuple(ArchivedScan(f"patient{n}/scan{k}", Path(f"/a/{n}/{k}")) for n in range(40) for k in range(3))
    held_out = Counter(scan.name.split("/")[0] for scan in Archive(scans, 0.3).held_out)
    assert set(held_out.values()) == {3}


def test_stopped_streaming_ends_with_the_weights_of_one_that_was_not(damaged: Path, tmp_path: Path) -> None:
    whole = pretrained(damaged, tmp_path / "whole")
    with pytest.raises(Cancelled):
        pretrained(damaged, tmp_path / "parts", context=RunContext(*once_at(3)))
    parts = pretrained(damaged, tmp_path / "parts")
    for name, value in whole.load_autoencoder().state_dict().items():
        torch.testing.assert_close(parts.load_autoencoder().state_dict()[name], value, atol=1e-6, rtol=0)
    losses = [[row["loss"] for row in read_log(tmp_path / out / "log.csv")] for out in ("whole", "parts")]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    training = parts.spec.training
    assert training["archive"]["scans"] == SCANS
    assert training["settings"]["patches_per_volume"] == 2
