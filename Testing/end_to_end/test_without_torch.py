"""Segmenting where PyTorch is not installed: OpenVINO runs models that were converted, and what needs torch says so."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from MAESegmentLib.bundle import ModelStore, open_bundle
from MAESegmentLib.console import Console
from MAESegmentLib.errors import WorkerError
from MAESegmentLib.images import read_label_map, read_volume, write_volume
from MAESegmentLib.inference import InferenceSettings, Predictor
from MAESegmentLib.inference.runtimes import converted
from MAESegmentLib.inference.runtimes.conversion import prepare
from MAESegmentLib.inference.runtimes.openvino_runtime import OpenVinoRuntime
from MAESegmentLib.storage.user_folders import default_shipped_folder
from Testing.bundles import save_tiny, tiny_spec

ROOT = Path(__file__).parents[2]
#: Hides what a plain installation lacks from this interpreter and from what it starts.
BLOCK = """
import os, re, sys
from importlib import metadata

HIDDEN = os.environ.get("HIDDEN", "torch monai").split()
installed, required = metadata.version, metadata.requires


def version(name):
    if name in HIDDEN:
        raise metadata.PackageNotFoundError(name)
    return installed(name)


def requires(name):
    return [line for line in required(name) or [] if re.match("[a-z]*", line)[0] not in HIDDEN]


metadata.version, metadata.requires = version, requires


class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Blocker())
"""
NEITHER = "torch monai openvino"
#: Runs command after command, as a list of arguments each, and prints their exit codes.
COMMANDS = """
import json, sys
from MAESegmentLib.cli.main import main
codes = []
for words in json.loads(sys.argv[1]):
    print("$", *words, file=sys.stderr)
    codes.append(main(words))
