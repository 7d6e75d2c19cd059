"""Plain `monai.bundle` runs a saved model and gives the labels that MAESegment gives."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import monai.bundle
import numpy as np
import pytest

from MAESegmentLib.bundle import Bundle, ModelStore, import_bundle, verify_bundle
from MAESegmentLib.images import read_label_map, read_volume, write_volume
from MAESegmentLib.inference import InferenceSettings, Predictor
from Testing.bundles import save_tiny
from Testing.hostile_bundles import entries_of, forged, write_folder, write_zip
from Testing.phantoms import PhantomFactory
from Testing.skips import REPOSITORY


def run_monai(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/inference.json", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return save_tiny(tmp_path_factory.mktemp("bundle") / "tiny-mr")


def poisoned(bundle: Bundle, canary: Path) -> bytes:
    """The config of `bundle`, and code that touches `canary`."""
    config = json.loads((bundle.path / "configs/inference.json").read_text())
    config["initialize"] = [f"$__import__('pathlib').Path({str(canary)!r}).touch()"]
    return json.dumps(config).encode()


@pytest.mark.timeout(300)
def test_monai_bundle_obeys_the_config_and_the_text_of_a_model_as_it_came(tiny: Bundle, tmp_path: Path) -> None:
    """The reason for what an import replaces and refuses: MONAI imports what stands after `$import` anywhere, too."""
    config = poisoned(tiny, tmp_path / "canary")
    change = {"description": "$import canary_module"}
    folder = write_folder(tmp_path / "came", forged(entries_of(tiny), {"configs/inference.json": config}, change))
    (folder / "canary_module.py").write_text("from pathlib import Path; Path('ran').touch()")
    run_monai(folder)
    assert (tmp_path / "canary").exists()
    assert (folder / "ran").exists()


@pytest.mark.timeout(300)
def test_monai_bundle_gives_the_labels_of_the_predictor_and_runs_nothing_that_came_with_a_model(
    tiny: Bundle, tmp_path: Path, phantom: PhantomFactory
) -> None:
    canary = tmp_path / "canary"
    bad = write_zip(tmp_path / "bad.zip", forged(entries_of(tiny), {"configs/inference.json": poisoned(tiny, canary)}))
    bundle = import_bundle(bad, ModelStore(tmp_path / "models", shipped_folder=tmp_path / "none"))
    scan = write_volume(tmp_path / "scan.nii.gz", phantom.oblique(noise=30.0).volume)
    output = tmp_path / "out.seg.nrrd"

    done = run_monai(bundle.path, "--input", str(scan), "--output", str(output), "--device", "cpu")

    assert done.returncode == 0, done.stderr[-2000:]
    assert not canary.exists()
    settings = InferenceSettings.of_model(bundle.spec.inference, device="cpu")
    expected = Predictor(bundle, settings).predict(read_volume(scan)).label_map
    written = read_label_map(output)
    assert len(np.unique(expected.array)) > 1
    np.testing.assert_array_equal(written.array, expected.array)
    np.testing.assert_allclose(written.ijk_to_ras, expected.ijk_to_ras, atol=1e-4)
    # Running a model must not change it.
    verify_bundle(bundle)


@pytest.mark.timeout(300)
def test_monai_bundle_refuses_a_scan_that_the_model_cannot_fit_unless_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its function, which `python -m monai.bundle run` calls."""
    folder = tmp_path / "headneck-ct"
    shutil.copytree(REPOSITORY / "Resources" / "Models" / "headneck-ct", folder)
    head = PhantomFactory()(noise=30.0).volume
    scan = write_volume(tmp_path / "head.nii.gz", replace(head, array=head.array / 10))
    output = tmp_path / "out.nii.gz"
    monkeypatch.chdir(folder)
    chosen = {"config_file": "configs/inference.json", "input": str(scan), "output": str(output), "device": "cpu"}
    with pytest.raises(RuntimeError) as refused:
        monai.bundle.run(**chosen)
    assert "nothing like the CT scans that headneck-ct was trained on" in str(refused.value.__cause__)
    assert not output.exists()
    monai.bundle.run(**chosen, **{"inferer#allow_mismatch": True})
    assert output.exists()
