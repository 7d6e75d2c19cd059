"""Which scans without labels are known to show a patient who is held out, and what is said where none can tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydicom.uid import generate_uid
from torch.nn.functional import interpolate

from MAESegmentLib.bundle import Bundle
from MAESegmentLib.cases.case import Case
from MAESegmentLib.cases.dataset import CaseDataset, load_dataset
from MAESegmentLib.images.labels import Label
from MAESegmentLib.images.reading import read_volume
from MAESegmentLib.images.volume import Volume
from MAESegmentLib.training.data.holdout import Holdout, plan_holdout
from MAESegmentLib.training.data.labelling import plan_labels
from MAESegmentLib.training.data.prepared import CaseCache
from MAESegmentLib.training.data.preparing import Prepared, prepare_cases
from MAESegmentLib.training.data.recognising import Patients
from MAESegmentLib.training.data.unlabelled import Unlabelled, prepare_unlabelled, scans_without_labels
from MAESegmentLib.training.run_context import UNATTENDED
from Testing.bundles import save_tiny, tiny_spec
from Testing.datasets import save, write_dataset
from Testing.dicom_series import SeriesRecipe, edit

LABELS = (Label(1, "front"), Label(2, "back"))


def patient(seed: int, shape: tuple[int, int, int] = (24, 22, 20)) -> Volume:
    """Smooth anatomy that no other seed has."""
    coarse = torch.from_numpy(np.random.default_rng(seed).normal(100.0, 40.0, (1, 1, 5, 5, 5)))
    array = interpolate(coarse, size=shape, mode="trilinear", align_corners=True)[0]
    return Volume(array.numpy().astype(np.float32), np.eye(4))


def resampled(volume: Volume, shape: tuple[int, int, int]) -> Volume:
    array = interpolate(torch.from_numpy(volume.array)[None], size=shape, mode="trilinear", align_corners=True)[0]
    step = [(n - 1) / (m - 1) for n, m in zip(volume.array.shape[1:], shape, strict=True)]
    return Volume(array.numpy() * 3.0 + 50.0, volume.ijk_to_ras @ np.diag([*step, 1.0]))


def keep(path: Path, volume: Volume) -> None:
    save(path, volume.array[0], volume.ijk_to_ras)


@pytest.fixture
def base(tmp_path: Path) -> Bundle:
    return save_tiny(tmp_path / "base", tiny_spec(labels=LABELS))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four cases of four patients."""
    folder = write_dataset(tmp_path / "data", 4, splits={"pool": ["case_0", "case_1"], "validation": ["case_3"]})
    labels = np.zeros((24, 22, 20), np.uint8)
    labels[4:9, 4:9, 4:9], labels[12:16, 12:16, 12:16] = 1, 2
    for n in range(4):
        keep(folder / "images" / f"case_{n}.nii.gz", patient(n))
        save(folder / "labels" / f"case_{n}.nii.gz", labels, np.eye(4))
    return folder


@pytest.mark.parametrize(
    ("group", "path", "is_known"),
    [
        ("sub-01", "sub-01/ses-2/anat/T1w.nii.gz", True),
        ("PAT 7", "PAT_7/study/series", True),
        ("PAT 7", "pat_7-later.nrrd", True),
        ("PAT 7", "PAT_70/study/series", False),
        ("M\N{LATIN SMALL LETTER U WITH DIAERESIS}ller", "Mu\N{COMBINING DIAERESIS}ller b.nii.gz", True),
        ("1", "10.nii.gz", False),
    ],
)
def test_the_name_of_a_patient_is_recognised_in_folders_and_however_it_is_spelt(group, path, is_known) -> None:
    patients = Patients()
    patients.hold_out([Case("c", (Path("/labelled/c.nii.gz"),), group=group)])
    assert bool(patients.by_name(Case("scan", (Path("/scans") / path,)))) == is_known


def prepared_of(folder: Path, base: Bundle, dataset: CaseDataset, holdout: Holdout) -> Prepared:
    plan, cache = plan_labels(dataset.labels, base.labels), CaseCache(1.0, folder / "prepared")
    return prepare_cases(holdout.cases, base.spec.preprocessing, cache, learnt=(dataset, plan))


def found(folder: Path, base: Bundle, scans: Path, validation: str, split: str | None = None) -> Unlabelled:
    dataset = load_dataset(folder)
    holdout = plan_holdout(dataset, split, validation, 0)
    prepared, recipe = prepared_of(folder, base, dataset, holdout), base.spec.preprocessing
    return prepare_unlabelled(scans_without_labels([scans]), prepared, holdout, dataset, base, recipe, UNATTENDED)


@pytest.mark.parametrize(("validation", "split"), [("case_3", None), ("none", "pool")], ids=["held out", "not read"])
@pytest.mark.parametrize("shape", [(12, 11, 10), (36, 33, 30)], ids=["coarser", "finer"])
def test_a_resampled_copy_of_a_held_out_scan_is_known(
    shape: tuple[int, int, int], validation: str, split: str | None, folder: Path, base: Bundle, tmp_path: Path
) -> None:
    keep(tmp_path / "more" / "renamed.nii.gz", resampled(patient(3), shape))
    keep(tmp_path / "more" / "another.nii.gz", patient(9))
    unlabelled = found(folder, base, tmp_path / "more", validation, split)
    assert unlabelled.left_out == ("renamed.nii.gz: it is the image of case case_3, or nearly so.",)
    assert len(unlabelled.hashes) == 1


