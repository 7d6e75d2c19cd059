"""A dataset is read as written; what is missing or contradictory is named."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from MAESegmentLib.cases.case import case_id
from MAESegmentLib.cases.checks import read_image, read_labels
from MAESegmentLib.cases.dataset import load_dataset
from MAESegmentLib.errors import DatasetError
from Testing.datasets import change, save, write_dataset


def write_json(folder: Path, **content: object) -> Path:
    file = folder / "dataset.json"
    file.write_text(json.dumps(content))
    return file


def test_folder_pairs_images_and_labels_by_name(tmp_path: Path) -> None:
    write_dataset(tmp_path)
    save(tmp_path / "unlabelled" / "more.nii.gz", np.ones((5, 5, 5), np.float32), np.eye(4))
    dataset = load_dataset(tmp_path)
    assert dataset.labels == {"front": 1, "back": 2}
    assert [case.id for case in dataset.labelled] == ["case_0", "case_1", "case_2"]
    assert dataset.cases[1].label == tmp_path / "labels" / "case_1.nii.gz"
    assert [case.id for case in dataset.cases][3:] == ["more"]


def test_listed_cases_have_paths_relative_to_the_file_and_one_path_per_channel(tmp_path: Path) -> None:
    write_dataset(tmp_path, 1, channels=2)
    save(tmp_path / "unlabelled" / "b.nii.gz", np.ones((5, 5, 5), np.float32), np.eye(4))
    file = write_json(
        tmp_path,
        labels={"background": 0, "front": 1},
        cases=[
            {
                "id": "a",
                "image": ["images/case_0_0000.nii.gz", "images/case_0_0001.nii.gz"],
                "label": "labels/case_0.nii.gz",
            },
            {"id": "b", "image": "unlabelled/b.nii.gz"},
        ],
    )
    dataset = load_dataset(file)
    assert [len(case.image) for case in dataset.cases] == [2, 1]
    assert [case.id for case in dataset.labelled] == ["a"]


def test_decathlon_dataset_json_is_understood(tmp_path: Path) -> None:
    write_dataset(tmp_path, 2)
    file = write_json(
        tmp_path,
        labels={"0": "background", "1": "front", "2": "back"},
        training=[{"image": f"./images/case_{n}.nii.gz", "label": f"./labels/case_{n}.nii.gz"} for n in range(2)],
    )
    dataset = load_dataset(file)
    assert dataset.labels == {"front": 1, "back": 2}
    assert [case.id for case in dataset.labelled] == ["case_0", "case_1"]


def test_numbered_files_beside_one_label_map_are_channels(tmp_path: Path) -> None:
    dataset = load_dataset(write_dataset(tmp_path, 1, channels=2))
    assert [(case.id, len(case.image)) for case in dataset.cases] == [("case_0", 2)]
    assert read_image(dataset.cases[0]).array.shape[0] == 2


def test_split_of_patients_selects_all_their_scans_and_prefixes_nest(tmp_path: Path) -> None:
    for name in ("p1_ED", "p1_ES", "p2_ED", "p10_ED"):
        save(tmp_path / "images" / f"{name}.nii.gz", np.ones((5, 5, 5), np.float32), np.eye(4))
    write_json(tmp_path, labels={"a": 1}, splits={"pool": ["p2", "p1"], "validation": ["p10"]})
    dataset = load_dataset(tmp_path)
    assert [case.id for case in dataset.select("pool")] == ["p2_ED", "p1_ED", "p1_ES"]
    assert [case.id for case in dataset.select("pool:1")] == ["p2_ED"]
    assert [case.id for case in dataset.select("pool:1:2")] == ["p1_ED", "p1_ES"]
    assert [case.id for case in dataset.select("p10,p2_ED")] == ["p10_ED", "p2_ED"]
    assert [case.id for case in dataset.select("validation, pool:1")] == ["p10_ED", "p2_ED"]
    assert [case.id for case in dataset.select("pool:1,pool")] == ["p2_ED", "p1_ED", "p1_ES"]
    assert {case.group for case in dataset.cases} == {"p1", "p2", "p10"}


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"cases": [{"id": "x", "image": "absent.nii.gz"}]}, "Case x"),
        ({"cases": [{"id": "x", "image": "images/case_0.nii.gz", "label": "nowhere.nii.gz"}]}, "Case x"),
        ({"cases": [{"id": "x"}]}, "number 0"),
        ({"cases": []}, "No case"),
    ],
)
def test_contradiction_in_the_dataset_is_named(tmp_path: Path, content: dict[str, object], named: str) -> None:
    write_dataset(tmp_path, 1)
    with pytest.raises(DatasetError, match=named):
        load_dataset(write_json(tmp_path, **content))


def test_label_map_without_an_image_is_named(tmp_path: Path) -> None:
    write_dataset(tmp_path, 2)
    (tmp_path / "images" / "case_1.nii.gz").unlink()
    with pytest.raises(DatasetError, match="case_1"):
        load_dataset(tmp_path)


def test_a_typing_error_in_a_split_lists_what_there_is(tmp_path: Path) -> None:
    dataset = load_dataset(write_dataset(tmp_path, splits={"pool": ["case_0"]}))
    with pytest.raises(DatasetError, match="pol") as raised:
        dataset.select("pol")
    assert "pool" in raised.value.hint


def set_value(value: int):
    def edit(array: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        array[0, 0, 0] = value
        return array, matrix

    return edit


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (set_value(9), "does not name: 9"),
        (lambda array, matrix: (array * 0, matrix), "no voxel"),
        (lambda array, matrix: (array, matrix + np.eye(4)[3] * 4), "does not lie on its image's grid"),
        (lambda array, matrix: (array[:-2], matrix), "does not lie on its image's grid"),
    ],
)
def test_label_map_that_cannot_be_learnt_from_is_refused_by_case(tmp_path: Path, edit, why: str) -> None:
    dataset = load_dataset(write_dataset(tmp_path, 1))
    change(tmp_path / "labels" / "case_0.nii.gz", edit)
    case = dataset.cases[0]
    with pytest.raises(DatasetError, match=f"(?s)Case case_0.*{why}"):
        read_labels(case, read_image(case), dataset.labels, ["front"])


@pytest.mark.parametrize("name", ["a.b_1.nii.gz", "a.b_1.seg.nrrd", "a.b_1.MHA"])
def test_case_id_is_the_name_without_the_image_suffix(name: str) -> None:
    assert case_id(Path("x") / name) == "a.b_1"


def test_real_datasets_resolve_every_split(real_data: Path) -> None:
    counts = {}
    for name in ("hippocampus_mr", "headneck_ct", "cardiac_mr"):
        dataset = load_dataset(real_data / name)
        counts[name] = (len(dataset.labelled), len(dataset.select("pool")), len(dataset.select("validation")))
        groups = [{case.group for case in dataset.select(split)} for split in ("pool", "validation")]
        assert not groups[0] & groups[1]
    assert counts["hippocampus_mr"] == (200, 160, 40)
    assert counts["headneck_ct"] == (115, 75, 40)
    assert counts["cardiac_mr"] == (50, 36, 14)


def test_what_was_not_annotated_is_read_and_is_no_label(tmp_path: Path) -> None:
    write_dataset(tmp_path, 2)
    change(tmp_path / "labels" / "case_0.nii.gz", set_value(255))
    cases = [{"id": f"c{n}", "image": f"images/case_{n}.nii.gz", "label": f"labels/case_{n}.nii.gz"} for n in range(2)]
    cases[1] = {**cases[1], "unknown": ["back", "top"]}
    labels = {"background": 0, "front": 1, "back": 2, "ignore": 255}
    dataset = load_dataset(write_json(tmp_path, labels=labels, cases=cases, splits={"train": ["c0", "c1"]}))
    assert dataset.labels == {"front": 1, "back": 2}
    assert dataset.ignore == 255
    assert [case.unknown for case in dataset.cases] == [(), ("back", "top")]
    case = dataset.cases[0]
    label_map = read_labels(case, read_image(case), dataset.labels, ["front"], dataset.ignore)
    assert label_map.array[0, 0, 0] == 255
    with pytest.raises(DatasetError, match="does not name: 255"):
        read_labels(case, read_image(case), dataset.labels, ["front"])


@pytest.mark.parametrize("kind", ["pipe", "folder", "link to nothing"])
def test_dataset_json_that_is_no_file_is_not_passed_over(tmp_path: Path, kind: str) -> None:
    file = write_dataset(tmp_path) / "dataset.json"
    file.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    else:
        file.symlink_to(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="it is not a file, but a folder, a pipe"):
        load_dataset(tmp_path)


def test_image_that_is_a_link_to_nothing_is_named_as_one(tmp_path: Path) -> None:
    image = write_dataset(tmp_path) / "images" / "case_1.nii.gz"
    image.unlink()
    image.symlink_to(".git/annex/objects/a.nii.gz")
    with pytest.raises(DatasetError, match=r"Case case_1: case_1.nii.gz is a link to .git/annex") as caught:
        load_dataset(tmp_path)
    assert "datalad get" in caught.value.hint


@pytest.mark.parametrize("channels", [1, 2])
def test_images_that_nnunet_lists_without_the_number_of_their_channel_are_read(tmp_path: Path, channels: int) -> None:
    write_dataset(tmp_path, 2, channels=2)
    for image in sorted((tmp_path / "images").iterdir()):
        if image.name.endswith("_0001.nii.gz") and channels == 1:
            image.unlink()
    training = [{"image": f"./images/case_{n}.nii.gz", "label": f"./labels/case_{n}.nii.gz"} for n in range(2)]
    dataset = load_dataset(write_json(tmp_path, labels={"0": "background", "1": "front"}, training=training))
    names = [f"case_1_000{channel}.nii.gz" for channel in range(channels)]
    assert [path.name for path in dataset.cases[1].image] == names
    assert [case.id for case in dataset.cases] == ["case_0", "case_1"]
    assert any("numbered files" in note for note in dataset.notes)
    (tmp_path / "images" / "case_0_0000.nii.gz").unlink()
    with pytest.raises(DatasetError, match=r"channel 0 is missing|case_0.nii.gz does not exist"):
        load_dataset(tmp_path / "dataset.json")


@pytest.mark.parametrize("link", [None, os.link, os.symlink])
def test_one_file_is_not_an_image_and_its_label_map_by_whatever_name(tmp_path: Path, link) -> None:
    folder = write_dataset(tmp_path, 1)
    image = label = folder / "labels" / "case_0.nii.gz"
    if link is not None:
        label = tmp_path / "other.nii.gz"
        link(image, label)
    file = write_json(tmp_path, labels={"front": 1}, cases=[{"id": "c0", "image": str(image), "label": str(label)}])
    with pytest.raises(DatasetError, match=r"Case c0: .* is both the image and its label map"):
        load_dataset(file)
    file = write_json(tmp_path, labels={"front": 1}, cases=[{"id": "c0", "image": [str(image), str(label)]}])
    with pytest.raises(DatasetError, match=r"Case c0: .* is given twice"):
        load_dataset(file)
