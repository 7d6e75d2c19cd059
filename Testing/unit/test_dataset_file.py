"""`dataset.json` is read as it is meant, refused, or what is not read is named: nothing is silently taken otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from MAESegmentLib.cases.dataset import CaseDataset, load_dataset
from MAESegmentLib.cases.dataset_file import parse_description
from MAESegmentLib.errors import DatasetError
from Testing.datasets import save


def image(path: Path) -> Path:
    save(path, np.arange(125, dtype=np.float32).reshape(5, 5, 5), np.eye(4))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two labelled cases, c0 and c1; the files are never opened here."""
    for name in ("images/c0", "images/c1", "labels/c0", "labels/c1"):
        image(tmp_path / f"{name}.nii.gz")
    return tmp_path


def read(folder: Path, content: Any = None, *, text: bytes | None = None) -> CaseDataset:
    (folder / "dataset.json").write_bytes(json.dumps(content).encode() if text is None else text)
    return load_dataset(folder)


def refusal(folder: Path, content: Any = None, *, text: bytes | None = None) -> str:
    with pytest.raises(DatasetError) as raised:
        read(folder, content, text=text)
    return raised.value.message


# Label values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        ({"background": 1, "A": 0, "B": 2}, '"background"'),
        ({"A": 0}, "'A'"),
        ({"0": "A", "1": "B"}, "'A'"),
        ({"background": 1, "A": 2}, '"background"'),
        ({"Background": 3}, '"background"'),
        ({"ignore": 0, "A": 1}, "'ignore'"),
    ],
)
def test_value_0_is_background_and_nothing_else(folder: Path, labels: dict, named: str) -> None:
    assert named in refusal(folder, {"labels": labels})


@pytest.mark.parametrize(
    "value", ["1.5", '"one"', "true", "1e300", "-1", "65536", "[1, 2]", "null", "{}", "NaN", "Infinity"]
)
def test_what_is_no_whole_number_is_no_label_value(folder: Path, value: str) -> None:
    message = refusal(folder, text=b'{"labels": {"background": 0, "liver": %s}}' % value.encode())
    assert "liver" in message or "not a number" in message


@pytest.mark.parametrize("value", ["1", "1.0", '"1"', "[1]"])
def test_a_whole_number_is_read_however_it_is_written(folder: Path, value: str) -> None:
    dataset = read(folder, text=b'{"labels": {"background": 0, "liver": %s}}' % value.encode())
    assert dataset.labels == {"liver": 1}


def test_labels_by_value_are_read(folder: Path) -> None:
    labels = {"0": "background", "1": "liver", "7": "2nd rib"}
    assert read(folder, {"labels": labels}).labels == {"liver": 1, "2nd rib": 7}


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"1": "2"}, "which is the name"),
        *(
            (alike, "but for case and spaces")
            for alike in (
                {"Front": 1, "front": 2},
                {"left lung": 1, " Left  Lung": 2},
                {"é": 1, "e\u0301": 2},
                {"1": "a", "2": "A"},
            )
        ),
        ({"a": 1, "b": 1}, "'a' and 'b'"),
        ({"background": 0, "whole tumour": [1, 2], "core": 3}, "'whole tumour'"),
        ({"\x1b[31mred": 1}, "control characters"),
        ({"x" * 300: 1}, "300 characters long"),
        ({" ": 1}, "is empty"),
    ],
)
def test_names_of_labels_that_cannot_be_meant_are_refused(folder: Path, labels: dict, said: str) -> None:
    assert said in refusal(folder, {"labels": labels})


names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(
    lambda text: text.strip()
)


@given(
    st.dictionaries(names, st.one_of(st.integers(-2, 70000), st.floats(), st.booleans(), names, st.none()), max_size=5)
)
def test_labels_are_read_in_full_or_refused(labels: dict) -> None:
    """No label is lost: as many come out as went in, but for the background."""
    try:
        description = parse_description({"labels": labels}, Path())
    except DatasetError:
        return
    kept = len(description.labels) + (description.ignore is not None)
    background = sum(value in (0, "0") or key.strip().lstrip("0") == "" for key, value in labels.items())
    assert kept + min(background, 1) == len(labels)
    assert all(0 < value < 65536 for value in description.labels.values())


# The file as a whole --------------------------------------------------------------------------------------------------


