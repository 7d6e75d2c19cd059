"""Cases go into the store and out again, and `dataset.json` always tells of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from MAESegmentLib.cases.checks import read_image, read_labels
from MAESegmentLib.cases.dataset import load_dataset
from MAESegmentLib.cases.store import CaseStore
from MAESegmentLib.cases.submission import CaseSubmission
from MAESegmentLib.errors import ConfigurationError, DatasetError, DuplicateCase, GeometryError
from MAESegmentLib.images.labels import Label
from MAESegmentLib.images.volume import LabelMap, Volume
from Testing.phantoms import LABELS, Phantom

Scan = Callable[[int], Phantom]


def ids(store: CaseStore) -> list[str]:
    return [record.id for record in store.list()]


def test_store_that_does_not_exist_yet_is_empty(store: CaseStore, scan: Scan) -> None:
    assert store.scan() == ([], [])
    assert store.labels() == ()
    assert store.remembered() == {}
    assert store.find(scan(1).volume) is None
    assert not store.folder.exists()


def test_record_says_what_was_stored(store: CaseStore, scan: Scan, add) -> None:
    model = {"name": "tiny", "version": "1.0.0", "hash": "0" * 64}
    record = add(1, model=model, unknown=("middle",), group="p1", role="check")
    assert (record.id, record.role, record.group, record.revision) == ("case-0001", "check", "p1", 1)
    assert (record.labels, record.unknown, record.partial) == (("front", "back"), ("middle",), False)
    assert (record.channels, record.shape, record.model) == (1, (24, 24, 20), model)
    voxels = np.count_nonzero(scan(1).label_map.array == 1)
    assert record.volumes_ml["front"] == pytest.approx(voxels / 1000, abs=1e-4)
    assert store.find(scan(1).volume) == record
    (store.folder / "case-0001" / "image.nii.gz").write_bytes(b"not opened")
    assert store.list() == [record]
    assert store.get("case-0001") == record


def test_dataset_json_tells_of_every_case(store: CaseStore, add) -> None:
    add(1, group="p1")
    add(2, role="check", unknown=("middle",))
    dataset = load_dataset(store.dataset_path)
    assert dataset == load_dataset(store.folder)
    assert dataset.labels == {"front": 1, "back": 2}
    assert dataset.ignore is None
    assert dataset.splits == {"train": ("case-0001",), "check": ("case-0002",)}
    assert [(case.id, case.group, case.unknown) for case in dataset.cases] == [
        ("case-0001", "p1", ()),
        ("case-0002", "case-0002", ("middle",)),
    ]
    for case in dataset.cases:
        read_labels(case, read_image(case), dataset.labels, ["front"])
    written = json.loads((store.folder / "dataset.json").read_text())
    assert written["cases"][0]["image"] == "case-0001/image.nii.gz"


def test_label_values_are_those_of_the_store_whatever_the_label_map_has(store: CaseStore, scan: Scan, add) -> None:
    add(1)
    phantom = scan(2)
    swapped = LabelMap(np.array([0, 700, 7], np.uint16)[phantom.label_map.array], phantom.volume.ijk_to_ras)
    labels = (Label(7, "BACK"), Label(700, "front"))
    record = store.add(phantom.volume, swapped, CaseSubmission(labels))
    assert record.labels == ("back", "front")
    assert np.array_equal(store.read_label_map(record.id).array, phantom.label_map.array)


def test_two_segments_of_one_label_become_one(store: CaseStore, scan: Scan) -> None:
    phantom = scan(1)
    record = store.add(phantom.volume, phantom.label_map, CaseSubmission((Label(1, "brain"), Label(2, "brain"))))
    assert record.labels == ("brain",)
    assert np.array_equal(store.read_label_map(record.id).array, phantom.label_map.array > 0)


def test_new_label_is_unknown_in_the_cases_before(store: CaseStore, scan: Scan, add) -> None:
    add(1)
    phantom = scan(2)
    store.add(phantom.volume, phantom.label_map, CaseSubmission((LABELS[0], Label(2, "rear", (1, 2, 3)))))
    assert [record.unknown for record in store.list()] == [("rear",), ("back",)]
    dataset = load_dataset(store.folder)
    assert dataset.labels == {"front": 1, "back": 2, "rear": 3}
    assert [case.unknown for case in dataset.cases] == [("rear",), ("back",)]
    assert store.labels()[2] == Label(3, "rear", (1, 2, 3))


def test_label_that_no_case_has_any_more_is_no_label_of_the_dataset_but_keeps_its_value(store, scan: Scan, add) -> None:
    add(1)
    phantom = scan(2)
    typo = (Label(1, "frnt"), LABELS[1])
    store.add(phantom.volume, phantom.label_map, CaseSubmission(typo))
    assert load_dataset(store.folder).labels == {"front": 1, "back": 2, "frnt": 3}
    add(2, replace="case-0002")
    assert load_dataset(store.folder).labels == {"front": 1, "back": 2}
    add(3, labels=(Label(1, "new"), LABELS[1]))
    assert load_dataset(store.folder).labels == {"front": 1, "back": 2, "new": 4}


def test_empty_label_is_unknown_unless_declared_absent(store: CaseStore, scan: Scan) -> None:
    for number, absent in ((1, ()), (2, ("Back",))):
        phantom = scan(number)
        front_only = LabelMap(phantom.label_map.array % 2, phantom.volume.ijk_to_ras)
        store.add(phantom.volume, front_only, CaseSubmission(LABELS, absent=absent))
    first, second = store.list()
    assert (first.labels, first.unknown) == (("front",), ("back",))
    assert (second.labels, second.unknown) == (("front", "back"), ())
    assert second.volumes_ml["back"] == 0.0


def test_outside_the_region_is_unknown(store: CaseStore, scan: Scan, add) -> None:
    region = (-9.0, 9.0, -9.0, 5.0, -8.0, 8.0)
    record = add(1, region=region)
    array = store.read_label_map(record.id).array
    phantom = scan(1)
    indices = np.stack(np.meshgrid(*map(np.arange, array.shape), indexing="ij"), axis=-1)
    ras = indices @ phantom.volume.ijk_to_ras[:3, :3].T + phantom.volume.ijk_to_ras[:3, 3]
    inside = np.all((ras >= region[::2]) & (ras <= region[1::2]), axis=-1)
    assert np.array_equal(array == 255, ~inside)
    assert np.array_equal(array[inside], phantom.label_map.array[inside])
    assert record.partial
    dataset = load_dataset(store.folder)
    assert (dataset.labels, dataset.ignore) == ({"front": 1, "back": 2}, 255)
    case = dataset.cases[0]
    assert read_labels(case, read_image(case), dataset.labels, ["front"], dataset.ignore).array.max() == 255


def test_update_keeps_number_role_group_and_region_unless_told_otherwise(store: CaseStore, scan: Scan, add) -> None:
    region = (-9.0, 9.0, -9.0, 5.0, -8.0, 8.0)
    add(1, role="check", group="p1", region=region)
    first = add(2)
    updated = add(1, replace="case-0001")
    assert (updated.role, updated.group, updated.region, updated.revision) == ("check", "p1", region, 2)
    assert updated.partial
    whole = add(1, replace="case-0001", region=(), role="train")
    assert (whole.role, whole.region, whole.partial, whole.revision) == ("train", None, False, 3)
    assert store.list() == [whole, first]
    assert np.array_equal(store.read_label_map("case-0001").array, scan(1).label_map.array)


def test_case_is_not_updated_with_another_scan(store: CaseStore, scan: Scan, add) -> None:
    record = add(1)
    with pytest.raises(DatasetError, match="not the one that is stored as case-0001"):
        add(2, replace="case-0001")
    wider = Volume(scan(1).volume.array.astype(np.float64), scan(1).volume.ijk_to_ras)
    with pytest.raises(DatasetError, match="not the one"):
        store.add(wider, scan(1).label_map, CaseSubmission(LABELS, replace="case-0001"))
    assert store.list() == [record]


def test_scan_that_is_there_already_is_refused_and_named(store: CaseStore, add) -> None:
    add(1)
    add(2)
    for changes in ({}, {"replace": "case-0002"}):
        with pytest.raises(DuplicateCase, match="case-0001") as raised:
            add(1, **changes)
        assert raised.value.details == {"case": "case-0001"}
    assert [record.revision for record in store.list()] == [1, 1]


def test_number_of_a_removed_case_is_not_given_again(store: CaseStore, add) -> None:
    add(1)
    add(2)
    store.remove("case-0002")
    assert ids(store) == ["case-0001"]
    assert [case.id for case in load_dataset(store.folder).cases] == ["case-0001"]
    assert add(3).id == "case-0003"
    with pytest.raises(DatasetError, match=r"case-0002.*\nStored are: case-0001, case-0003"):
        store.remove("case-0002")


def test_role_decides_the_split(store: CaseStore, add) -> None:
    add(1)
    add(2)
    assert store.set_role("case-0001", "check").role == store.set_role("case-0001", "validation").role == "check"
    dataset = load_dataset(store.folder)
    assert dataset.splits == {"train": ("case-0002",), "check": ("case-0001",)}
    assert dataset.select("validation") == dataset.select("check")
    assert dataset.select("validation:1")[0].id == "case-0001"
    store.verify("case-0001")
    with pytest.raises(ConfigurationError, match="train, validation"):
        store.set_role("case-0001", "test")
    with pytest.raises(DatasetError, match="no case"):
        store.set_role("case-0009", "check")


def test_answers_are_remembered(store: CaseStore) -> None:
    store.remember({"Parotis links": "LeftParotid", "couch": None})
    store.remember({"couch": "Table"})
    assert CaseStore(store.folder).remembered() == {"Parotis links": "LeftParotid", "couch": "Table"}
    (store.folder / "mapping.json").write_text("{")
    assert store.remembered() == {}


@pytest.mark.parametrize(
    ("why", "error"),
    [
        ("shift", GeometryError),
        ("empty", DatasetError),
        ("unnamed", DatasetError),
        ("reserved", DatasetError),
        ("labels", DatasetError),
    ],
)
def test_case_that_cannot_be_learnt_from_leaves_no_trace(store: CaseStore, scan: Scan, why: str, error: Any) -> None:
    phantom = scan(1)
    array, matrix, labels = phantom.label_map.array, phantom.volume.ijk_to_ras, LABELS
    if why == "shift":
        matrix = matrix + np.eye(4)[3] * 3
    elif why == "empty":
        array = array * 0
    elif why == "unnamed":
        labels = LABELS[:1]
    elif why == "labels":  # more than a file can tell apart
        labels = tuple(Label(value, f"l{value}") for value in range(1, 256))
    else:
        labels = (replace(LABELS[0], name="Background"), LABELS[1])
    with pytest.raises(error) as raised:
        store.add(phantom.volume, LabelMap(array, matrix), CaseSubmission(labels))
    assert raised.value.hint
    assert store.scan() == ([], [])
    assert not store.folder.exists() or [path.name for path in store.folder.iterdir()] == [".lock"]


def test_what_is_refused_leaves_the_cases_as_they_were(store: CaseStore, scan: Scan, add, phantom) -> None:
    record = add(1)
    other = phantom(channels=2, noise=1.0)
    with pytest.raises(DatasetError, match="2 channels"):
        store.add(other.volume, other.label_map, CaseSubmission(LABELS))
    phantom = scan(1)
    with pytest.raises(DatasetError):
        store.add(phantom.volume, phantom.label_map, CaseSubmission(LABELS[:1], replace=record.id))
    assert store.list() == [record]
    store.verify(record.id)


def test_store_of_the_first_version_knows_its_scans(store: CaseStore, scan: Scan, add) -> None:
    """Its hashes, of voxels in the array's order, are recognised beside those of cases that are added now."""
    image, label_map = add(1), store.read_label_map("case-0001").array
    file = store.folder / image.id / "case.json"
    content = json.loads(file.read_text())
    content["image_hash"], content["label_hash"] = map(first_hash, (scan(1).volume.array, label_map))
    file.write_text(json.dumps(content))
    second = add(2)
    assert (store.find(scan(1).volume), store.find(scan(2).volume)) == (store.get("case-0001"), second)
    store.verify("case-0001")
    with pytest.raises(DuplicateCase) as raised:
        add(1)
    assert raised.value.details == {"case": "case-0001"}
    assert add(1, replace="case-0001").image_hash == content["image_hash"]
    store.verify("case-0001")
    assert second.image_hash.startswith("2:")


def first_hash(array: np.ndarray) -> str:
    return hashlib.sha256(f"{array.shape}{array.dtype.str}".encode() + array.tobytes()).hexdigest()
