"""The files of a case: exact, complete, and silent about the patient; what is damaged is found and kept."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import Dataset

from MAESegmentLib.cases.dataset import load_dataset
from MAESegmentLib.cases.store import CaseStore
from MAESegmentLib.cases.submission import CaseSubmission
from MAESegmentLib.errors import DatasetError
from MAESegmentLib.images.reading import read_volume
from MAESegmentLib.images.volume import LabelMap, Volume
from Testing.dicom_series import head
from Testing.phantoms import LABELS, Phantom

#: What the test's DICOM series says of the patient, and the beginning of every identifier in it.
SECRETS = (b"Doe^", b"Jane", b"MRN-", b"19700102", b"20240229", b"Elsewhere", b"SECRET", b"1.2.826.0")


def stored(store: CaseStore, phantom: Phantom, **changes):
    return store.add(phantom.volume, phantom.label_map, CaseSubmission(**{"labels": LABELS, **changes}))


def picture_of(store: CaseStore, case: str) -> np.ndarray:
    """(rows, columns, 3), 0 to 255."""
    picture = matplotlib.image.imread(store.folder / case / "thumbnail.png")
    return (picture * 255).round().astype(int)[..., :3]


@pytest.mark.parametrize("kind", ["__call__", "las", "oblique", "anisotropic"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_voxel_stays_where_it_is_in_the_world(store: CaseStore, phantom, kind: str, channels: int) -> None:
    scan = getattr(phantom, kind)(channels=channels, noise=20.0, seed=4)
    record = stored(store, scan)
    volume, label_map = store.read_image(record.id), store.read_label_map(record.id)
    corners = np.array([[i, j, k, 1] for i in (0, 23) for j in (0, 23) for k in (0, 8)]).T
    for matrix in (volume.ijk_to_ras, label_map.ijk_to_ras):
        assert np.abs((matrix - scan.volume.ijk_to_ras) @ corners).max() < 1e-4
    assert np.array_equal(volume.array, scan.volume.array)
    assert np.array_equal(label_map.array, scan.label_map.array)
    assert record.spacing == pytest.approx(scan.volume.grid.spacing)
    header = nib.load(store.folder / "case-0001" / "label.nii.gz").header
    for form in (header.get_qform(), header.get_sform()):  # other readers take one or the other
        assert np.allclose(form, scan.volume.ijk_to_ras, atol=1e-4)
    store.verify(record.id)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("int16", "int16"),
        ("uint8", "uint8"),
        ("uint16", "uint16"),
        ("float32", "float32"),
        ("float64", "float32"),
        ("float16", "float32"),
        ("int64", "int32"),
        ("uint64", "int32"),
        (">i2", "int16"),
        ("bool", "uint8"),
    ],
)
def test_voxel_type_loses_nothing_that_is_computed_with(store: CaseStore, phantom, given: str, kept: str) -> None:
    scan = phantom(dtype=np.float64)
    array = (scan.volume.array > 100) if given == "bool" else (scan.volume.array / 5).astype(given)
    record = store.add(Volume(array, scan.volume.ijk_to_ras), scan.label_map, CaseSubmission(LABELS))
    read = store.read_image(record.id).array
    assert read.dtype == np.dtype(kept)
    assert np.array_equal(read, array.astype(kept))
    store.verify(record.id)


def test_voxels_without_a_value_get_the_lowest(store: CaseStore, phantom) -> None:
    scan = phantom(noise=5.0, channels=2)
    lowest = np.nanmin(scan.volume.array[1])
    scan.volume.array[1, 0, 0, 0] = np.nan
    record = stored(store, scan)
    assert store.read_image(record.id).array[1, 0, 0, 0] == lowest
    store.verify(record.id)


@pytest.mark.parametrize(("value", "why"), [(np.inf, "infinite"), (np.nan, "no image"), (3.0, "blank")])
def test_image_that_nobody_could_read_again_is_refused(store: CaseStore, phantom, value: float, why: str) -> None:
    scan = phantom(channels=2)
    if np.isinf(value):
        scan.volume.array[1, 0, 0, 0] = value
    else:
        scan.volume.array[1] = value
    with pytest.raises(DatasetError, match=f"Channel 2.*{why}"):
        stored(store, scan)


def test_nothing_in_the_store_tells_whose_scan_it_is(store: CaseStore, tmp_path: Path) -> None:
    """Names, numbers and dates of a DICOM series, and the path it was read from."""

    def name_the_patient(_number: int, dataset: Dataset) -> None:
        dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "Doe^Jane", "MRN-4711", "19700102"
        dataset.StudyDate, dataset.InstitutionName, dataset.SeriesDescription = "20240229", "St. Elsewhere", "SECRET"

    volume = read_volume(head().write(tmp_path / "Doe^Jane 19700102", name_the_patient))
    array = np.zeros(volume.grid.shape, np.uint8)
    array[1:3, 1:3, 2:4] = 1
    label_map = LabelMap(array, volume.ijk_to_ras)
    model = {"name": "tiny", "version": "1.0.0", "hash": "0" * 64}
    store.add(volume, label_map, CaseSubmission(LABELS, absent=("back",), model=model))
    written = [path for path in store.folder.rglob("*") if path.is_file()]
    assert len(written) >= 6
    for path in written:
        content = path.read_bytes()
        content += gzip.decompress(content) if path.suffix == ".gz" else b""
        for word in (*SECRETS, str(tmp_path).encode(), tmp_path.name.encode()):
            assert word not in content, (path, word)
    for name in ("image", "label"):
        header = nib.load(store.folder / "case-0001" / f"{name}.nii.gz").header
        assert [bytes(header[field]).strip(b"\0") for field in ("descrip", "aux_file", "db_name", "intent_name")] == [
            b""
        ] * 4


def test_thumbnail_shows_the_labels_in_their_colours(store: CaseStore, phantom) -> None:
    record = stored(store, phantom(noise=10.0))
    picture = picture_of(store, record.id)
    assert max(picture.shape[:2]) == 160
    pixels = {tuple(pixel) for pixel in picture[..., :3].reshape(-1, 3)}
    assert {label.colour for label in LABELS} <= pixels
    assert len({pixel for pixel in pixels if len(set(pixel)) == 1}) > 20


def test_thumbnail_has_the_patients_right_on_the_left_and_the_front_above(store: CaseStore, phantom) -> None:
    """Whatever the order of the scan's axes: "front" is at the right (2, 4, 1), "back" at the left."""
    for kind in ("__call__", "las", "oblique"):
        record = stored(store, getattr(phantom, kind)(noise=10.0, seed=len(kind)))
        picture = picture_of(store, record.id)
        middles = [np.argwhere((picture == label.colour).all(axis=-1)).mean(axis=0) for label in LABELS]
        assert middles[0][0] < middles[1][0]
        assert middles[0][1] < middles[1][1]