def test_a_scan_that_is_called_as_a_held_out_patient_is_left_out(folder: Path, base: Bundle, tmp_path: Path) -> None:
    """Of those that are learnt from, other scans may be learnt from as well."""
    more = tmp_path / "more"
    for n, name in enumerate(("case_3_t2", "CASE_3", "case_3/later", "case_33", "case_1_t2")):
        keep(more / f"{name}.nii.gz", patient(20 + n))
    unlabelled = found(folder, base, more, "case_3")
    why = "by its name it is of the patient of case case_3, who is held out."
    assert sorted(unlabelled.left_out) == [f"{n}: {why}" for n in ("CASE_3.nii.gz", "case_3_t2.nii.gz", "later.nii.gz")]
    assert len(unlabelled.hashes) == 2
    assert len(found(folder, base, more, "loo").hashes) == 1, "in its round each case is held out"


def write_dicom(folder: Path, seed: int, patient_id: str, **uids: str) -> Path:
    array = patient(seed).array[0].T
    recipe = SeriesRecipe(array, pixel_spacing=(1.0, 1.0), slice_step=(0.0, 0.0, 1.0), intercept=0.0, **uids)
    return recipe.write(folder, edit(PatientID=patient_id, Modality="MR"))


def test_another_series_of_a_held_out_patient_is_known_by_its_headers(
    folder: Path, base: Bundle, tmp_path: Path
) -> None:
    study, labels = generate_uid(), read_volume(folder / "labels" / "case_0.nii.gz").array[0].astype(np.uint8)
    for n in range(4):
        (folder / "images" / f"case_{n}.nii.gz").unlink()
        uids: dict[str, Any] = {"study_uid": study} if n == 3 else {}
        matrix = read_volume(write_dicom(folder / "images" / f"case_{n}", n, f"P{n}", **uids)).ijk_to_ras
        save(folder / "labels" / f"case_{n}.nii.gz", labels, matrix)
    more = tmp_path / "more"
    write_dicom(more / "T2", 31, "P3")
    write_dicom(more / "same study", 32, "", study_uid=study)
    write_dicom(more / "learnt", 33, "P1")
    write_dicom(more / "stranger", 34, "P9")
    unlabelled = found(folder, base, more, "case_3")
    why = "its DICOM headers are of the patient of case case_3, who is held out."
    assert sorted(unlabelled.left_out) == [f"T2: {why}", f"same study: {why}"]
    assert (len(unlabelled.hashes), unlabelled.unchecked) == (2, 0)
    assert unlabelled.describe() == "2 scans without labels to learn from; 2 could not be used."
    for n in range(4):  # as of who removes names: the same for everybody, which says nothing
        write_dicom(folder / "images" / f"case_{n}", n, "ANON")
    write_dicom(more / "T2", 31, "ANON")
    assert len(found(folder, base, more, "case_3").hashes) == 4
    assert found(folder, base, more, "case_3").unchecked == 4


def test_cases_of_one_patient_that_are_held_out_from_each_other_are_named(folder: Path, base: Bundle) -> None:
    """By headers, or as another frame of the same heart is; unless they are of one group."""
    for n, whose in enumerate(("PT1", "PT2", "PT1", "PT4")):
        (folder / "images" / f"case_{n}.nii.gz").unlink()
        matrix = read_volume(write_dicom(folder / "images" / f"case_{n}", n % 3, whose)).ijk_to_ras
        labels = read_volume(folder / "labels" / f"case_{n}.nii.gz").array[0].astype(np.uint8)
        save(folder / "labels" / f"case_{n}.nii.gz", labels, matrix)

    def said(validation: str) -> list[str]:
        dataset = load_dataset(folder)
        holdout = plan_holdout(dataset, None, validation, 0)
        return Patients.of(holdout, prepared_of(folder, base, dataset, holdout)).across()

    rest = 'and one is held out from the other, which flatters the validation: give them one "group", or leave one out.'
    headers = f"Case case_0 and case case_2 are of one patient by their DICOM headers, {rest}"
    image = f"Case case_0 and case case_3 look the same, {rest}"
    assert said("loo") == [headers, image]
    assert said("case_3") == [image]
    assert said("none") == []
    content = json.loads((folder / "dataset.json").read_text())
    content["splits"] = {}
    content["cases"] = [
        {"id": f"case_{n}", "image": f"images/case_{n}", "label": f"labels/case_{n}.nii.gz", "group": f"P{n % 2}"}
        for n in range(3)
    ]
    (folder / "dataset.json").write_text(json.dumps(content))
    assert said("loo") == []


def test_it_says_so_where_nobody_can_tell_whose_a_scan_is(folder: Path, base: Bundle, tmp_path: Path) -> None:
    keep(tmp_path / "more" / "a.nii.gz", patient(40))
    keep(tmp_path / "more" / "b.nii.gz", patient(41))
    text = found(folder, base, tmp_path / "more", "case_3").describe()
    assert "Whether any of them shows a patient who is held out" in text
    (folder / "dataset.json").write_text((folder / "dataset.json").read_text().replace('"validation"', '"other"'))
    assert found(folder, base, tmp_path / "more", "none").describe() == "2 scans without labels to learn from."
