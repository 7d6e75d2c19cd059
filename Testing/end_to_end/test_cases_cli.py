"""`maesegment cases` as a user uses it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from MAESegmentLib.bundle import Bundle
from MAESegmentLib.cases.dataset import load_dataset
from MAESegmentLib.cases.store import CaseStore
from MAESegmentLib.cli.main import main
from MAESegmentLib.images.labels import Label
from MAESegmentLib.images.reading import read_volume
from MAESegmentLib.images.volume import LabelMap, Volume
from MAESegmentLib.images.writing import write_label_map, write_volume
from Testing.bundles import save_tiny, tiny_spec
from Testing.dicom_series import SeriesRecipe, head, structures
from Testing.phantoms import LABELS, Phantom, PhantomFactory

Files = Callable[..., tuple[Path, Path]]


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAESEGMENT_CASES", str(tmp_path / "my cases"))
    monkeypatch.setenv("MAESEGMENT_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> Bundle:
    """Knows the phantom's structures and one more."""
    labels = (*LABELS, Label(3, "MiddlePart", (9, 200, 9)))
    network = replace(tiny_spec().network, out_channels=4)
    spec = tiny_spec(name="phantom-mr", labels=labels, network=network, autoencoder=None)
    return save_tiny(tmp_path / "models" / "phantom-mr" / "1.0.0", spec)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """`files(number)` writes a scan and its segmentation."""

    def write(number: int = 1, labels: tuple[Label, ...] = LABELS, ending: str = ".seg.nrrd") -> tuple[Path, Path]:
        scan = PhantomFactory().oblique(noise=10.0, seed=number, dtype=np.int16)
        names = tmp_path / f"scan {number}.nii.gz", tmp_path / f"scan {number}{ending}"
        write_volume(names[0], scan.volume)
        write_label_map(names[1], scan.label_map, labels)
        return names

    return write


def phantom_of(number: int) -> Phantom:
    return PhantomFactory().oblique(noise=10.0, seed=number, dtype=np.int16)


def cases(*words: object) -> int:
    return main(["cases", *map(str, words)])


def store_of(tmp_path: Path) -> CaseStore:
    return CaseStore(tmp_path / "my cases" / "phantom-mr")


def test_corrected_segmentation_goes_to_the_models_store(model, files: Files, tmp_path: Path, capsys) -> None:
    assert cases("add", *files(), "-m", "phantom") == 0
    shown = capsys.readouterr()
    assert "Stored case-0001 (train)" in shown.out
    assert "front 0.1" in shown.out
    assert "Not annotated in this case: MiddlePart" in shown.err
    [record] = store_of(tmp_path).list()
    assert (record.labels, record.unknown, record.model) == (("front", "back"), ("MiddlePart",), model.reference)
    store_of(tmp_path).verify(record.id)
    assert np.array_equal(store_of(tmp_path).read_label_map(record.id).array, phantom_of(1).label_map.array)


@pytest.mark.usefixtures("model")
def test_stored_cases_are_listed_checked_given_a_role_and_removed(files: Files, tmp_path: Path, capsys) -> None:
    for number in (1, 2, 3):
        assert cases("add", *files(number), "-m", "phantom", "--absent", "middlepart") == 0
    capsys.readouterr()
    assert cases("add", *files(4)) == 0  # to the only store, which is called after the model
    assert store_of(tmp_path).get("case-0004").unknown == ("MiddlePart",)
    assert cases("remove", "case-0004", "--yes") == 0
    capsys.readouterr()
    capsys.readouterr()
    assert cases("role", "case-0002", "validation") == 0
    assert "case-0002: validation (it is never trained on" in capsys.readouterr().out
    assert cases("list", "--json") == 0
    [listed] = json.loads(capsys.readouterr().out)
    assert [(case["id"], case["role"]) for case in listed["cases"]] == [
        ("case-0001", "train"),
        ("case-0002", "check"),
        ("case-0003", "train"),
    ]
    assert cases("list") == 0
    shown = capsys.readouterr().out
    for text in (str(store_of(tmp_path).folder), "case-0003", "front 0.1", "validation", "24x24x20", "1.0.0"):
        assert text in shown
    assert cases("check") == 0
    assert capsys.readouterr().out.splitlines() == [f"sound    case-000{number}" for number in (1, 2, 3)]
    assert cases("remove", "case-0001", "case-0003", "--yes") == 0
    assert [record.id for record in store_of(tmp_path).list()] == ["case-0002"]
    assert load_dataset(store_of(tmp_path).folder).splits == {"train": (), "check": ("case-0002",)}