def test_thick_slices_are_shown_as_they_were_taken(store: CaseStore, phantom) -> None:
    scan = phantom("RSA", shape=(24, 30, 9), spacing=(1.0, 1.0, 3.0), noise=5.0)
    scan.label_map.array[2:-2, 2:-2, 4] = 1
    record = stored(store, scan)
    picture = matplotlib.image.imread(store.folder / record.id / "thumbnail.png")
    assert picture.shape[0] / picture.shape[1] == pytest.approx(30 / 24, abs=0.02)


# Damage ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["case.json", "image.nii.gz", "label.nii.gz"])
@pytest.mark.parametrize("how", ["missing", "cut off", "empty"])
def test_damaged_case_is_reported_never_deleted_and_disturbs_no_other(store, add, file: str, how: str) -> None:
    add(1)
    add(2)
    path = store.folder / "case-0001" / file
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: 0 if how == "empty" else -20])
    with pytest.raises(DatasetError, match="case-0001") as raised:
        store.verify("case-0001")
    assert raised.value.hint
    store.verify("case-0002")
    add(3)
    assert (store.folder / "case-0001").is_dir()
    assert {record.id for record in store.list()} >= {"case-0002", "case-0003"}
    if file == "case.json" or how == "missing":
        assert [path.name for path, _ in store.scan()[1]] == ["case-0001"]
        assert [case.id for case in load_dataset(store.folder).cases] == ["case-0002", "case-0003"]


@pytest.mark.parametrize(("file", "named"), [("image.nii.gz", "image"), ("label.nii.gz", "label map")])
def test_changed_voxel_is_found(store: CaseStore, add, file: str, named: str) -> None:
    add(1)
    path = store.folder / "case-0001" / file
    image = nib.load(path)
    array = np.asarray(image.dataobj).copy()
    array[12, 12, 10] += 1
    nib.save(nib.Nifti1Image(array, image.affine), path)
    with pytest.raises(DatasetError, match=f"case-0001: the {named} is not the one"):
        store.verify("case-0001")


def test_label_map_of_another_scan_is_found(store: CaseStore, add, phantom) -> None:
    add(1)
    stored(store, phantom.las(noise=1.0, dtype=np.int16))
    shutil.copy(store.folder / "case-0002" / "label.nii.gz", store.folder / "case-0001" / "label.nii.gz")
    with pytest.raises(DatasetError, match="grid"):
        store.verify("case-0001")


def test_lost_label_table_is_put_together_from_the_cases(store: CaseStore, add) -> None:
    for number in (1, 2):
        add(number)
    labels = store.labels()
    for damage in ("", "{", '{"maesegment_cases": 1}'):
        (store.folder / "labels.json").write_text(damage)
        assert store.labels() == labels
    assert add(3).id == "case-0003"
    assert json.loads((store.folder / "labels.json").read_text())["last_case"] == 3


def test_dataset_json_that_is_lost_or_old_is_written_anew(store: CaseStore, add) -> None:
    add(1)
    add(2)
    good = store.dataset_path.read_text()
    for damage in ("", good.replace("case-0002", "case-0009")):
        (store.folder / "dataset.json").write_text(damage)
        assert [case.id for case in load_dataset(store.folder / "dataset.json").cases] == ["case-0001", "case-0002"]
        assert store.dataset_path.read_text() == good
    shutil.rmtree(store.folder / "case-0001")
    assert [case.id for case in load_dataset(store.folder).cases] == ["case-0002"]


def test_case_folder_that_was_copied_in_counts(store: CaseStore, add) -> None:
    add(1)
    shutil.copytree(store.folder / "case-0001", store.folder / "case-0007")
    shutil.copytree(store.folder / "case-0001", store.folder / "case-0001 copy")
    assert [record.id for record in store.list()] == ["case-0001", "case-0007"]
    assert add(2).id == "case-0008"