def test_keys_given_twice_are_refused(folder: Path) -> None:
    assert "'A' stands twice" in refusal(folder, text=b'{"labels": {"A": 1, "A": 2}}')
    assert "'labels' stands twice" in refusal(folder, text=b'{"labels": {"A": 1}, "labels": {"B": 1}}')


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_every_encoding_of_unicode_is_read(folder: Path, encoding: str) -> None:
    text = json.dumps({"labels": {"Münze 海馬": 1}}, ensure_ascii=False).encode(encoding)
    assert read(folder, text=text).labels == {"Münze 海馬": 1}


def test_other_encodings_nesting_and_other_files_are_refused(folder: Path) -> None:
    assert "not UTF-8" in refusal(folder, text='{"labels": {"Münze": 1}}'.encode("latin-1"))
    assert "nested too deeply" in refusal(folder, text=b'{"a":' * 100_000 + b"1" + b"}" * 100_000)
    assert "JSON" in refusal(folder, text=b'{"labels": {"a": ' + b"9" * 10_000 + b"}}")
    assert "list" in refusal(folder, [])


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ({"lables": {"A": 1}}, "'labels'"),
        ({"split": {"a": ["c0"]}}, "'splits'"),
        ({"Labels": {"A": 1}}, "'labels'"),
        ({"case": []}, "'cases'"),
        ({"cases": [{"image": "images/c0.nii.gz", "lable": "labels/c0.nii.gz"}]}, "'label'"),
        ({"cases": [{"image": "images/c0.nii.gz", "labels": "labels/c0.nii.gz"}]}, "'label'"),
    ],
)
def test_a_key_with_a_typing_error_is_refused_with_what_is_meant(folder: Path, content: dict, key: str) -> None:
    assert f"Is {key} meant?" in refusal(folder, content)


def test_other_keys_that_are_not_read_are_named(folder: Path) -> None:
    dataset = read(folder, {"labels": {"A": 1}, "regions_class_order": [1], "validation": [], "modality": {"0": "CT"}})
    assert dataset.notes == ("dataset.json has keys that are not read: 'regions_class_order', 'validation'.",)
    case = {"image": "images/c0.nii.gz", "label": "labels/c0.nii.gz", "mask": "x.nii.gz"}
    dataset = read(folder, {"cases": [{**case, "id": 0}]})
    assert "'mask'" in dataset.notes[0]
    assert [case.id for case in dataset.cases] == ["0"]
    assert "twice" in refusal(folder, {"cases": [case], "training": [case]})
    assert read(folder, {"labels": {"A": 1}, "note": "n"}).notes == ()


def test_a_count_that_is_not_that_of_the_cases_is_named(folder: Path) -> None:
    assert read(folder, {"numTraining": 2}).notes == ()
    assert '"numTraining": 7, but 2' in read(folder, {"numTraining": 7}).notes[0]


# Cases ----------------------------------------------------------------------------------------------------------------


def test_cases_of_nnunets_dataset_section_are_read(folder: Path) -> None:
    dataset = read(
        folder,
        {
            "channel_names": {"0": "CT"},
            "labels": {"background": 0, "A": 1},
            "numTraining": 1,
            "file_ending": ".nii.gz",
            "dataset": {"k": {"images": ["images/c0.nii.gz"], "label": "labels/c1.nii.gz"}},
        },
    )
    assert [(case.id, case.image, case.label) for case in dataset.cases] == [
        ("k", (folder / "images/c0.nii.gz",), folder / "labels/c1.nii.gz")
    ]
    assert dataset.notes == ()


def test_nnunets_folders_are_read_by_channel_and_ending(tmp_path: Path) -> None:
    for name in ("imagesTr/p1_0000", "imagesTr/p1_0001", "imagesTs/p2_0000", "imagesTs/p2_0001", "labelsTr/p1"):
        image(tmp_path / f"{name}.nii.gz")
    image(tmp_path / "labelsTr" / "p1.nii")
    content = {"labels": {"A": 1}, "channel_names": {"0": "T1", "1": "T2"}, "file_ending": ".nii.gz"}
    dataset = read(tmp_path, content)
    assert [(case.id, len(case.image), case.label is not None) for case in dataset.cases] == [
        ("p1", 2, True),
        ("p2", 2, False),
    ]
    assert "p1.nii" in dataset.notes[0]
    (tmp_path / "imagesTr/p1_0000.nii.gz").unlink()
    assert "channel 0 is missing" in refusal(tmp_path, content)


def test_another_number_of_channels_than_named_is_refused(folder: Path) -> None:
    cases = [{"image": "images/c0.nii.gz"}]
    assert "channel_names" in refusal(folder, {"cases": cases, "channel_names": {"0": "T1", "1": "T2"}})
    assert "numbered" in refusal(folder, {"cases": cases, "channel_names": {"1": "T1"}})