@pytest.mark.usefixtures("model")
def test_same_scan_again_says_how_to_update_it(files: Files, tmp_path: Path, capsys) -> None:
    scan, segmentation = files()
    cases("add", scan, segmentation, "-m", "phantom", "--role", "check")  # its name of before
    assert cases("add", scan, segmentation, "-m", "phantom") == 2
    assert "--update case-0001" in capsys.readouterr().err
    assert cases("add", scan, segmentation, "-m", "phantom", "--update", "case-0001") == 0
    assert "Updated case-0001 (validation)" in capsys.readouterr().out
    assert [record.revision for record in store_of(tmp_path).list()] == [2]


@pytest.mark.usefixtures("model")
def test_segments_of_other_names_are_asked_about_once(files: Files, tmp_path: Path, capsys) -> None:
    labels = (Label(1, "Nose"), Label(2, "Part, middle"))
    assert cases("add", *files(1, labels), "-m", "phantom") == 2
    said = capsys.readouterr().err
    assert "--new-label Nose" in said
    assert '--map "Part, middle=MiddlePart"' in said
    assert store_of(tmp_path).list() == []
    answers = ("--map", "Nose=front", "--map", "Part, middle=MiddlePart")
    assert cases("add", *files(1, labels), "-m", "phantom", *answers) == 0
    assert cases("add", *files(2, labels), "-m", "phantom") == 0
    assert [record.labels for record in store_of(tmp_path).list()] == [("front", "MiddlePart")] * 2
    assert [record.unknown for record in store_of(tmp_path).list()] == [("back",)] * 2


@pytest.mark.usefixtures("model")
def test_label_map_is_not_stored_as_its_own_scan(files: Files, tmp_path: Path, capsys) -> None:
    label_map = files(1, ending="_label.nii.gz")[1]
    (tmp_path / "other name.nii.gz").hardlink_to(label_map)
    for scan in (label_map, tmp_path / "other name.nii.gz"):
        assert cases("add", scan, label_map, "-m", "phantom") == 2
        assert "is both the image and its label map" in capsys.readouterr().err
    assert store_of(tmp_path).list() == []


@pytest.mark.usefixtures("model")
def test_segment_can_be_left_out_and_a_new_label_is_said_to_be_one(files: Files, tmp_path: Path) -> None:
    labels = (Label(1, "couch"), Label(2, "Tumour", (1, 2, 3)))
    assert cases("add", *files(1, labels), "-m", "phantom", "--map", "couch=", "--new-label", "tumour") == 0
    store = store_of(tmp_path)
    [record] = store.list()
    assert record.labels == ("tumour",)
    assert store.labels() == (Label(1, "tumour", (1, 2, 3)),)
    assert np.array_equal(store.read_label_map(record.id).array, phantom_of(1).label_map.array == 2)
    assert cases("add", *files(2, labels), "-m", "phantom") == 0


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("meanings", [(), ("--labels", "1=front, 2=back")])
def test_label_map_has_the_models_values_or_those_that_are_given(files, tmp_path, meanings) -> None:
    assert cases("add", *files(1, ending="_label.nii.gz"), "-m", "phantom", *meanings) == 0
    assert store_of(tmp_path).list()[0].labels == ("front", "back")


