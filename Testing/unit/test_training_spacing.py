"""New structures that are larger than a patch of the base are learnt on larger voxels, what the base knows never."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from MAESegmentLib.bundle import Bundle
from MAESegmentLib.cases.dataset import CaseDataset, load_dataset
from MAESegmentLib.images.reading import read_volume
from MAESegmentLib.inference import InferenceSettings, Predictor
from MAESegmentLib.preprocessing.plan import Preprocessing
from MAESegmentLib.training.data.labelling import plan_labels
from MAESegmentLib.training.data.spacing import fit_to_structures, fitting_spacing
from MAESegmentLib.training.defaults import default_settings
from MAESegmentLib.training.finetune import finetune
from MAESegmentLib.training.settings import FineTuneSettings
from Testing.bundles import save_tiny, tiny_spec
from Testing.datasets import save

#: Of 1 x 1 x 1.5 mm; a patch of the base is 16 x 16 x 24 mm.
SHAPE = (48, 40, 30)


def write(
    folder: Path, half: tuple[int, int, int], labels: dict[str, int], unknown: tuple[str, ...] = ()
) -> CaseDataset:
    """Two scans with a bright block of value 3, of twice `half` voxels along each axis, turned from RAS to LPS."""
    matrix = np.diag([-1.0, -1.0, 1.5, 1.0])
    block = tuple(slice(n // 2 - h, n // 2 + h) for n, h in zip(SHAPE, half, strict=True))
    cases = []
    for n in range(2):
        label = np.zeros(SHAPE, np.uint8)
        label[block] = 3
        noise = np.random.default_rng(n).normal(100, 5, SHAPE)
        save(folder / f"i{n}.nii.gz", (noise + 80.0 * (label > 0)).astype(np.float32), matrix)
        save(folder / f"l{n}.nii.gz", label, matrix)
        cases.append({"id": f"c{n}", "image": f"i{n}.nii.gz", "label": f"l{n}.nii.gz", "unknown": list(unknown)})
    (folder / "dataset.json").write_text(json.dumps({"labels": {"background": 0, **labels}, "cases": cases}))
    return load_dataset(folder)


@pytest.fixture
def tiny(tmp_path: Path) -> Bundle:
    return save_tiny(tmp_path / "base")


def fitted(dataset: CaseDataset, base: Bundle) -> tuple[Preprocessing, str]:
    plan = plan_labels(dataset.labels, base.labels)
    return fit_to_structures(base.spec.preprocessing, dataset.cases, dataset, plan)


@pytest.mark.parametrize(
    ("box", "thickness", "expected"),
    [
        ((16.0, 16.0, 24.0), 16.0, (1.0, 1.0, 1.5)),  # fits
        ((17.0, 16.0, 24.0), 16.0, (1.0, 1.0, 1.5)),  # all but fits
        ((24.0, 8.0, 8.0), 8.0, (1.5, 1.5, 2.0)),  # four voxels are left across it
        ((500.0, 8.0, 8.0), 100.0, (2.0, 2.0, 3.0)),  # at most twice
        ((24.0, 8.0, 8.0), 2.0, (1.0, 1.0, 1.5)),  # too thin for larger ones
    ],
)
def test_voxels_grow_with_what_does_not_fit_and_stop_at_what_is_thin(
    box: tuple[float, float, float], thickness: float, expected: tuple[float, float, float]
) -> None:
    assert fitting_spacing((1.0, 1.0, 1.5), (16, 16, 16), box, thickness) == expected


def test_thick_slices_never_become_thicker_than_the_structures_bear() -> None:
    assert fitting_spacing((1.5, 1.5, 10.0), (16, 16, 8), (40.0, 40.0, 70.0), 14.0) == (2.5, 2.5, 10.0)


def test_a_structure_is_measured_in_mm_along_the_axes_of_the_network(tmp_path: Path, tiny: Bundle) -> None:
    preprocessing, note = fitted(write(tmp_path, (12, 8, 8), {"organ": 3}), tiny)
    assert preprocessing.spacing == (1.5, 1.5, 2.25)  # 24 mm against 16
    assert replace(preprocessing, spacing=(1.0, 1.0, 1.5)) == tiny.spec.preprocessing
    assert "24 mm long" in note


def test_small_structures_leave_the_base_as_it_is(tmp_path: Path, tiny: Bundle) -> None:
    assert fitted(write(tmp_path, (6, 6, 6), {"organ": 3}), tiny) == (tiny.spec.preprocessing, "")


def test_what_the_base_knows_keeps_its_voxels(tmp_path: Path, tiny: Bundle) -> None:
    labels = {"anterior": 1, "organ": 3}
    assert fitted(write(tmp_path, (16, 8, 8), labels), tiny) == (tiny.spec.preprocessing, "")


def test_what_no_case_annotates_does_not_count_and_is_named(tmp_path: Path, tiny: Bundle) -> None:
    labels = {"anterior": 1, "posterior": 2, "organ": 3}
    preprocessing, note = fitted(write(tmp_path, (16, 8, 8), labels, ("anterior", "posterior")), tiny)
    assert preprocessing.spacing == (2.0, 2.0, 3.0)
    assert "anterior, posterior, which no case annotates" in note


def test_a_model_with_larger_voxels_segments_on_the_grid_of_the_scan(tmp_path: Path, tiny: Bundle) -> None:
    dataset = write(tmp_path / "data", (16, 8, 8), {"organ": 3})
    settings = default_settings(tiny, new_labels=True, chosen={"steps": 2, "device": "cpu", "threads": 1})
    assert settings.spacing == "structures"
    model = finetune(dataset, tiny, tmp_path / "run", settings, validation="none")
    assert model.spec.preprocessing.spacing == (2.0, 2.0, 3.0)
    assert any("Voxels of 2 x 2 x 3 mm instead" in note for note in model.spec.training["notes"])
    volume = read_volume(dataset.cases[0].image[0])
    found = Predictor(model, InferenceSettings(device="cpu")).predict(volume).label_map
    assert found.grid.matches(volume.grid)
    # Trained further on its own label, it keeps its voxels.
    again = default_settings(model, new_labels=False, chosen={"steps": 2, "device": "cpu", "threads": 1})
    assert again.spacing == "base"
    assert finetune(dataset, model, tmp_path / "again", again, validation="none").spec.preprocessing.spacing == (
        2,
        2,
        3,
    )


def test_a_run_that_was_begun_before_resumes() -> None:
    without = FineTuneSettings().to_dict()
    del without["spacing"]
    assert FineTuneSettings.from_dict(without).fingerprint() == FineTuneSettings().fingerprint()
    assert replace(FineTuneSettings(), spacing="structures").fingerprint() != FineTuneSettings().fingerprint()


def test_tissue_maps_that_images_are_drawn_from_keep_the_voxels_of_the_base(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "base", tiny_spec())
    assert default_settings(model, new_labels=True, chosen={"synthesis": {}}).spacing == "base"