print(json.dumps(codes))
assert not any(name.partition(".")[0] in ("torch", "monai") for name in sys.modules)
"""


@dataclass(frozen=True)
class Place:
    """A Python without torch, and a scan and a tiny model that was converted elsewhere."""

    python: Path
    environment: Mapping[str, str]
    scan: Path
    folder: Path

    def run(
        self, commands: Sequence[Sequence[str | Path]], hidden: str = "torch monai"
    ) -> subprocess.CompletedProcess[str]:
        words = json.dumps([[str(word) for word in command] for command in commands])
        command = [str(self.python), "-c", COMMANDS, words]
        return subprocess.run(
            command,
            cwd=self.folder,
            env={**os.environ, **self.environment, "HIDDEN": hidden},
            capture_output=True,
            text=True,
            timeout=300,
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, phantom):
    folder = tmp_path_factory.mktemp("without")
    (folder / "block").mkdir()
    (folder / "block" / "sitecustomize.py").write_text(BLOCK)
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{folder / "block"}:{ROOT}" exec "{sys.executable}" "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    (folder / "scans").mkdir()
    scan = write_volume(folder / "scans" / "scan.nii.gz", phantom.oblique(noise=30.0).volume)
    environment = {"MAESEGMENT_MODELS": str(folder / "models"), "OMP_NUM_THREADS": "1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        store = ModelStore()
        prepare(save_tiny(store.folder_for("tiny-mr", "1.0.0")))
        save_tiny(store.folder_for("other-mr", "1.0.0"), tiny_spec(name="other-mr"))
        yield Place(python, environment, scan, folder)


def expected(place: Place) -> np.ndarray:
    """With torch at hand, which does nothing then."""
    bundle = ModelStore().find("tiny-mr")
    settings = InferenceSettings.of_model(bundle.spec.inference, device="cpu", runtime="openvino")
    return Predictor(bundle, settings).predict(read_volume(place.scan)).label_map.array


def test_commands_segment_as_with_torch_to_the_last_voxel(place: Place) -> None:
    model = ["-m", "tiny-mr", "--allow-mismatch"]
    done = place.run(
        [
            ["segment", place.scan, *model, "-o", "one.nii.gz"],
            ["batch", place.scan.parent, *model, "-o", "many"],
            ["doctor"],
        ]
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[0, 0, 0]", done.stdout
    assert "seconds on cpu, OpenVINO" in done.stdout
    doctor = " ".join(done.stdout.split())
    assert re.search(r"OpenVINO [\d.]+ segments on the processor with .*tiny-mr 1.0.0", doctor)
    assert "nothing can be fine-tuned, and nothing runs other-mr 1.0.0" in doctor
    assert 'pip install "torch' in doctor
    assert "could not be examined" not in doctor
    for written in (place.folder / "one.nii.gz", next((place.folder / "many").rglob("scan*.n*"))):
        np.testing.assert_array_equal(read_label_map(written).array, expected(place))


def test_what_needs_torch_says_what_to_install(place: Place) -> None:
    segment = ["segment", place.scan, "--allow-mismatch", "-o", "x.nii.gz", "-m"]
    refused = [
        [*segment, "other-mr"],
        [*segment, "tiny-mr", "--runtime", "torch"],
        [*segment, "tiny-mr", "--device", "cuda"],
        ["models", "prepare", "other-mr"],
        ["finetune", "--cases", place.scan.parent, "-m", "tiny-mr", "-o", "child"],
        ["pretrain", "--data", place.scan.parent, "-o", "mae"],
    ]
    done = place.run(refused)
    assert done.stdout.splitlines()[-1] == str([2] * len(refused)), done.stderr
    for said in done.stderr.split("$ ")[1:]:
        assert "PyTorch" in said
        assert "nstall" in said.partition("error:")[2]


def test_with_neither_every_door_names_both(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segment = ["segment", place.scan, "--allow-mismatch", "-o", "x.nii.gz", "-m", "tiny-mr"]
    chosen = [[], ["--runtime", "torch"], ["--runtime", "openvino"]]
    batch = ["batch", place.scan.parent, "-m", "tiny-mr", "--allow-mismatch", "-o", "none"]
    done = place.run([*([*segment, *more] for more in chosen), batch, ["doctor"]], NEITHER)
    assert done.stdout.splitlines()[-1] == "[2, 2, 2, 2, 1]", done.stderr
    for said in done.stderr.split("$ ")[1:-1]:
        what, advice = said.partition("error:")[2].strip().splitlines()
        assert what == "Neither PyTorch nor OpenVINO is installed, so nothing can run tiny-mr 1.0.0."
        assert "package openvino to segment on the processor, or torch to fine-tune as well" in advice
    doctor = " ".join(done.stdout.split())
    assert "neither PyTorch nor OpenVINO is installed" in doctor
    assert all(f'pip install "{name}' in doctor for name in ("openvino", "torch"))
    assert "could not be examined" not in doctor
    monkeypatch.setenv("MAESEGMENT_PYTHON", str(place.python))
    monkeypatch.setenv("HIDDEN", NEITHER)
    with Console(working_folder=tmp_path) as console, pytest.raises(WorkerError) as caught:
        console.process(str(place.scan), model="tiny-mr", device="cpu")
    assert "torch is not installed" in caught.value.message
    assert all(name in caught.value.hint for name in ('"torch>=', '"openvino>=', "to segment alone"))


def test_the_console_and_its_worker_segment(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAESEGMENT_PYTHON", str(place.python))
    with Console(working_folder=tmp_path) as console:
        result = console.process(str(place.scan), model="tiny-mr", device="cpu")
    assert result.device_title.endswith("OpenVINO")
    np.testing.assert_array_equal(result.label_map.array, expected(place))


def test_the_app_needs_no_torch_to_start(place: Place) -> None:
    pytest.importorskip("trame_slicer")
    code = "import sys, MAESegmentLib.web.application; print('torch' in sys.modules)"
    done = subprocess.run([str(place.python), "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.parametrize("name", sorted(path.name for path in default_shipped_folder().iterdir() if path.is_dir()))
def test_the_conversion_that_ships_is_of_the_weights_that_ship(name: str) -> None:
    bundle = open_bundle(default_shipped_folder() / name)
    file = converted.shipped_file(bundle)
    found = converted.read(bundle, file)
    assert found is not None, f"{file} is of another model: python -m model_training.conversions"
    assert file.stat().st_size + bundle.size_bytes < 12e6
    size = (1, len(bundle.channels), *bundle.spec.preprocessing.patch_size)
    window = torch.randn(size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        scores = bundle.load_network()(window).numpy()
    converted_scores = OpenVinoRuntime(found, "fp32").network_on(torch.device("cpu"), "fp32")(window.numpy())
    assert np.abs(converted_scores - scores).max() < 1e-4 * np.abs(scores).max()
