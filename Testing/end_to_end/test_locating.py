"""A model that is made for a box, on a whole head: another one places the boxes, through every door of the product."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from MAESegmentLib.bundle import ModelStore
from MAESegmentLib.cases.store import CaseStore
from MAESegmentLib.cli.main import main
from MAESegmentLib.console import Console
from MAESegmentLib.errors import Cancelled
from MAESegmentLib.images.labels import Label
from MAESegmentLib.images.reading import read_drawing
from MAESegmentLib.images.volume import LabelMap, Volume
from MAESegmentLib.images.writing import write_label_map, write_volume
from MAESegmentLib.inference.locating import locating
from MAESegmentLib.inference.predictor import Predictor
from MAESegmentLib.inference.settings import InferenceSettings, Prediction
from Testing.heads import CENTRES, SPACING, crop_of, head, save_models

SIDED = [f"{side} {part} hippocampus" for side in ("left", "right") for part in ("anterior", "posterior")]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    return save_models(tmp_path_factory.mktemp("store"))


@pytest.fixture
def doors(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAESEGMENT_MODELS", str(store.user_folder))


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head, and the part of it around the right hippocampus."""
    folder = tmp_path_factory.mktemp("scans")
    volume, _truth = head()
    write_volume(folder / "head.nii.gz", volume)
    write_volume(folder / "crop.nii.gz", crop_of(volume, "right"))
    return folder


def segment(*words: object, model: str = "hippo-test") -> int:
    return main(["segment", "-m", model, "--device", "cpu", *map(str, words)])


@pytest.mark.usefixtures("doors")
def test_both_sides_of_a_whole_head_are_segmented_without_a_box(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    names = {"-o": "s.seg.nrrd", "--probabilities": "p.nii.gz", "--entropy": "e.nii.gz", "--statistics": "t.csv"}
    assert segment(scans / "head.nii.gz", *(x for k, v in names.items() for x in (k, tmp_path / v))) == 0
    said = capsys.readouterr()
    assert "boxes placed by brain-test 1.0.0" in said.out
    assert all(name in said.out for name in SIDED)
    assert "made for a box" not in said.err
    truth = head()[1].array
    drawing, segments = read_drawing(tmp_path / "s.seg.nrrd")
    assert {one.name: one.value for one in segments} == dict(zip(SIDED, (3, 4, 5, 6), strict=True))
    np.testing.assert_array_equal(drawing.array, np.where(truth > 0, truth + 2, 0))  # boxes reach into each other
    assert [row["Segment"] for row in csv.DictReader((tmp_path / "t.csv").open())] == SIDED
    scores = np.asarray(nib.load(tmp_path / "p.nii.gz").dataobj)
    np.testing.assert_array_equal(scores.argmax(axis=-1), truth)
    np.testing.assert_allclose(scores.sum(axis=-1), 1, atol=1e-3)
    assert np.asarray(nib.load(tmp_path / "e.nii.gz").dataobj).max() > 0


@pytest.mark.usefixtures("doors")
def test_a_crop_and_a_box_of_the_user_are_segmented_as_before(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    r, a, s = CENTRES["right"]
    box = f"{r - 9},{r + 9},{a - 13},{a + 13},{s - 9},{s + 9}"
    for number, words in enumerate([(scans / "crop.nii.gz",), (scans / "head.nii.gz", "--roi", box)]):
        assert segment(*words, "-o", tmp_path / f"{number}.nii.gz") == 0
        assert np.unique(np.asarray(nib.load(tmp_path / f"{number}.nii.gz").dataobj)).tolist() == [0, 1, 2]
    said = capsys.readouterr()
    assert "boxes placed" not in said.out
    assert "made for a box" not in said.err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"locates": False}, "brain-test would place it, but is not installed. Give it with --roi."),
        ({"smallest_ml": 50.0}, "brain-test 1.0.0 found only 0.78 ml of left hippocampus."),
        (
            {"boxes": [{"structures": [one], "side": side} for one, side in (("Liver", "left"), ("Colon", "right"))]},
            "brain-test 1.0.0 would place it, but does not know Liver, Colon.",
        ),
        (
            {
                "boxes": [
                    {"structures": ["left hippocampus"], "side": "right"},
                    {"structures": ["right hippocampus"], "side": "left"},
                ]
            },
            "What brain-test 1.0.0 found as left lies to the right of what it found as right.",
        ),
    ],
)
def test_without_usable_boxes_the_whole_scan_is_segmented_with_a_warning_as_before(
    scans: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    changes: dict,
    said: str,
) -> None:
    monkeypatch.setenv("MAESEGMENT_MODELS", str(save_models(tmp_path, **changes).user_folder))
    assert segment(scans / "head.nii.gz", "-o", tmp_path / "s.nii.gz") == 0
    warned = " ".join(capsys.readouterr().err.split())
    assert "hippo-test is made for a box around the structure" in warned
    assert said in warned
    assert np.unique(np.asarray(nib.load(tmp_path / "s.nii.gz").dataobj)).tolist() == [0, 1, 2]


