"""Which scans a model can fit: by what DICOM says, else by grey values; and which models want a box."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from MAESegmentLib.bundle import Bundle, ModelStore
from MAESegmentLib.bundle.library import ModelLibrary
from MAESegmentLib.bundle.suitability import LIMIT, ScanFacts, best_fit, excess, lacks_box, mismatch
from MAESegmentLib.cli.main import main
from MAESegmentLib.console import Console
from MAESegmentLib.errors import MismatchError
from MAESegmentLib.images.reading import read_label_map, read_volume
from MAESegmentLib.images.roi import Roi
from MAESegmentLib.images.volume import Grid, Volume
from MAESegmentLib.images.writing import write_volume
from MAESegmentLib.samples import ROI_LEFT, read_sample
from Testing import dicom_series
from Testing.bundles import save_tiny, tiny_spec
from Testing.heads import head as whole_head
from Testing.heads import save_models
from Testing.phantoms import PhantomFactory
from Testing.skips import REPOSITORY

SCANS = {
    "hippocampus-mr": ("hippocampus_mr/unlabelled", "brain_mr/images"),
    "headneck-ct": ("headneck_ct/unlabelled",),
}
#: Axes S, P, L of 1 mm.
SIDEWAYS = np.array([[0.0, 0, -1, 0], [0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    store = ModelStore(tmp_path_factory.mktemp("own"), shipped_folder=REPOSITORY / "Resources" / "Models")
    return store.meant(kind="segmentation")


@pytest.fixture
def ct(real_data: Path) -> Path:
    return sorted((real_data / "headneck_ct" / "unlabelled").glob("*.nii.gz"))[0]


@pytest.mark.parametrize("right", SCANS)
def test_grey_values_alone_tell_the_model_of_a_real_scan(
    real_data: Path, shipped: dict[str, Bundle], right: str
) -> None:
    for path in (path for folder in SCANS[right] for path in sorted((real_data / folder).glob("*.nii.gz"))[:8]):
        facts = ScanFacts.of(read_volume(path))
        assert best_fit(shipped.values(), facts) is shipped[right], path
        for name, bundle in shipped.items():
            if bundle.metadata["maesegment"]["familiarity"] is None:
                assert (mismatch(bundle, facts) == "") == (right == "hippocampus-mr"), f"{path}: {name} is one of MR"
                continue
            assert ((excess(bundle, facts) or 0.0) > LIMIT) == bool(mismatch(bundle, facts)) == (name != right), path


def test_what_dicom_says_decides_whatever_the_grey_values(
    shipped: dict[str, Bundle], tmp_path: Path, phantom: PhantomFactory
) -> None:
    facts = ScanFacts.of(read_volume(dicom_series.head(9).write(tmp_path / "ct")))
    assert facts.modality == "CT"
    assert mismatch(shipped["hippocampus-mr"], facts) == "This scan is CT; hippocampus-mr was trained on MR."
    assert mismatch(shipped["headneck-ct"], facts) == ""
    strange = ScanFacts(phantom().volume.array, phantom().volume.grid)
    assert mismatch(shipped["headneck-ct"], strange)
    assert not mismatch(shipped["headneck-ct"], ScanFacts(strange.channels, strange.grid, "CT"))
    assert mismatch(shipped["headneck-ct"], ScanFacts(strange.channels, strange.grid, "OT")), "that says nothing"


@pytest.mark.parametrize(
    ("trained", "scan", "fits"),
    [
        ("MRI", "MR", True),
        ("PET/CT", "PT", True),
        ("PET/CT", "MR", False),
        ("unknown", "CT", True),
        ("CBCT", "CT", True),
    ],
)
def test_modalities_are_compared_whatever_they_are_called(
    tmp_path: Path, phantom: PhantomFactory, trained: str, scan: str, fits: bool
) -> None:
    bundle = save_tiny(tmp_path / "model", tiny_spec(modality=trained))
    volume = phantom().volume
    assert (mismatch(bundle, ScanFacts(volume.array, volume.grid, scan)) == "") is fits


def test_hounsfield_units_alone_refuse_a_model_of_mr_without_statistics(ct: Path, tmp_path: Path) -> None:
    models = {kind: save_tiny(tmp_path / f"model {kind}", tiny_spec(modality=kind)) for kind in ("MR", "CT", "PET/CT")}
    planning = ScanFacts.of(read_volume(ct))
    said = mismatch(models["MR"], planning)
    assert said == "The grey values of this scan look like HU, as those of CT; tiny-mr was trained on MR."
    assert mismatch(models["CT"], planning) == mismatch(models["PET/CT"], planning) == ""
    assert mismatch(models["MR"], ScanFacts.of(read_sample())) == ""


def test_model_that_wants_a_box_says_so_of_a_whole_head_alone(shipped: dict[str, Bundle], real_data: Path) -> None:
    model, head = shipped["hippocampus-mr"], read_sample()
    said = lacks_box(model, head.grid, None)
    assert said.startswith("hippocampus-mr is made for a box around the structure, of 43 x 59 x 47 mm at most; this is")
    turned = read_volume(real_data / "geometry" / "orientations" / "PIR.nii.gz")
    assert lacks_box(model, turned.grid, None)
    assert lacks_box(model, head.grid, Roi.of(ROI_LEFT)) == ""
    crop = sorted((real_data / "hippocampus_mr" / "unlabelled").glob("*.nii.gz"))[0]
    assert lacks_box(model, read_volume(crop).grid, None) == ""
    assert lacks_box(shipped["headneck-ct"], head.grid, None) == ""


def test_model_that_says_how_large_its_box_is_wants_one_whatever_it_learnt_from(tmp_path: Path) -> None:
    locator = {"model": "brain", "boxes": [{"structures": ["left"], "side": "left"}], "largest_mm": [20, 30, 20]}
    model = save_tiny(tmp_path / "model", tiny_spec(inference={"locator": locator}))
    assert "of 20 x 30 x 20 mm at most; this is 36 x 60 x 44 mm" in lacks_box(model, Grid((44, 60, 36), SIDEWAYS), None)
    assert lacks_box(model, Grid((36, 60, 36), SIDEWAYS), None) == ""


def test_what_the_user_chose_for_a_kind_of_scan_is_proposed_before_what_it_resembles_most(
    real_data: Path, tmp_path: Path
) -> None:
    own, models = tmp_path / "own", REPOSITORY / "Resources" / "Models"
    save_tiny(own / "aaa-mr" / "1.0.0", tiny_spec(name="aaa-mr"))
    library = ModelLibrary(ModelStore(own, shipped_folder=models))

    def proposed(scan: ScanFacts) -> str:
        bundle = library.default(scan)
        assert bundle is not None
        return bundle.name

    crop = ScanFacts.of(read_volume(sorted((real_data / "hippocampus_mr" / "unlabelled").glob("*.nii.gz"))[0]))
    planning = ScanFacts.of(read_volume(sorted((real_data / "headneck_ct" / "unlabelled").glob("*.nii.gz"))[0]))
    assert (proposed(crop), proposed(planning)) == ("hippocampus-mr", "headneck-ct")
    library.prefer("aaa-mr", crop)
    library.prefer("hippocampus-mr", planning)
    assert (proposed(crop), proposed(planning)) == ("aaa-mr", "headneck-ct"), "never what cannot fit"
    assert ModelLibrary(ModelStore(own, shipped_folder=models)).default(crop).name == "aaa-mr", "in every program"
    blank = ScanFacts(np.zeros((1, 8, 8, 8)), crop.grid)
    assert proposed(blank) == "headneck-ct" == library.default().name


def test_what_places_boxes_is_proposed_to_whoever_chose_it_or_has_nothing_else(tmp_path: Path) -> None:
    store, scan = save_models(tmp_path), ScanFacts.of(whole_head()[0])
    library = ModelLibrary(store)
    assert [one.name for one in library.models()] == ["brain-test", "hippo-test"]
    assert library.default().name == library.default(scan).name == "hippo-test"
    library.prefer("brain-test", scan)
    assert library.default(scan).name == "brain-test"
    shutil.rmtree(store.user_folder / "hippo-test")
    assert library.default().name == library.default(scan).name == "brain-test"


# At the doors ---------------------------------------------------------------------------------------------------------


def test_shell_refuses_a_ct_for_the_model_of_mr_unless_told(
    ct: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    small = tmp_path / "ct.nii.gz"
    volume = read_volume(ct)
    write_volume(small, Volume(volume.array[:, ::2, ::2, ::2], volume.ijk_to_ras @ np.diag([2.0, 2.0, 2.0, 1.0])))
    words = ["segment", "-m", "hippocampus-mr", "--device", "cpu", str(small), "-o", str(tmp_path / "out.seg.nrrd")]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "nothing like the MR scans that hippocampus-mr was trained on: its grey values are" in said
    assert "--allow-mismatch" in said
    assert not (tmp_path / "out.seg.nrrd").exists()
    low = volume.ijk_to_ras @ [*(np.array(volume.grid.shape) // 2), 1]
    box = ",".join(f"{low[axis] + step:.0f}" for axis in range(3) for step in (-20, 20))
    assert main([*words, "--allow-mismatch", "--roi", box]) == 0
    assert "Segmented all the same." in capsys.readouterr().err
    assert read_label_map(tmp_path / "out.seg.nrrd").grid.matches(read_volume(small).grid)


def test_shell_says_before_it_runs_that_the_model_wants_a_box(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def stop(*_arguments: object, **_options: object) -> None:
        said.append(capsys.readouterr().err)
        raise KeyboardInterrupt

    monkeypatch.setattr("MAESegmentLib.inference.predictor.Predictor.predict", stop)
    monkeypatch.setenv("MAESEGMENT_MODELS", str(save_models(tmp_path, locates=False).user_folder))
    head = write_volume(tmp_path / "head.nii.gz", whole_head()[0])
    main(["segment", "-m", "hippo-test", "--device", "cpu", str(head), "-o", str(tmp_path / "out.seg.nrrd")])
    assert "is made for a box" in said[0]
    assert "--roi" in said[0]


@pytest.fixture
def console(tmp_path: Path) -> Console:
    store = ModelStore(tmp_path / "own", shipped_folder=REPOSITORY / "Resources" / "Models")
    return Console(store=store, working_folder=tmp_path / "work")


def test_console_refuses_before_a_worker_is_started(console: Console, ct: Path) -> None:
    with pytest.raises(MismatchError) as caught:
        console.process(ct, "hippocampus-mr")
    assert "allow_mismatch=True" in caught.value.hint
    low = read_volume(ct).ijk_to_ras @ [*(np.array(read_volume(ct).grid.shape) // 2), 1]
    box = tuple(float(low[axis] + step) for axis in range(3) for step in (-20, 20))
    found = console.process(ct, "hippocampus-mr", device="cpu", speed="fast", roi=box, allow_mismatch=True)
    assert "Segmented all the same." in found.warnings[0]
    console.close()


def test_console_says_before_it_runs_that_the_model_wants_a_box(tmp_path: Path) -> None:
    alone = Console(store=save_models(tmp_path, locates=False), working_folder=tmp_path / "work")
    with pytest.warns(UserWarning, match="is made for a box"):
        job = alone.process(whole_head()[0], "hippo-test", wait=False)
    job.cancel()
    alone.close()


def table_of(out: Path) -> dict[str, dict[str, str]]:
    return {row["volume"]: row for row in csv.DictReader((out / "volumes.csv").read_text().splitlines())}


def test_batch_row_fails_with_the_reason_and_the_others_go_on(tmp_path: Path, phantom: PhantomFactory) -> None:
    save_tiny(tmp_path / "model")
    dicom_series.head(9).write(tmp_path / "in" / "ct")
    write_volume(tmp_path / "in" / "mr.nii.gz", phantom().volume)
    words = [
        "batch",
        "-m",
        str(tmp_path / "model"),
        "--device",
        "cpu",
        "-o",
        str(tmp_path / "out"),
        str(tmp_path / "in"),
    ]
    assert main(words) == 1
    rows = table_of(tmp_path / "out")
    assert rows["mr"]["status"] == "done"
    assert rows["ct"]["status"] == "failed"
    assert rows["ct"]["reason"].startswith("This scan is CT; tiny-mr was trained on MR.")
    assert main([*words, "--allow-mismatch", "--retry-failed"]) == 0
    row = table_of(tmp_path / "out")["ct"]
    assert row["status"] == "done"
    assert row["warnings"].startswith("The scan does not look like what the model was trained on: This scan is CT;")
