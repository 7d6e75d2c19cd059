"""Every committed recipe and cluster script, and the recipes of the trials, describe runs that can begin."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from MAESegmentLib.networks import MaeConfig, NnFormerConfig
from MAESegmentLib.preprocessing.plan import Preprocessing
from MAESegmentLib.training.data.labelling import Sides
from MAESegmentLib.training.recipe import Recipe, read_recipe
from MAESegmentLib.training.settings import FineTuneSettings, PretrainSettings

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "model_training" / "recipes"
COMMITTED = sorted(RECIPES.glob("*/*.toml"))
SBATCH = sorted((ROOT / "model_training" / "slurm").glob("*.sbatch"))


def check(recipe: Recipe) -> None:
    if not recipe.preprocessing:
        settings = FineTuneSettings.from_dict(recipe.settings)
        names = [label.name for label in recipe.description.labels] or [
            name for pair in settings.sides for name in pair
        ]
        assert (Sides.of(settings.sides, names, "RAS") is None) == (not settings.sides)
        return
    PretrainSettings.from_dict(recipe.settings)
    preprocessing = Preprocessing.from_dict(recipe.preprocessing)
    network = dict(recipe.network)
    encoder = NnFormerConfig.preset(network.pop("preset"), crop_size=preprocessing.patch_size, **network)
    MaeConfig(encoder=encoder, **recipe.autoencoder)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_committed_recipe_describes_a_run(path: Path) -> None:
    check(read_recipe(path))


def test_trials_differ_in_width_and_grid_alone(tmp_path: Path) -> None:
    subprocess.run([sys.executable, RECIPES / "headneck-ct" / "trials.py", tmp_path], check=True)
    made = {path.stem: read_recipe(path) for path in tmp_path.glob("*.toml")}
    assert len(made) == 6
    for recipe in made.values():
        check(recipe)
    base, wide, fine = (made[f"{name}-pretrain"] for name in ("base", "wide", "fine"))
    assert base.preprocessing == wide.preprocessing
    assert base.network | {"embed_dim": 48, "heads": [3, 6, 12], "decoder_heads": [3, 6]} == wide.network
    assert base.settings == wide.settings == fine.settings
    assert made["base-finetune"] == made["wide-finetune"] == made["fine-finetune"]


@pytest.mark.parametrize("script", SBATCH, ids=lambda path: path.stem)
def test_cluster_scripts_are_valid_and_use_options_that_exist(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text()
    command = text[text.index("-m MAESegmentLib.cli") :].split()
    name = command[2]
    options = {word for word in command if word.startswith("--")}
    done = subprocess.run(
        [sys.executable, "-m", "MAESegmentLib.cli", name, "--help"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert options <= set(done.stdout.replace(",", " ").split())