def test_boxes_lie_along_the_axes_of_an_oblique_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Around a box along R, A, S the model would be given far more than it was made for."""
    store, (volume, _truth) = save_models(tmp_path), head()
    cosine, sine = np.cos(np.radians(25)), np.sin(np.radians(25))
    turn = np.array([[cosine, -sine, 0, 0], [sine, cosine, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    given: list[tuple[slice, slice, slice]] = []
    predict = Predictor.predict

    def noting(self: Predictor, scan: Volume, **options: Any) -> Prediction:
        if options.get("roi") is not None:
            given.append(options["roi"].voxels(scan.grid))
        return predict(self, scan, **options)

    monkeypatch.setattr(Predictor, "predict", noting)
    settings = InferenceSettings(device="cpu", check_familiarity=False)
    for matrix in (np.eye(4), turn):
        predictor = locating(Predictor(store.find("hippo-test"), settings), store.find("brain-test"))
        found = predictor.predict(Volume(volume.array, matrix @ volume.ijk_to_ras))
        assert [label.name for label in found.labels] == SIDED
    assert len(given) == 4
    assert given[:2] == given[2:]


@pytest.mark.usefixtures("doors")
def test_a_side_that_is_not_found_is_said_and_the_other_segmented(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    volume, _truth = head()
    volume.array[volume.array >= 900] = 300
    write_volume(tmp_path / "half.nii.gz", volume)
    assert segment(tmp_path / "half.nii.gz", "-o", tmp_path / "s.nii.gz") == 0
    said = capsys.readouterr()
    assert "brain-test 1.0.0 found no right hippocampus." in " ".join(said.err.split())
    assert "left anterior hippocampus" in said.out
    assert "right" not in said.out, "not searched is not none"
    assert np.unique(np.asarray(nib.load(tmp_path / "s.nii.gz").dataobj)).tolist() == [0, 3, 4]


def test_what_the_locator_finds_doubtful_is_told_with_the_result(tmp_path: Path) -> None:
    for largest, doubts in ((1e3, 0), (1e-3, 1)):
        store = save_models(tmp_path / str(largest), largest_ml=largest)
        found = locating(Predictor(store.find("hippo-test")), store.find("brain-test")).predict(head()[0])
        assert [label.name for label in found.labels] == SIDED
        assert sum("brain-test 1.0.0: Unlike the volumes" in text for text in found.warnings) == doubts


def test_cancelling_stops_while_boxes_are_placed_and_while_they_are_segmented(store: ModelStore) -> None:
    segmenter = locating(Predictor(store.find("hippo-test")), store.find("brain-test"))
    for wanted in ("locate", "segment"):
        reached: list[str] = []
        with pytest.raises(Cancelled):
            segmenter.predict(
                head()[0],
                progress=lambda stage, _fraction, reached=reached: reached.append(stage),
                should_cancel=lambda reached=reached, wanted=wanted: wanted in reached,
            )
        assert reached[-1] == wanted


@pytest.mark.usefixtures("doors")
def test_a_batch_of_heads_and_crops_has_columns_for_both(scans: Path, tmp_path: Path) -> None:
    words = ["batch", scans, "-m", "hippo-test", "--out", tmp_path, "--device", "cpu", "--statistics", "-q"]
    assert main(list(map(str, words))) == 0
    rows = {row["volume"]: row for row in csv.DictReader((tmp_path / "volumes.csv").open())}
    truth = head()[1]
    for value, name in enumerate(SIDED, start=1):
        ml = np.count_nonzero(truth.array == value) * SPACING**3 / 1000
        assert float(rows["head"][f"{name}_ml"]) == pytest.approx(ml, rel=1e-4)
        assert rows["crop"][f"{name}_ml"] == ""
    assert rows["head"]["anterior_ml"] == ""
    assert float(rows["crop"]["anterior_ml"]) > 0
    assert rows["head"]["warnings"] == rows["crop"]["warnings"] == ""
    counted = [row["Segment"] for row in csv.DictReader((tmp_path / "statistics.csv").open())]
    assert counted == ["anterior", "posterior", *SIDED]


@pytest.mark.parametrize("names", [SIDED, ["anterior", "posterior"]], ids=["sides", "model's"])
@pytest.mark.usefixtures("doors")
def test_heads_are_evaluated_against_labels_of_each_side_and_of_both(
    scans: Path, tmp_path: Path, names: list[str]
) -> None:
    truth = head()[1]
    array = truth.array if len(names) > 2 else np.where(truth.array > 2, truth.array - 2, truth.array)
    known = [Label(value, name) for value, name in enumerate(names, start=1)]
    write_label_map(tmp_path / "head.nii.gz", LabelMap(array, truth.ijk_to_ras), known)
    case = {"id": "head", "image": str(scans / "head.nii.gz"), "label": "head.nii.gz"}
    labels = {name: value for value, name in enumerate(["background", *names])}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels, "cases": [case]}))
    words = ["evaluate", "-m", "hippo-test", "--data", tmp_path / "dataset.json", "--out", tmp_path / "out"]
    assert main([*map(str, words), "--device", "cpu"]) == 0
    rows = list(csv.DictReader((tmp_path / "out" / "metrics.csv").open()))
    assert [(row["label"], float(row["dice"])) for row in rows] == [(name, 1.0) for name in names]


@pytest.mark.usefixtures("doors")
def test_a_result_of_both_sides_becomes_a_case_with_the_models_own_labels(scans: Path, tmp_path: Path) -> None:
    for number, ending in enumerate(("seg.nrrd", "nii.gz")):
        assert segment(scans / "head.nii.gz", "-o", tmp_path / f"s.{ending}", "-q") == 0
        store = CaseStore(tmp_path / str(number) / "hippo-test")
        words = ["cases", "add", scans / "head.nii.gz", tmp_path / f"s.{ending}", "-m", "hippo-test"]
        assert main([*map(str, words), "--store", str(store.folder)]) == 0
        (record,) = store.list()
        assert record.labels == ("anterior", "posterior")
        truth = head()[1].array
        ml = [np.isin(truth, values).sum() * SPACING**3 / 1000 for values in ((1, 3), (2, 4))]
        assert [*record.volumes_ml.values()] == pytest.approx(ml, rel=1e-3)


def test_a_console_places_boxes_and_stores_and_compares_what_was_found_in_them(
    store: ModelStore, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAESEGMENT_CASES", str(tmp_path / "cases"))
    with Console(store=store, working_folder=tmp_path) as console:
        stages: list[str] = []
        job = console.process(
            scans / "head.nii.gz", "hippo-test", "cpu", callback=lambda job: stages.append(job.progress.stage)
        )
        result = job.result()
        assert [label.name for label in result.found] == SIDED
        assert result.located_by == "brain-test 1.0.0"
        assert result.warnings == ()
        assert "locate" in stages
        truth = head()[1].array
        np.testing.assert_array_equal(result.label_map.array, np.where(truth > 0, truth + 2, 0))
        assert set(result.statistics) == {label.value for label in result.labels}
        rows = console.compare(scans / "head.nii.gz", "hippo-test", "hippo-test", device="cpu").rows
        assert [(row.label, row.dice) for row in rows] == [(name, 1.0) for name in SIDED]
        for given in (None, result.labels):
            record = console.add_case(
                result.source, result.label_map, "hippo-test", labels=given, update="case-0001" if given else ""
            )
            assert record.labels == ("anterior", "posterior")
