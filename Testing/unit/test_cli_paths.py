"""Paths that lead nowhere, or to a folder where a file is due or the other way round: each command names the path and
says what it takes, before it does any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from MAESegmentLib.cli.main import main
from MAESegmentLib.images import write_volume
from Testing.datasets import write_dataset
from Testing.phantoms import PhantomFactory

MODEL = "-m hippocampus"
#: A command with {} for the path, and what its message must say: for what is not there, an empty folder, a text file.
GIVEN = [
    (f"segment {{}} {MODEL}", ("does not exist", "DICOM folder", "Give .nii")),
    ("segment scan.nii.gz -m {}", ("Choose one of the installed models", "Available:", "Available:")),
    (f"batch {{}} {MODEL} -o out", ("Give folders or image files", "Give folders with NIfTI", None)),
    (f"cases add {{}} scan.nii.gz {MODEL}", ("does not exist", "DICOM folder", "Give .nii")),
    (f"cases add scan.nii.gz {{}} {MODEL}", ("does not exist", "segmentation's file", "Give .nii")),
    ("cases check --store {}", ("`maesegment cases add`", None, "`maesegment cases add`")),
    (f"cases next {{}} {MODEL}", ("Give folders or image files", "Give folders with NIfTI", None)),
    (f"finetune --cases {{}} {MODEL} -o out", ("images/", "labels/", "dataset.json")),
    (f"finetune --cases data {MODEL} -o out --recipe {{}}", (".toml or .json",) * 3),
    (f"finetune --cases data {MODEL} -o out --config {{}}", (".toml or .json",) * 3),
    ("pretrain --data {} -o out", ("a folder of scans",) * 3),
    ("pretrain --data data {} -o out", ("a folder of scans",) * 3),
    ("pretrain --synthesise {} -o out", ("a folder of label maps",) * 3),
    ("pretrain --data {} -o out --stream", ("a folder of scans", "Give folders with NIfTI", None)),
    ("pretrain --data data -o out --recipe {}", (".toml or .json",) * 3),
    (f"evaluate {MODEL} --data {{}} -o out", ("images/", "labels/", "dataset.json")),
    ("evaluate --predictions {} --data data -o out", ("a folder of label maps", None, "a folder of label maps")),
    ("models show {}", ("Choose one of the installed models", "Available:", "Available:")),
    ("models verify {}", ("Choose one of the installed models", "Available:", "Available:")),
    ("models import {}", ("zip file", "A model folder holds", "zip file")),
    ("models compare hippocampus hippocampus --data {}", ("images/", "labels/", "dataset.json")),
    (
        "models import-official {} --preset acdc -o out --spacing 1 1 1 --intensity zscore",
        ("Give a checkpoint", "Give a checkpoint", "not a PyTorch checkpoint"),
    ),
]
#: Where something is to be written: in a folder that is not there, over a folder, inside or over a text file.
WRITTEN = [
    (f"segment scan.nii.gz {MODEL} -o {{}}/out.nii.gz", ("does not exist", None, "is not a folder")),
    (f"segment scan.nii.gz {MODEL} --preview {{}}/out.png", ("does not exist", None, "is not a folder")),
    (f"batch scan.nii.gz {MODEL} -o {{}}", (None, None, "of that name is there already")),
    ("demo -o {}", (None, None, "of that name is there already")),
    (f"cases next scan.nii.gz {MODEL} -o {{}}/out.csv", ("does not exist", None, "is not a folder")),
    (f"cases next scan.nii.gz {MODEL} -o {{}}", ("does not exist", "Give the name of a .csv file", None)),
    (f"finetune --cases data {MODEL} -o {{}}", (None, None, "of that name is there already")),
    ("pretrain --data data -o {}", (None, None, "of that name is there already")),
    (f"evaluate {MODEL} --data data -o {{}}", (None, None, "of that name is there already")),
    ("models export hippocampus -o {}/out.zip", ("does not exist", None, "is not a folder")),
    ("models export hippocampus -o {}", ("zip file", "zip file", "zip file")),
]
PLACES = ("no such/place", "empty", "note.txt")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paths")
    (folder / "empty").mkdir()
    (folder / "note.txt").write_text("not an image\n")
    write_volume(folder / "scan.nii.gz", PhantomFactory()(noise=20.0).volume)
    write_dataset(folder / "data", 2, labels={"background": 0, "anterior": 1, "posterior": 2})
    return folder


@pytest.mark.parametrize(
    ("command", "place", "said"),
    [
        pytest.param(command, place, text, id=command.format(place))
        for command, texts in (*GIVEN, *WRITTEN)
        for place, text in zip(PLACES, texts, strict=True)
        if text is not None
    ],
)
def test_a_wrong_path_is_named_with_what_is_expected(command, place, said, files, monkeypatch, capsys) -> None:
    monkeypatch.chdir(files)
    for kind in ("MODELS", "CASES"):
        monkeypatch.setenv(f"MAESEGMENT_{kind}", str(files / kind))
    assert main([word.replace("PATH", place) for word in command.format("PATH").split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") or "\nerror: " in error
    assert said in error
    assert place.rpartition("/")[2] in error
    assert "Errno" not in error
    assert sum(line.startswith("  ") for line in error.splitlines()) >= 1, "no advice"
    assert not list(files.rglob("*.seg.nrrd")), "work was done before the path was looked at"
    assert (files / "note.txt").read_text() == "not an image\n"


@pytest.mark.parametrize(
    "command",
    [f"segment {{}} {MODEL}", f"finetune --cases data {MODEL} -o out --unlabelled {{}}", "cases check --store {}"],
)
def test_an_empty_path_is_not_the_working_directory(command, files, monkeypatch, capsys) -> None:
    monkeypatch.chdir(files)
    with pytest.raises(SystemExit):
        main([word.replace("PATH", "") for word in command.format("PATH").split()])
    assert "the path is empty" in capsys.readouterr().err
