"""`maesegment pretrain` and `maesegment finetune` as a user meets them, on good and on bad input."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from MAESegmentLib.bundle import Bundle, open_bundle
from MAESegmentLib.cli.main import main
from Testing.bundles import save_tiny, tiny_network_config, tiny_spec
from Testing.datasets import change, write_dataset

QUICK = ["--steps", "2", "--device", "cpu", "--threads", "1"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "my data é", 3, splits={"pool": ["case_0", "case_1"], "validation": ["case_2"]})


def finetune(data: Path, model: Path, out: Path, *more: str) -> int:
    return main(["finetune", "--cases", str(data), "--model", str(model), "--out", str(out), *QUICK, *more])


def test_recipe_goes_from_scans_to_a_segmentation_model(data: Path, tmp_path: Path, capsys) -> None:
    network = {key: value for key, value in tiny_network_config().to_dict().items() if value is not None}
    network.pop("crop_size")
    recipe = {
        "model": {"name": "phantom-mae", "modality": "MR", "channels": ["T1"], "card_file": "card.md"},
        "network": {"preset": "small", **network},
        "autoencoder": {"unit": [8, 8, 8], "decoder_dim": 16},
        "preprocessing": {"spacing": [1, 1, 1], "patch_size": [16, 16, 16], "intensity": {"kind": "zscore"}},
        "settings": {"held_out": 0.34, "augmentation": {"flip_axes": [1]}},
    }
    (tmp_path / "card.md").write_text("# Phantom\n\nLearnt from phantoms.\n")
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    pre = tmp_path / "pre"
    code = main(["pretrain", "--data", str(data), "--out", str(pre), "--recipe", str(tmp_path / "recipe.json"), *QUICK])
    assert code == 0
    bundle = open_bundle(pre / "model")
    assert bundle.name == "phantom-mae"
    assert "Learnt from phantoms" in bundle.card
    assert bundle.spec.training["settings"]["augmentation"]["flip_axes"] == [1]
    assert finetune(data, pre / "model", tmp_path / "fine", "--split", "pool", "--validation", "validation") == 0
    printed = capsys.readouterr()
    assert "Dice on 1 held-out case (" in printed.out
    assert "The head is new" in printed.err
    child = open_bundle(tmp_path / "fine" / "model")
    assert [label.name for label in child.labels] == ["front", "back"]
    assert child.parent == bundle.reference


def test_toml_recipe_is_read_and_the_command_line_wins(data: Path, base: Bundle, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(
        '[model]\nname = "from-recipe"\n[cases]\nsplit = "pool"\nvalidation = "none"\nlabels = ["back"]\n'
        "[settings]\nsteps = 99\nlearning_rate = 0.002\n"
    )
    recipe = ["--recipe", str(tmp_path / "recipe.toml"), "--set", "augmentation.affine=0.9"]
    assert finetune(data, base.path, tmp_path / "out", *recipe) == 0
    child = open_bundle(tmp_path / "out" / "model")
    assert child.name == "from-recipe"
    assert [label.name for label in child.labels] == ["back"]
    settings = child.spec.training["settings"]
    assert (settings["steps"], settings["learning_rate"], settings["augmentation"]["affine"]) == (2, 0.002, 0.9)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--labels", "liver"], "no label liver"),
        (["--split", "everyone"], "'everyone'"),
        (["--validation", "nobody"], "'nobody'"),
        (["--learning-rate", "-1"], "learning_rate"),
        (["--set", "colour=red"], "colour"),
        (["--set", "steps"], "NAME=VALUE"),
        (["--name", "Not A Name"], "Not A Name"),
        (["--config", "absent.json"], "absent.json"),
        (["--device", "cuda:77"], "GPU"),
    ],
)
def test_wrong_argument_is_one_clear_error(
    data: Path, base: Bundle, tmp_path: Path, capsys, arguments: list[str], said: str
) -> None:
    assert finetune(data, base.path, tmp_path / "out", *arguments) == 2
    error = capsys.readouterr().err
    assert "error: " in error
    assert said in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_bad_case_is_named_and_nothing_is_written(data: Path, base: Bundle, tmp_path: Path, capsys) -> None:
    change(data / "labels" / "case_1.nii.gz", lambda array, matrix: (array[1:], matrix))
    assert finetune(data, base.path, tmp_path / "out", "--validation", "none") == 2
    assert "Case case_1" in capsys.readouterr().err
    assert not (tmp_path / "out" / "model").exists()


def test_missing_dataset_is_one_clear_error(base: Bundle, tmp_path: Path, capsys) -> None:
    assert finetune(tmp_path / "nowhere", base.path, tmp_path / "out") == 2
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_saves_a_checkpoint_and_says_how_to_go_on(data: Path, base: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "MAESegmentLib.cli", "finetune", "--cases", str(data), "--model", str(base.path)]
    command += ["--out", str(out), "--steps", "3000", "--device", "cpu", "--threads", "1", "--set", "log_every=1"]
    command += ["--validation", "none"]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, env={**os.environ})
    deadline = time.monotonic() + 120
    while not (out / "log.csv").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130, error.decode()
    assert b"Traceback" not in error
    assert b"to resume" in error
    assert (out / "checkpoint.pt").exists()
    assert not (out / "model").exists()


def test_scans_without_labels_are_learnt_from_in_a_real_process(data: Path, base: Bundle, tmp_path: Path) -> None:
    """A folder of them, of which one is broken and one is the validation case's own image."""
    shutil.move(write_dataset(tmp_path / "more", 5) / "images", tmp_path / "no labels é")
    (tmp_path / "no labels é" / "broken.nii.gz").write_bytes(b"no scan")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "MAESegmentLib.cli", "finetune", "--cases", str(data), "--model", str(base.path)]
    command += ["--out", str(out), *QUICK, "--split", "pool", "--validation", "validation"]
    command += ["--set", "unlabelled_ramp=0", "--unlabelled", str(tmp_path / "no labels é")]

    def run() -> str:
        done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300)
        assert done.returncode in (0, 2), done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr

    said = run()
    assert "2 scans without labels to learn from; 4 could not be used." in said
    for left_out in ("broken.nii.gz", "case_0.nii.gz", "case_1.nii.gz", "case_2.nii.gz"):
        assert f"Left out: {left_out}" in said
    provenance = open_bundle(out / "model").spec.training["unlabelled"]
    assert (provenance["method"], len(provenance["images"]), provenance["left_out"]) == ("self_training", 2, 4)
    (tmp_path / "no labels é" / "case_4.nii.gz").unlink()
    assert "scan case_4.nii.gz is no longer among those without labels" in " ".join(run().split())


def test_fine_tuning_a_real_case_with_a_tiny_network(real_data: Path, tmp_path: Path) -> None:
    spec = tiny_spec()
    base = save_tiny(tmp_path / "tiny", spec)
    data = real_data / "hippocampus_mr"
    more = ["--split", "pool:3", "--validation", "pool:3:4", "--steps", "4"]
    assert finetune(data, base.path, tmp_path / "out", *more) == 0
    child = open_bundle(tmp_path / "out" / "model")
    assert child.spec.metrics["validation"]["cases"] == 1
    assert child.labels == spec.labels
