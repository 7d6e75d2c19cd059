"""Pretraining and fine-tuning on a GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from MAESegmentLib.cases.dataset import load_dataset
from MAESegmentLib.errors import DeviceMemoryError
from MAESegmentLib.networks import MaeConfig
from MAESegmentLib.training.finetune import finetune
from MAESegmentLib.training.loop.runlog import read_log
from MAESegmentLib.training.pretrain import pretrain
from MAESegmentLib.training.settings import FineTuneSettings, Precision, PretrainSettings
from Testing.bundles import save_tiny, tiny_network_config, tiny_spec
from Testing.datasets import write_dataset
from Testing.phantoms import LABELS

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("precision", ["auto", "fp32", "bf16", "fp16"])
def test_fine_tuning_on_the_gpu_lowers_the_loss(tmp_path: Path, precision: Precision) -> None:
    dataset = load_dataset(write_dataset(tmp_path / "data", 3))
    base = save_tiny(tmp_path / "base", tiny_spec(labels=LABELS))
    settings = FineTuneSettings(
        steps=60, learning_rate=3e-3, log_every=1, validate_every=60, device="cuda", precision=precision, num_workers=2
    )
    child = finetune(dataset, base, tmp_path / "run", settings, validation="case_2")
    losses = [row["loss"] for row in read_log(tmp_path / "run" / "log.csv")]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    assert child.spec.training["device"].startswith("cuda")


def test_pretraining_on_the_gpu_makes_a_bundle(tmp_path: Path) -> None:
    dataset = load_dataset(write_dataset(tmp_path / "data", 3))
    config = MaeConfig(encoder=tiny_network_config(), decoder_dim=16)
    settings = PretrainSettings(steps=10, device="cuda", held_out=0.34)
    bundle = pretrain(
        dataset.cases, tmp_path / "run", settings, autoencoder=config, preprocessing=tiny_spec().preprocessing
    )
    assert bundle.load_autoencoder() is not None


def test_too_little_memory_says_what_to_do(tmp_path: Path) -> None:
    dataset = load_dataset(write_dataset(tmp_path / "data", 2))
    spec = tiny_spec(labels=LABELS)
    spec = replace(spec, preprocessing=replace(spec.preprocessing, patch_size=(96, 96, 96)))
    base = save_tiny(tmp_path / "base", spec)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.001)
    try:
        with pytest.raises(DeviceMemoryError) as raised:
            finetune(dataset, base, tmp_path / "run", FineTuneSettings(device="cuda", batch_size=8), validation="none")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "micro-batch" in raised.value.hint
