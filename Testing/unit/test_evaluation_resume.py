"""An evaluation shows how far it is, keeps what it measured, and is resumed; nothing that has changed is taken over."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from MAESegmentLib.cases.case import Case
from MAESegmentLib.cli.main import main
from MAESegmentLib.errors import ConfigurationError, OutputError
from MAESegmentLib.evaluation.cases import CaseResult, StoredPredictions
from MAESegmentLib.evaluation.log import FILE, EvaluationLog
from MAESegmentLib.evaluation.metrics import Score, Status
from MAESegmentLib.images import LabelMap, write_label_map
from MAESegmentLib.images.labels import Label
from MAESegmentLib.storage.lock import FileLock
from Testing.datasets import save

FRONT = Label(1, "front")
CASES = ("a", "b", "c")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in CASES:
        save(tmp_path / "images" / f"{name}.nii.gz", np.random.default_rng(0).random((9, 9, 9), np.float32), np.eye(4))
        for kind in ("labels", "predictions"):
            draw(tmp_path / kind / f"{name}.nii.gz", 5)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "front": 1}}))
    return tmp_path


def draw(path: Path, size: int) -> None:
    path.parent.mkdir(exist_ok=True)
    array = np.zeros((9, 9, 9), np.uint8)
    array[1 : 1 + size, 1:6, 1:6] = 1
    write_label_map(path, LabelMap(array, np.eye(4)), [FRONT])


def run(folder: Path, *more: str) -> int:
    words = ["evaluate", "--data", str(folder), "--predictions", str(folder / "predictions"), "-o", str(folder / "out")]
    return main([*words, *more])


def rows(folder: Path) -> dict[str, str]:
    with (folder / "out" / "metrics.csv").open(newline="") as stream:
        return {row["case"]: row["dice"] for row in csv.DictReader(stream)}


def measured(captured: str) -> list[str]:
    """Cases that a line on stderr says were measured just now."""
    return [
        line.split()[1].rstrip(":") for line in captured.splitlines() if line[:1].isdigit() and "/" in line.split()[0]
    ]


def test_each_case_is_a_line_where_there_is_no_terminal(folder: Path, capsys) -> None:
    (folder / "predictions" / "b.nii.gz").unlink()
    assert run(folder) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("1/3 a: mean Dice 1.000, ")
    assert lines[1].startswith("2/3 b: failed: There is no label map named b")
    assert lines[2].startswith("3/3 c: ")


def test_what_was_measured_is_taken_over_and_only_what_failed_or_is_new_is_tried(folder: Path, capsys) -> None:
    (folder / "predictions" / "b.nii.gz").unlink()
    run(folder, "--split", "a,b")
    assert list(rows(folder)) == ["a"]
    capsys.readouterr()
    run(folder)
    assert measured(capsys.readouterr().err) == ["b", "c"]
    before = rows(folder)
    capsys.readouterr()
    draw(folder / "predictions" / "b.nii.gz", 4)
    assert run(folder) == 0
    assert measured(capsys.readouterr().err) == ["b"]
    assert rows(folder) == {"a": before["a"], "b": rows(folder)["b"], "c": before["c"]}
    assert list(rows(folder)) == list(CASES)
    assert run(folder) == 0
    assert measured(capsys.readouterr().err) == []
    summary = json.loads((folder / "out" / "summary.json").read_text())
    assert summary["labels"][0]["dice"]["n"] == 3


@pytest.mark.parametrize("kind", ["images", "labels", "predictions"])
def test_a_case_whose_files_have_changed_is_measured_again(folder: Path, capsys, kind: str) -> None:
    run(folder)
    capsys.readouterr()
    path = folder / kind / "b.nii.gz"
    if kind == "images":
        os.utime(path, ns=(1, 1))
    else:
        draw(path, 4)
    run(folder)
    assert measured(capsys.readouterr().err) == ["b"]
    assert (rows(folder)["b"] == "1") == (kind == "images")


@pytest.mark.parametrize("change", ["tolerance", "labels", "predictions"])
def test_figures_that_were_made_otherwise_are_not_mixed_with_others(folder: Path, capsys, change: str) -> None:
    run(folder)
    before = (folder / "out" / "metrics.csv").read_bytes()
    capsys.readouterr()
    if change == "labels":
        (folder / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "back": 1}}))
    if change == "predictions":
        (folder / "predictions").rename(folder / "other")
        words = ["evaluate", "--data", str(folder), "--predictions", str(folder / "other"), "-o", str(folder / "out")]
        assert main(words) == 2
    else:
        assert run(folder, *(["--tolerance", "2"] if change == "tolerance" else [])) == 2
    error = capsys.readouterr().err
    assert "made otherwise" in error
    assert change in error
    assert (folder / "out" / "metrics.csv").read_bytes() == before


def test_a_structure_is_judged_within_its_annotated_slices_on_request(folder: Path, capsys) -> None:
    array = np.zeros((9, 9, 9), np.uint8)
    array[1:6, 1:6, :] = 1
    write_label_map(folder / "predictions" / "b.nii.gz", LabelMap(array, np.eye(4)), [FRONT])
    assert run(folder, "--annotated-slices", "front") == 0
    assert "front: judged between the first and the last axial slice of the reference only." in capsys.readouterr().out
    assert rows(folder)["b"] == "1"
    assert json.loads((folder / "out" / "summary.json").read_text())["annotated_slices"] == ["front"]
    assert run(folder) == 2
    assert "made otherwise" in capsys.readouterr().err
    assert run(folder, "--annotated-slices", "cord") == 2
    assert "has no structure 'cord'" in capsys.readouterr().err


class Stopped(Exception):
    pass


def test_rows_are_on_the_disk_as_they_come_and_half_a_row_is_dropped(folder: Path, monkeypatch, capsys) -> None:
    predict = StoredPredictions.label_map

    def stops_at_b(self: StoredPredictions, case: Case) -> LabelMap:
        if case.id == "b":
            raise Stopped
        return predict(self, case)

    monkeypatch.setattr(StoredPredictions, "label_map", stops_at_b)
    run(folder)
    assert list(rows(folder)) == ["a"]
    monkeypatch.undo()
    for name in (FILE, "metrics.csv"):
        with (folder / "out" / name).open("ab") as stream:
            stream.write(b'{"case": "b", "fi')
    capsys.readouterr()
    assert run(folder) == 0
    assert measured(capsys.readouterr().err) == ["b", "c"]
    assert list(rows(folder)) == list(CASES)


def test_two_evaluations_in_one_folder_do_not_mix(folder: Path, capsys) -> None:
    (folder / "out").mkdir()
    with FileLock(folder / "out" / ".evaluate.lock"):
        assert run(folder) == 2
    assert "Another evaluation" in capsys.readouterr().err


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    result = CaseResult(
        (Score("c", "x", Status.OK, 0.5, 1.0, 0.25, -0.5, 2.0, 1.5), Score("c", "y", Status.NOT_KNOWN)), 0.1, ("w\n",)
    )
    case = Case("M\udcfcller\n", (tmp_path / "image",))
    EvaluationLog(tmp_path, {"model": "m"}).add(case, "stamp", result)
    log = EvaluationLog(tmp_path, {"model": "m"})
    assert log.done([case], {case.id: "stamp"}) == {case.id: result}
    assert log.done([case], {case.id: "another"}) == {}
    with pytest.raises(ConfigurationError, match="model m, now n"):
        EvaluationLog(tmp_path, {"model": "n"})
    (tmp_path / FILE).write_text("{}\n{\n")
    with pytest.raises(OutputError, match="damaged"):
        EvaluationLog(tmp_path, {"model": "m"})