def test_label_map_whose_values_mean_nothing_is_refused(files: Files, tmp_path: Path, capsys) -> None:
    words = ("add", *files(1, ending="_label.nii.gz"), "--store", tmp_path / "s")
    assert cases(*words) == 2
    assert '--labels "1=anterior' in capsys.readouterr().err
    assert cases(*words, "--labels", "1=front,two=back") == 2
    assert "'two=back'" in capsys.readouterr().err
    assert cases(*words, "--labels", "1=front") == 2
    assert "values without a name: 2" in capsys.readouterr().err
    assert cases(*words, "--labels", "1=front,2=back") == 0
    assert cases("list", "--store", tmp_path / "s") == 0


def test_first_case_of_a_store_without_a_model_says_what_labels_there_are(files: Files, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    assert cases("add", *files(1), "--store", folder, "--group", "p1") == 0
    assert cases("add", *files(2, (LABELS[0], Label(2, "hind"))), "--store", folder) == 2
    assert cases("add", *files(2, (LABELS[0], Label(2, "hind"))), "--store", folder, "--new-label", "hind") == 0
    assert [record.group for record in CaseStore(folder).list()] == ["p1", "case-0002"]


@pytest.mark.usefixtures("model")
def test_region_is_what_was_annotated(files: Files, tmp_path: Path, capsys) -> None:
    words = ("-m", "phantom", "--region", "-9,9,-9,5,-8,8")
    assert cases("add", *files(), *words) == 0
    assert "Part of 'front' lies outside the region" in capsys.readouterr().err
    assert store_of(tmp_path).list()[0].partial
    assert cases("check") == 0
    assert cases("add", *files(), "-m", "phantom", "--update", "case-0001", "--region", "all") == 0
    assert not store_of(tmp_path).list()[0].partial


def test_dicom_scan_with_dicom_segmentation(model: Bundle, tmp_path: Path, capsys) -> None:
    folder = head().write(tmp_path / "dicom")
    volume = read_volume(folder)
    array = np.zeros(volume.grid.shape, np.uint8)
    array[1:4, 2:4, 2:5] = 1
    label_map = LabelMap(array, volume.ijk_to_ras)
    segmentation = write_label_map(tmp_path / "seg.dcm", label_map, LABELS[:1], source=volume)
    assert cases("add", folder, segmentation, "--store", tmp_path / "s") == 0
    store = CaseStore(tmp_path / "s")
    assert np.array_equal(store.read_label_map("case-0001").array, array)
    assert store.read_image("case-0001").grid.matches(volume.grid)
    assert [label.name for label in store.labels()] == ["front"]
    assert cases("add", folder, segmentation, "-m", model.name) == 0
    assert "This scan is CT; phantom-mr was trained on MR." in " ".join(capsys.readouterr().err.split())


@pytest.mark.usefixtures("model")
def test_rtstruct_of_a_clinic_gives_the_structures_that_are_wanted_whole(tmp_path: Path, capsys) -> None:
    """What is left out, as the outline of the body or a target within an organ, hides none of the others."""
    scan = tmp_path / "dicom"
    volume = read_volume(SeriesRecipe(np.random.default_rng(1).integers(0, 2000, (14, 30, 40))).write(scan))
    drawn = structures(volume)
    names = ["Front (1)", "inner", "", "", "not drawn", "", "body"]
    numbered = [Label(value, name or f"organ {value}") for value, name in enumerate(names, 1)]
    path = write_label_map(tmp_path / "rtstruct.dcm", drawn, numbered, source=volume)
    dataset = pydicom.dcmread(path)
    ball, inner, *_rest, body = dataset.ROIContourSequence
    inner.ContourSequence = [copy.deepcopy(ball.ContourSequence[3])]
    body.ContourSequence = copy.deepcopy(ball.ContourSequence)
    for contour in body.ContourSequence:
        middle = np.tile(np.mean(np.reshape(contour.ContourData, (-1, 3)).astype(float), axis=0), 4)
        across = np.array([-4, -4, 0, 4, -4, 0, 4, 4, 0, -4, 4, 0])
        contour.ContourData, contour.NumberOfContourPoints = [*(middle + across)], 4
    dataset.save_as(path)
    words = ["--map", "Front (1)=front", *(word for n in ("inner", "body") for word in ("--map", f"{n}="))]
    words += [word for n in (3, 4, 6) for word in ("--new-label", f"organ {n}")]
    assert cases("add", scan, path, "--store", tmp_path / "s", *words, "--new-label", "front") == 0
    assert "overlap" not in capsys.readouterr().err
    store = CaseStore(tmp_path / "s")
    front = next(label.value for label in store.labels() if label.name == "front")
    assert np.array_equal(store.read_label_map("case-0001").array == front, drawn.array == 1)


@pytest.mark.usefixtures("model")
def test_several_channels_are_several_files(files: Files, tmp_path: Path, capsys) -> None:
    scan, segmentation = files()
    other = write_volume(
        tmp_path / "t2.nii.gz", Volume(phantom_of(1).volume.array + 3, phantom_of(1).volume.ijk_to_ras)
    )
    assert cases("add", scan, other, segmentation, "-m", "phantom") == 2
    assert "needs 1 channel(s)" in capsys.readouterr().err
    assert cases("add", scan, other, segmentation, "--store", tmp_path / "two") == 0
    assert CaseStore(tmp_path / "two").read_image("case-0001").array.shape[0] == 2


@pytest.mark.usefixtures("model")
def test_damaged_case_is_found_and_can_be_removed(files: Files, tmp_path: Path, capsys) -> None:
    for number in (1, 2, 3):
        cases("add", *files(number), "-m", "phantom")
    folder = store_of(tmp_path).folder
    image = folder / "case-0001" / "image.nii.gz"
    image.write_bytes(image.read_bytes()[:-100])
    (folder / "case-0002" / "case.json").unlink()
    capsys.readouterr()
    assert cases("list", "-m", "phantom") == 0
    assert "not usable" in capsys.readouterr().err
    assert cases("check", "-m", "phantom") == 1
    lines = capsys.readouterr().out
    assert "DAMAGED  case-0001" in lines
    assert "DAMAGED  case-0002" in lines
    assert "sound    case-0003" in lines
    assert cases("check", "-m", "phantom", "case-0003") == 0
    assert cases("remove", "case-0001", "case-0002", "-y") == 0
    assert cases("check") == 0


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("add", "{scan}", "-m", "phantom"), "Give the scan, then its segmentation"),
        (("add", "{scan}", "{segmentation}"), "Which cases?"),
        (("add", "{scan}", "{scan}", "-m", "phantom"), "not a label map"),
        (("add", "{scan}", "{segmentation}", "-m", "nothing"), "no model called"),
        (("add", "{scan}", "{segmentation}", "-m", "phantom", "--absent", "x"), "--absent 'x' is not a label"),
        (("add", "{scan}", "{segmentation}", "-m", "phantom", "--map", "x=front"), "no segment of the segmentation"),
        (("add", "{scan}", "{segmentation}", "-m", "phantom", "--region", "1,2"), "not six numbers"),
        (("add", "{scan}", "{segmentation}", "-m", "phantom", "--update", "case-0004"), "no case 'case-0004'"),
        (("remove", "case-0001", "-m", "phantom"), "There are no cases in"),
        (("list", "--store", "nowhere"), "There are no cases in"),
        (("check",), "Which cases?"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_message(files, capsys, words, said: str) -> None:
    scan, segmentation = files()
    assert cases(*(word.format(scan=scan, segmentation=segmentation) for word in words)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
    assert len(error.splitlines()) > 1


@pytest.mark.usefixtures("model")
def test_nothing_is_removed_unasked(files: Files, tmp_path: Path, capsys) -> None:
    cases("add", *files(), "-m", "phantom")
    assert cases("remove", "case-0001") == 2
    assert "nobody to ask" in capsys.readouterr().err
    assert cases("remove", "case-0001", "case-0009", "-y") == 2
    assert [record.id for record in store_of(tmp_path).list()] == ["case-0001"]


def test_no_case_at_all_is_no_error(capsys) -> None:
    assert cases("list") == 0
    assert "No case is stored" in capsys.readouterr().out
