"""Plain `monai.bundle` runs a saved model and gives the labels that MAESegment gives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from MAESegmentLib.bundle import Bundle, verify_bundle
from MAESegmentLib.images import read_label_map, read_volume, write_volume
from MAESegmentLib.inference import InferenceSettings, Predictor
from Testing.bundles import save_tiny
from Testing.phantoms import PhantomFactory


def run_monai(bundle: Bundle, *arguments: str) -> None:
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/inference.json", *arguments]
    done = subprocess.run(command, cwd=bundle.path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


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
