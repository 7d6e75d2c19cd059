"""`maesegment cases next`: a table of scans, the least certain first."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from MAESegmentLib.bundle import ModelStore
from MAESegmentLib.cases.store import CaseStore
from MAESegmentLib.cases.submission import CaseSubmission
from MAESegmentLib.cli import next_case
from MAESegmentLib.cli.main import main
from MAESegmentLib.cli.options import Parser
from MAESegmentLib.errors import ConfigurationError, OutputError, VolumeReadError
from MAESegmentLib.images.labels import Label
from MAESegmentLib.images.reading import read_volume
from MAESegmentLib.images.scans import find_scans
from MAESegmentLib.images.volume import LabelMap
from Testing.bundles import save_tiny
from Testing.dicom_series import head
from Testing.phantoms import PhantomFactory


@pytest.fixture
def clinic(tmp_path: Path, phantom: PhantomFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three scans, one of them in a sub-folder, and a model; works beside it."""
    monkeypatch.setenv("MAESEGMENT_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("MAESEGMENT_CASES", str(tmp_path / "no cases"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    save_tiny(ModelStore().folder_for("tiny-mr", "1.0.0"))
    folder = tmp_path / "klinik ä"
    for number, name in enumerate(("a.nii.gz", "b.nii.gz", "later/a.nii.gz")):
        volume = phantom(noise=20.0 + 200 * number, seed=number).volume
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(volume.array[0].astype(np.float32), volume.ijk_to_ras), folder / name)
    return folder


def run(*words: str | Path) -> int:
    parser = Parser()
    next_case.add_arguments(parser)
    return next_case.run(parser.parse_args([*map(str, words), "--device", "cpu"]))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_table_and_the_csv_are_in_the_same_order(clinic: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(clinic, "-m", "tiny", "-o", "next.csv") == 0
    out = capsys.readouterr().out
    table = rows(Path("next.csv"))
    assert [row["rank"] for row in table] == ["1", "2", "3"]
    assert {Path(row["scan"]) for row in table} == {clinic / n for n in ("a.nii.gz", "b.nii.gz", "later/a.nii.gz")}
    entropies = [float(row["entropy"]) for row in table]
    assert entropies == sorted(entropies, reverse=True)
    first = "/".join(Path(table[0]["scan"]).parts[-2:])
    assert f"Correct {first} first." in out
    assert out.index(first) < out.index("/".join(Path(table[1]["scan"]).parts[-2:]))
    for row in table:
        image = nib.load(row["scan"])
        ijk = np.linalg.inv(image.affine) @ [*(float(row[f"{axis}_mm"]) for axis in "ras"), 1.0]
        assert ijk["IJK".index(row["axis"])] == pytest.approx(int(row["slice"]), abs=0.02)
        assert np.all((ijk[:3] > -0.5) & (ijk[:3] < np.array(image.shape) - 0.5))


def test_a_bad_file_is_listed_with_its_reason_and_the_others_are_ranked(
    clinic: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (clinic / "a.nii.gz").write_bytes((clinic / "a.nii.gz").read_bytes()[:200])
    assert run(clinic, "-m", "tiny", "-o", "next.csv") == 1
    table = rows(Path("next.csv"))
    assert [row["rank"] for row in table] == ["1", "2", ""]
    assert table[-1]["scan"] == str(clinic / "a.nii.gz")
    assert table[-1]["problem"]
    assert f"left out: {clinic.name}/a.nii.gz: {table[-1]['problem']}" in capsys.readouterr().out


def test_only_a_table_is_replaced_by_the_table(clinic: Path) -> None:
    scan = next(clinic.rglob("*.nii.gz"))
    before = scan.read_bytes()
    with pytest.raises(OutputError, match="is not a table"):
        run(clinic, "-m", "tiny", "-o", str(scan))
    assert scan.read_bytes() == before
    notes = clinic / "notes.txt"
    notes.write_text("of the ward")
    with pytest.raises(OutputError, match="is not a table"):
        run(clinic, "-m", "tiny", "-o", str(notes))
    assert notes.read_text() == "of the ward"


def test_a_scan_that_is_a_case_already_is_left_out(clinic: Path, capsys: pytest.CaptureFixture[str]) -> None:
    volume = read_volume(clinic / "a.nii.gz")
    labels = LabelMap((volume.array[0] > 600).astype(np.uint8), volume.ijk_to_ras)
    store = CaseStore(Path("cases"))
    store.add(volume, labels, CaseSubmission(labels=(Label(1, "anterior"),), unknown=("posterior",)))
    assert run(clinic, "-m", "tiny", "--store", "cases", "-o", "next.csv") == 0
    table = rows(Path("next.csv"))
    assert [(Path(row["scan"]).name, row["stored_as"]) for row in table[2:]] == [("a.nii.gz", "case-0001")]
    assert "it is case-0001 already" in capsys.readouterr().out


def test_it_is_a_command_of_the_shell(clinic: Path) -> None:
    assert main(["cases", "next", str(clinic / "b.nii.gz"), "-m", "tiny", "--device", "cpu"]) == 0


def test_all_bad(clinic: Path, capsys: pytest.CaptureFixture[str]) -> None:
    note = clinic / "note.txt"
    note.write_text("no scan")
    assert run(note, "-m", "tiny") == 1
    out = capsys.readouterr().out
    assert out.count("left out: ") == 1
    assert "first." not in out


def test_a_region_outside_a_scan_is_that_scans_problem(clinic: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(clinic, "-m", "tiny", "--roi", "-5,5,-5,5,-5,5") == 0
    assert run(clinic, "-m", "tiny", "--roi", "500,505,-5,5,-5,5") == 1
    assert "lies outside the volume" in capsys.readouterr().out


def test_an_empty_folder_is_an_error(clinic: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match="no scan in"):
        run(tmp_path / "empty", "-m", "tiny")
    with pytest.raises(OutputError):
        run(clinic, "-m", "tiny", "-o", tmp_path / "missing" / "next.csv")
    with pytest.raises(VolumeReadError, match=r"There is no .*mistyped"):
        run(clinic, clinic / "mistyped", "-m", "tiny")


def test_what_counts_as_a_scan(clinic: Path) -> None:
    series = clinic / "visit" / "series"
    head().write(series)
    shutil.copytree(series, clinic / "visit" / "without suffix")
    for file in (clinic / "visit" / "without suffix").iterdir():
        file.rename(file.with_suffix(""))
    for name in (".hidden/x.nii.gz", "labels/a.nii.gz", "b.seg.nrrd", "report.pdf", "c.MHA", "d.raw", "e/f.nrrd"):
        (clinic / name).parent.mkdir(exist_ok=True)
        (clinic / name).write_bytes(b"x")
    found = find_scans([clinic, clinic / "b.nii.gz", clinic / "report.pdf"])
    expected = ["a.nii.gz", "b.nii.gz", "c.MHA", "e/f.nrrd", "later/a.nii.gz", "visit/series", "visit/without suffix"]
    assert found == [*(clinic / name for name in expected), clinic / "report.pdf"]


def test_names_are_as_short_as_they_can_be() -> None:
    assert next_case.short_names([Path("/x/a.nii"), Path("/x/b.nii")]) == ["a.nii", "b.nii"]
    assert next_case.short_names([Path("/x/1/a.nii"), Path("/x/2/a.nii")]) == ["1/a.nii", "2/a.nii"]
