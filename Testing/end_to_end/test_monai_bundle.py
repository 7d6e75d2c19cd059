"""Plain `monai.bundle` runs a saved model and gives the labels that MAESegment gives."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from MAESegmentLib.bundle import Bundle, ModelStore, import_bundle, verify_bundle
from MAESegmentLib.images import read_label_map, read_volume, write_volume
from MAESegmentLib.inference import InferenceSettings, Predictor
from Testing.bundles import save_tiny
from Testing.hostile_bundles import entries_of, forged, write_folder, write_zip
from Testing.phantoms import PhantomFactory


def run_monai(bundle: Bundle, *arguments: str) -> None:
    done = run_in(bundle.path, *arguments)
    assert done.returncode == 0, done.stderr[-2000:]


def run_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/inference.json", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.timeout(300)
def test_monai_bundle_run_gives_the_labels_of_the_predictor(tmp_path: Path, phantom: PhantomFactory) -> None:
    bundle = save_tiny(tmp_path / "tiny-mr")
    scan = write_volume(tmp_path / "scan.nii.gz", phantom.oblique(noise=30.0).volume)
    output = tmp_path / "out.seg.nrrd"

    run_monai(bundle, "--input", str(scan), "--output", str(output), "--device", "cpu")

    expected = Predictor(bundle, InferenceSettings.of_model(bundle.spec.inference, device="cpu")).predict(
        read_volume(scan)
    )
    written = read_label_map(output)
    assert len(np.unique(expected.label_map.array)) > 1
    np.testing.assert_array_equal(written.array, expected.label_map.array)
    np.testing.assert_allclose(written.ijk_to_ras, expected.label_map.ijk_to_ras, atol=1e-4)
    # Running a model must not change it.
    verify_bundle(bundle)


@pytest.mark.timeout(300)
def test_monai_bundle_run_on_an_imported_model_runs_nothing_that_came_with_it(
    tmp_path: Path, phantom: PhantomFactory
) -> None:
    canary = tmp_path / "canary"
    bundle = save_tiny(tmp_path / "tiny-mr")
    config = json.loads((bundle.path / "configs/inference.json").read_text())
    config["initialize"] = [f"$__import__('pathlib').Path({str(canary)!r}).touch()"]
    bad = forged(entries_of(bundle), {"configs/inference.json": json.dumps(config).encode()})

    run_in(write_folder(tmp_path / "as it came", bad))
    assert canary.exists(), "this test could not find code that runs"
    canary.unlink()

    store = ModelStore(tmp_path / "models", shipped_folder=tmp_path / "none")
    imported = import_bundle(write_zip(tmp_path / "bad.zip", bad), store)
    scan = write_volume(tmp_path / "scan.nii.gz", phantom.oblique(noise=30.0).volume)
    output = tmp_path / "out.seg.nrrd"
    run_monai(imported, "--input", str(scan), "--output", str(output), "--device", "cpu")
    assert output.exists()
    assert not canary.exists()


@pytest.mark.timeout(300)
def test_text_that_is_refused_in_metadata_is_what_monai_bundle_obeys(tmp_path: Path) -> None:
    """The reason for the refusal: MONAI imports what stands after `$import` anywhere, in a description, too."""
    bundle = save_tiny(tmp_path / "tiny-mr")

    def change(metadata: dict[str, str]) -> None:
        metadata["description"] = "$import canary_module"

    folder = write_folder(tmp_path / "as it came", forged(entries_of(bundle), change=change))
    (folder / "canary_module.py").write_text("from pathlib import Path; Path('ran').touch()")
    run_in(folder)
    assert (folder / "ran").exists()
