"""`maesegment batch` on real files: mixed formats, bad ones, a run that was killed, two processes."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pydicom
import pytest

from MAESegmentLib.bundle import Bundle
from MAESegmentLib.cli.main import main
from MAESegmentLib.images.reading import read_label_map, read_volume
from MAESegmentLib.images.writing import write_volume
from MAESegmentLib.storage.lock import FileLock
from Testing import dicom_series
from Testing.bundles import save_tiny, tiny_spec
from Testing.phantoms import PhantomFactory

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Never trained; 6 mm voxels, so that a whole head takes a second."""
    spec = tiny_spec(modality="any")
    spec = replace(spec, preprocessing=replace(spec.preprocessing, spacing=(6.0, 6.0, 6.0)))
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny", spec)


@pytest.fixture
def archive(tmp_path: Path, phantom: PhantomFactory) -> Path:
    """Four scans of three formats, a DICOM series in two folders, one that is incomplete, and a cut-off file."""
    folder = tmp_path / "archive"
    for name, volume in {
        "one/head.nii.gz": phantom.oblique(noise=40.0).volume,
        "one/head.nrrd": phantom.las(noise=30.0).volume,
        "two/deep/thick.nii": phantom.anisotropic(noise=20.0).volume,
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_volume(folder / name, volume)
    (folder / "one" / "cut.nii.gz").write_bytes((folder / "one" / "head.nii.gz").read_bytes()[:3000])
    whole = dicom_series.head(9).write(folder / "ct" / "a")
    (folder / "ct" / "b").mkdir()
    for file in sorted(whole.iterdir())[5:]:
        file.rename(folder / "ct" / "b" / file.name)
    dicom_series.head(9).write(folder / "gap", lambda k, _dataset: k != 4)
    return folder


def batch(model: Bundle, out: Path, *words: object) -> int:
    return main(["batch", "-m", str(model.path), "--device", "cpu", "-o", str(out), *map(str, words)])


def table(out: Path) -> dict[str, dict[str, str]]:
    """Rows by source and series; fails if a scan has two."""
    rows = list(csv.DictReader((out / "volumes.csv").read_text().splitlines()))
    assert all(None not in row and None not in row.values() for row in rows)
    found = {row["key"]: row for row in rows}
    assert len(found) == len(rows)
    return {row["source"]: row for row in rows}


def states(out: Path) -> list[tuple[str, str]]:
    return sorted((row["volume"], row["status"]) for row in table(out).values())


def test_every_good_scan_of_an_archive_is_segmented_and_bad_ones_are_told(
    model: Bundle, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out"
    assert batch(model, out, archive) == 1
    assert states(out) == [
        ("ct/a", "done"),
        ("gap", "failed"),
        ("one/cut", "failed"),
        ("one/head", "done"),
        ("one/head", "done"),
        ("two/deep/thick", "done"),
    ]
    rows = table(out)
    assert "slice" in rows[str(archive / "gap")]["reason"]
    for source in ("one/head.nii.gz", "one/head.nrrd", "two/deep/thick.nii", "ct/a"):
        row = rows[str(archive / source)]
        scan = read_volume(archive / source if source != "ct/a" else archive / "ct")
        found = read_label_map(out / row["output"])
        assert scan.grid.matches(found.grid)
        voxel_ml = float(np.prod(scan.grid.spacing)) / 1000
        for value, name in ((1, "anterior"), (2, "posterior")):
            assert float(row[f"{name}_ml"]) == pytest.approx(np.sum(found.array == value) * voxel_ml, rel=1e-4)
    said = capsys.readouterr().err
    assert "2 could not be segmented" in said
    assert "cut.nii.gz" in said


def test_statistics_of_all_scans_are_one_table_also_when_asked_for_later(
    model: Bundle, archive: Path, tmp_path: Path
) -> None:
    out, sources = tmp_path / "out", (archive / "one" / "head.nii.gz", archive / "two")
    assert batch(model, out, *sources) == 0
    assert not (out / "statistics").exists()
    assert batch(model, out, *sources, "--statistics") == 0
    written = (out / "statistics.csv").read_text()
    rows = list(csv.DictReader(written.splitlines()))
    volumes = {row["output"]: row for row in table(out).values()}
    assert [(row["output"], row["Segment"]) for row in rows] == [
        (output, label.name) for output in volumes for label in model.labels
    ]
    for row in rows:
        volume_ml = float(volumes[row["output"]][f"{row['Segment']}_ml"])
        assert float(row["Volume cm3"]) == pytest.approx(volume_ml, rel=1e-4)
    before = table(out)
    (out / "statistics.csv").unlink()
    assert batch(model, out, *sources, "--statistics") == 0
    assert (out / "statistics.csv").read_text() == written
    assert table(out) == before, "nothing is segmented again"
    (out / before[str(sources[0])]["output"]).unlink()
    assert batch(model, out, *sources) == 0
    assert len(list((out / "statistics").rglob("*.csv"))) == 1, "none is left of a result that was replaced"


def test_an_archive_of_real_files_good_and_bad(model: Bundle, real_data: Path, tmp_path: Path) -> None:
    for archive in (real_data / "geometry" / "dicom").glob("*.tar.gz"):
        with tarfile.open(archive) as packed:
            packed.extractall(tmp_path / "dicom", filter="data")
    geometry = [real_data / "geometry" / name for name in ("volumes", "corrupt")]
    out = tmp_path / "out"
    assert batch(model, out, *geometry, tmp_path / "dicom", real_data / "hippocampus_mr" / "dicom") == 1
    rows = table(out).values()
    good = sorted(row["volume"] for row in rows if row["status"] == "done")
    assert good == [
        "Study1",
        "aniso_4x5x7",
        "bigendian_int16",
        "ct_head_axial_64px",
        "ct_jpeg2000_6slices",
        "freesurfer_LIA",
        "int16_scl_slope",
        "label_shape_mismatch_hippocampus_001",
        "mr_oblique_flair",
        "mr_oblique_flair",
        "mr_oblique_flair_label",
        "tiny_7x5x3",
    ]
    reasons = {row["volume"]: row["reason"] for row in rows if row["status"] == "failed"}
    assert len(reasons) == 14
    assert all(reasons.values())
    assert not any("Unexpected" in reason for reason in reasons.values())


def test_a_second_run_repeats_only_what_is_not_whole(model: Bundle, archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    batch(model, out, archive)
    before = table(out)
    nii, nrrd = str(archive / "one/head.nii.gz"), str(archive / "one/head.nrrd")
    (out / before[nii]["output"]).write_bytes(b"half a file")
    (out / before[nrrd]["output"]).unlink()
    cut = archive / "one" / "cut.nii.gz"
    cut.write_bytes((archive / "two/deep/thick.nii").read_bytes())
    cut.rename(archive / "one" / "cut.nii")
    assert batch(model, out, archive) == 1  # the series with a gap is still there
    after = table(out)
    again = {source for source in after if source in before and after[source]["finished"] != before[source]["finished"]}
    assert again == {nii, nrrd}
    assert after[str(archive / "one/cut.nii")]["status"] == "done"
    assert read_label_map(out / after[nii]["output"]).array.shape == read_volume(archive / "one/head.nii.gz").grid.shape


def test_what_failed_is_tried_again_only_on_request_or_when_its_files_change(
    model: Bundle, archive: Path, tmp_path: Path
) -> None:
    out, gap = tmp_path / "out", str(archive / "gap")
    batch(model, out, archive)
    first = table(out)[gap]["finished"]
    batch(model, out, archive)
    assert table(out)[gap]["finished"] == first
    batch(model, out, archive, "--retry-failed")
    assert table(out)[gap]["finished"] > first
    (archive / "one/cut.nii.gz").write_bytes((archive / "one/head.nii.gz").read_bytes())
    batch(model, out, archive)
    assert table(out)[str(archive / "one/cut.nii.gz")]["status"] == "done"


def test_half_a_row_of_a_killed_process_costs_nothing(model: Bundle, archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    batch(model, out, archive / "two")
    with (out / "volumes.csv").open("a") as stream:
        stream.write("one/head,done,,0.")
    with (out / "index.jsonl").open("a") as stream:
        stream.write('{"folder": "/a')
    batch(model, out, archive / "two", archive / "one")
    assert states(out) == [
        ("cut", "failed"),
        ("deep/thick", "done"),
        ("head", "done"),
        ("head", "done"),
    ]


def test_results_of_another_model_or_setting_are_not_mixed(
    model: Bundle, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out"
    assert batch(model, out, archive / "mistyped", "--no-clean") == 2  # binds nobody to its options
    assert batch(model, out, archive / "two") == 0
    assert batch(model, out, archive / "two", "--overlap", "0.25") == 2
    other = save_tiny(tmp_path / "other", tiny_spec(version="2.0.0"), seed=1)
    assert batch(other, out, archive / "two") == 2
    said = capsys.readouterr().err
    assert "overlap 0.5, now 0.25" in said
    assert "now tiny-mr@2.0.0" in said


def test_a_table_is_not_continued_without_an_option_of_its_beginning_nor_with_a_box_drawn_anew(
    model: Bundle, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    box = tmp_path / "box.mrk.json"
    roi = {"type": "ROI", "coordinateSystem": "RAS", "center": [0, 0, 0], "size": [400, 400, 400]}
    box.write_text(json.dumps({"markups": [roi]}))
    out = tmp_path / "out"
    assert batch(model, out, archive / "two", "--no-clean", "--roi", str(box)) == 0
    assert batch(model, out, archive / "two", "--roi", str(box)) == 2
    assert "clean False, now not given" in capsys.readouterr().err
    again = ("--no-clean", "--roi", "-200,200,-200,200,-200,200")
    assert batch(model, out, archive / "two", *again) == 0
    file = out / "batch.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "roi": again[2]}))  # as versions before wrote it
    assert batch(model, out, archive / "two", *again) == 0
    box.write_text(json.dumps({"markups": [{**roi, "center": [9, 0, 0]}]}))
    assert batch(model, out, archive / "two", "--no-clean", "--roi", str(box)) == 2
    assert "roi [-200.0, 200.0, " in capsys.readouterr().err


def test_two_series_in_one_folder_are_two_scans_and_dicom_gets_dicom(
    model: Bundle, tmp_path: Path, phantom: PhantomFactory
) -> None:
    folder = tmp_path / "in"
    for number, description in enumerate(("Bone", "Soft tissue"), start=1):
        recipe = replace(dicom_series.head(4 + number), description=description)
        recipe.write(tmp_path / description)
        folder.mkdir(exist_ok=True)
        for file in (tmp_path / description).iterdir():
            file.rename(folder / f"{number}_{file.name}")
    write_volume(folder / "head.nii.gz", phantom(noise=10.0).volume)
    out = tmp_path / "out"
    assert batch(model, out, folder, "--format", "dicom") == 0
    outputs = sorted(row["output"] for row in csv.DictReader((out / "volumes.csv").read_text().splitlines()))
    assert outputs == [f"segmentations/{name}" for name in ("Bone.dcm", "Soft_tissue.dcm", "head.seg.nrrd")]
    assert read_label_map(out / outputs[0]).array.shape == (5, 6, 5)
    contours = tmp_path / "contours"
    assert batch(model, contours, folder, "--format", "rtstruct") == 0
    files = sorted(file.name for file in (contours / "segmentations").iterdir())
    assert files == ["Bone.rtstruct.dcm", "Soft_tissue.rtstruct.dcm", "head.seg.nrrd"]
    assert pydicom.dcmread(contours / "segmentations" / files[0]).Modality == "RTSTRUCT"
    only = tmp_path / "mr"
    assert batch(model, only, folder, "--modality", "mr") == 0
    assert [row["volume"] for row in table(only).values()] == ["head"]


@pytest.mark.parametrize("words", [["{folder}/absent"], ["{folder}/empty"]])
def test_nothing_to_segment_is_said_at_once(
    model: Bundle, tmp_path: Path, words: Sequence[str], capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "empty").mkdir()
    assert batch(model, tmp_path / "out", *(word.format(folder=tmp_path) for word in words)) == 2
    assert "There is no" in capsys.readouterr().err


def _many(folder: Path, phantom: PhantomFactory, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        write_volume(folder / f"scan{number:02d}.nii", phantom(noise=30.0, seed=number, shape=(64, 64, 48)).volume)
    (folder / "bad.nii").write_bytes(b"nothing")


def _command(model: Bundle, folder: Path, out: Path) -> list[str]:
    return ["-m", "MAESegmentLib.cli", "batch", str(folder), "-m", str(model.path), "-o", str(out), "--device", "cpu"]


def _start(model: Bundle, folder: Path, out: Path, **more: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **more}
    command = [sys.executable, *_command(model, folder, out)]
    return subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=subprocess.DEVNULL)


def _wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def _rows(out: Path) -> list[dict[str, str]]:
    return [*table(out).values()] if (out / "volumes.csv").exists() else []


def _claims(out: Path) -> list[Path]:
    return [place for place in (out / ".claims").iterdir() if place.is_dir()]


def test_a_killed_run_goes_on_and_leaves_nothing_half_behind(
    model: Bundle, tmp_path: Path, phantom: PhantomFactory
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    _many(folder, phantom, 8)
    process = _start(model, folder, out)
    _wait_for(lambda: len(_rows(out)) >= 2)
    process.kill()
    process.wait()
    before = table(out)
    assert 2 <= len(before) < 9
    assert batch(model, out, folder, "-q") == 1
    after = table(out)
    assert len(after) == 9
    assert all(after[source] == row for source, row in before.items())
    assert len([*(out / "segmentations").iterdir()]) == 8
    assert _claims(out) == []


def test_processes_of_one_launcher_do_no_scan_twice_and_the_first_reports(
    model: Bundle, tmp_path: Path, phantom: PhantomFactory
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    _many(folder, phantom, 3)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    finished = subprocess.run(
        [*launcher, *_command(model, folder, out)],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 1, finished.stderr  # one scan is bad
    assert finished.stdout.count("3 of 4 scans segmented") == 1
    assert len(table(out)) == 4


def test_two_processes_share_the_scans_and_take_over_from_one_that_died(
    model: Bundle, tmp_path: Path, phantom: PhantomFactory
) -> None:
    """Process 1 is killed with a scan in its hands; process 0 ends with every scan done, as one alone would."""
    folder, out = tmp_path / "in", tmp_path / "out"
    _many(folder, phantom, 8)
    out.mkdir()
    with FileLock(out / ".index.lock"):  # until both have started, however busy the machine is
        ranks = [{"RANK": str(n), "LOCAL_RANK": str(n), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"} for n in (0, 1)]
        pair = [_start(model, folder, out, **rank) for rank in ranks]
        for process in pair:
            opened = psutil.Process(process.pid).open_files
            _wait_for(lambda opened=opened: any(file.path.endswith(".index.lock") for file in opened()))
    _wait_for(lambda: any(row["rank"] == "1" for row in _rows(out)) or pair[1].poll() is not None)
    pair[1].kill()
    assert pair[1].wait() == -signal.SIGKILL
    assert pair[0].wait(120) == 1
    assert {row["rank"] for row in _rows(out)} == {"0", "1"}
    assert len(table(out)) == 9
    assert _claims(out) == []
    alone = tmp_path / "alone"
    assert batch(model, alone, folder, "-q") == 1
    for source, row in table(alone).items():
        if row["status"] == "done":
            one, other = (read_label_map(place / row["output"]) for place in (out, alone))
            assert np.mean(one.array != other.array) < 1e-3, source


def test_pipes_devices_and_links_to_nothing_are_failed_rows(model: Bundle, tmp_path: Path, phantom) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write_volume(folder / "head.nii.gz", phantom.oblique(noise=40.0).volume)
    os.mkfifo(folder / "pipe.nii.gz")
    (folder / "gone.nii").symlink_to(".git/annex/objects/gone.nii")
    (folder / "endless.nii").symlink_to("/dev/zero")
    for _ in range(2):
        assert batch(model, tmp_path / "out", folder) == 1
        rows = {Path(source).name: row for source, row in table(tmp_path / "out").items()}
        assert {name: row["status"] for name, row in rows.items()} == {
            "head.nii.gz": "done",
            **dict.fromkeys(("pipe.nii.gz", "gone.nii", "endless.nii"), "failed"),
        }
        assert "pipe or a device" in rows["pipe.nii.gz"]["reason"]
        assert "pipe or a device" in rows["endless.nii"]["reason"]
        assert "link to .git/annex/objects/gone.nii, which is not there" in rows["gone.nii"]["reason"]
