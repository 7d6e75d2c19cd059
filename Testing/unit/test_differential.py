"""Our readers against the field's: a short run of the comparison, and that it notices what it is there to notice."""

from __future__ import annotations

import importlib.util
import os
import signal
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from MAESegmentLib.images import write_volume
from MAESegmentLib.images.volume import Volume
from Testing import phantoms
from Testing.differential import __main__ as command
from Testing.differential import running
from Testing.differential.agreed import reason_for
from Testing.differential.comparing import (
    AGREED,
    DISAGREE,
    EQUAL,
    REFUSED,
    Outcome,
    compare,
    image_difference,
    segments_difference,
)
from Testing.differential.references import Segment
from Testing.differential.subjects import DICOM, NIFTI, NRRD, Subject, find_subjects
from Testing.skips import real_data_folder

ARRAY = np.random.default_rng(0).integers(-1000, 2000, (6, 7, 8)).astype(np.int16)
AFFINE = phantoms.affine("LPS", ARRAY.shape, (0.7, 1.1, 3.0), (10, -20, 30), (5, -40, 80))


def package_folder(name: str, *below: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec
    assert spec.origin
    return Path(spec.origin).parent.joinpath(*below)


@pytest.mark.slow
def test_our_readers_agree_with_the_fields_on_its_own_test_files(tmp_path: Path) -> None:
    folders = [package_folder("nibabel", "tests", "data"), package_folder("slicerio", "data")]
    cases = real_data_folder().parent / "cases"
    outcomes = list(running.run(find_subjects([*folders, *([cases] if cases.is_dir() else [])], tmp_path)))
    assert [(str(subject), outcome.text) for subject, outcome in outcomes if outcome.kind == DISAGREE] == []
    kinds = [outcome.kind for _, outcome in outcomes]
    assert kinds.count(EQUAL) >= 15
    assert kinds.count(REFUSED) >= 5
    assert all(outcome.text for _, outcome in outcomes if outcome.kind in (REFUSED, AGREED))


def test_moved_turned_flipped_or_changed_image_is_a_difference() -> None:
    assert image_difference(ARRAY, AFFINE, ARRAY, AFFINE) == ""
    backwards = np.diag([1.0, 1, -1, 1])
    backwards[2, 3] = 7
    assert image_difference(ARRAY, AFFINE, ARRAY[:, :, ::-1], AFFINE @ backwards) == ""
    moved = AFFINE + np.array([[0, 0, 0, 0.05]] * 3 + [[0] * 4])
    assert image_difference(ARRAY, AFFINE, ARRAY, moved).startswith("place: origins differ by 0.0")
    assert "place" in image_difference(ARRAY, AFFINE, ARRAY, AFFINE @ np.diag([1, 1.01, 1, 1]))
    assert "values" in image_difference(ARRAY, AFFINE, ARRAY[:, :, ::-1], AFFINE)
    changed = ARRAY.copy()
    changed[1, 2, 3] += 1
    assert "at (1, 2, 3)" in image_difference(ARRAY, AFFINE, changed, AFFINE)
    assert "voxels instead of" in image_difference(ARRAY, AFFINE, ARRAY[:5], AFFINE)


def test_segment_that_is_missing_swapped_or_moved_is_a_difference() -> None:
    here = [Segment("A", np.zeros((2, 3))), Segment("B", np.ones((3, 3)))]
    assert segments_difference(here, here) == ""
    assert "instead of" in segments_difference(here[:1], here)
    assert "'A' has 3 voxels, 2" in segments_difference([Segment("A", here[1].points), here[1]], here)
    assert "'A'" in segments_difference([Segment("A", np.full((2, 3), 0.1)), here[1]], here)


def test_anything_but_a_clear_refusal_is_a_disagreement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Subject(NIFTI, tmp_path / "missing.nii")
    assert compare(subject).kind == REFUSED
    monkeypatch.setattr("Testing.differential.comparing.read_volume", lambda _path: 1 / 0)
    assert compare(subject) == Outcome(DISAGREE, "ZeroDivisionError: division by zero")


def test_difference_is_agreed_upon_only_where_its_reason_holds() -> None:
    nifti = Subject(NIFTI, Path("a.nii"))
    assert "standard" in reason_for(nifti, "SimpleITK: values", ("a.nii has scl_slope 0, so its scl_inter ...",))
    assert not reason_for(nifti, "SimpleITK: values", ())
    assert reason_for(Subject(DICOM, Path("a")), "0.dcm: place: origins differ by 0.03 mm", ())
    assert not reason_for(Subject(DICOM, Path("a")), "0.dcm: place: origins differ by 0.3 mm", ())
    assert not reason_for(Subject(NRRD, Path("a")), "place: origins differ by 0.03 mm", ())


def test_crash_of_a_reader_is_a_disagreement_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nib.save(nib.Nifti1Image(ARRAY, AFFINE), tmp_path / "a.nii")
    real = running._Child.compare

    def killed(self: running._Child, subject: Subject) -> Outcome | None:
        if subject.path.name == "bad.nii":
            os.kill(self._process.pid or 0, signal.SIGKILL)
        return real(self, subject)

    monkeypatch.setattr(running._Child, "compare", killed)
    subjects = [Subject(NIFTI, tmp_path / name) for name in ("bad.nii", "a.nii")]
    (_, crashed), (_, after) = running.run(subjects)
    assert crashed.kind == DISAGREE
    assert "ended its process" in crashed.text
    assert after.kind == EQUAL


def test_command_prints_the_table_and_fails_if_anything_disagrees(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_volume(tmp_path / "a.nrrd", Volume(ARRAY[None], AFFINE))
    assert command.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "NRRD            1        1        0        0        0",
        "all             1        1        0        0        0",
    ]
    monkeypatch.setattr(command, "run", lambda found: [(one, Outcome(DISAGREE, "moved")) for one in found])
    assert command.main([str(tmp_path)]) == 1
    assert "a.nrrd\n    moved" in capsys.readouterr().out