@pytest.mark.parametrize("other", ["images/c0.nii", "labels/c0.nii", "labels/c0.seg.nrrd", "imagesTr/c0.mha"])
def test_two_files_of_one_name_are_refused(folder: Path, other: str) -> None:
    (folder / other).parent.mkdir(exist_ok=True)
    (folder / other).write_bytes(b"")
    message = refusal(folder, {"labels": {"A": 1}})
    assert "Case c0: several" in message
    assert "c0.nii.gz" in message
    assert Path(other).name in message


@pytest.mark.parametrize(
    ("cases", "named"),
    [
        ([{"image": "images/c0.nii.gz"}, {"image": "images/../images/c0.nii.gz", "id": "x"}], "c0 and x"),
        ([{"image": ["images/c0.nii.gz", "images/c0.nii.gz"]}], "given twice"),
        ([{"image": "images/c0.nii.gz", "label": "images/c0.nii.gz"}], "both the image"),
        ([{"image": "images/c0.nii.gz", "id": 1}, {"image": "images/c1.nii.gz", "id": "1"}], "Case 1 occurs"),
        ([{"image": "images/c0.nii.gz", "id": True}], '"id"'),
        ([{"image": "images/c0.nii.gz", "label": ["a", "b"]}], "label map"),
        ([{"image": "images/c0\x00.nii.gz"}], "cannot be opened"),
        ([{"image": "i" * 5000}], "cannot be opened"),
        ([{"image": "\ud800.nii.gz"}], "cannot be opened"),
        ([{"image": 5}], "no image path"),
        *(([{"image": "images/c0.nii.gz", "unknown": wrong}], "not a list of label names") for wrong in ("back", [1])),
        ("images/c0.nii.gz", "not a list"),
    ],
)
def test_cases_that_cannot_be_meant_are_refused(folder: Path, cases: Any, named: str) -> None:
    assert named in refusal(folder, {"cases": cases})


def test_a_structure_that_is_said_to_be_unknown_and_is_no_label_is_named(folder: Path) -> None:
    case = {"image": "images/c0.nii.gz", "label": "labels/c0.nii.gz", "unknown": ["Liver", "spleeen"]}
    (note,) = read(folder, {"labels": {"liver": 1, "spleen": 2}, "cases": [case]}).notes
    assert "not a label of the dataset: 'spleeen'" in note


def test_files_outside_the_folder_and_shared_label_maps_are_named(folder: Path) -> None:
    inner = folder / "inner"
    inner.mkdir()
    cases = [{"image": f"../images/c{n}.nii.gz", "label": "../labels/c0.nii.gz"} for n in range(2)]
    notes = read(inner, {"cases": cases}).notes
    assert "4 file(s) of dataset.json lie outside its folder" in notes[0]
    assert "2 cases have the same label map" in notes[1]


@pytest.mark.parametrize(
    ("splits", "named"),
    [
        ({"pool": ["c0", "stranger"]}, "'stranger'"),
        ({"pool": "c0"}, "not a list"),
        ({"pool": ["c0", "c0"]}, "twice"),
        ({"pool": [{"train": "c0"}]}, "not a list"),
        ({"pool:8": ["c0"]}, "'pool:8'"),
        ([{"train": ["c0"]}], "not an object"),
    ],
)
def test_a_split_that_cannot_be_meant_is_refused(folder: Path, splits: Any, named: str) -> None:
    assert named in refusal(folder, {"splits": splits})


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_a_case_of_any_name_keeps_it(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    folder = tmp_path_factory.mktemp("names")
    stem = f"a{name}"
    try:
        for kind in ("images", "labels"):
            (folder / kind).mkdir()
            (folder / kind / f"{stem}.nii.gz").write_bytes(b"")
    except OSError:
        return  # the file system has no such name
    (case,) = load_dataset(folder).cases
    assert case.id == stem
    assert case.label == folder / "labels" / f"{stem}.nii.gz"


def test_a_name_that_is_not_utf8_is_kept(tmp_path: Path) -> None:
    stem = b"M\xfcller".decode("utf-8", "surrogateescape")
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / f"{stem}.nii.gz").write_bytes(b"")
    (case,) = load_dataset(tmp_path).cases
    assert (case.id, case.label) == (stem, tmp_path / "labels" / f"{stem}.nii.gz")


def test_number_of_thousands_of_digits_is_refused_in_our_words(folder: Path) -> None:
    text = b'{"labels": {"background": 0, "liver": 1}, "numTraining": ' + b"9" * 5000 + b"}"
    assert refusal(folder, text=text).endswith("cannot be read as JSON: it has a number of 5000 digits")
