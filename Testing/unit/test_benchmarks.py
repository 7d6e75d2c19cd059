"""The benchmarks compare equal work, in turn, and keep what was not measured again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from MAESegmentLib.networks import NnFormer, NnFormerConfig
from MAESegmentLib.training.loop.loop import train
from MAESegmentLib.training.settings import FineTuneSettings
from model_training.benchmarks import finetuning, pretraining
from model_training.benchmarks.network_cases import MONAI, difference
from model_training.benchmarks.official_design import OfficialDesign
from model_training.benchmarks.report import network_table, pretraining_table
from model_training.benchmarks.runner import replace_rows
from model_training.benchmarks.timing import Timing, alternate
from model_training.tables import read_rows

#: Windows of 4 on a grid of 6 tokens, which are padded and shifted; deep supervision; a global stage.
TINY = NnFormerConfig(
    in_channels=1,
    out_channels=3,
    crop_size=(12, 24, 16),
    embed_dim=8,
    depths=(2, 2, 1),
    heads=(1, 2, 2),
    embed_strides=((2, 2, 2), (1, 1, 1)),
    windows=((4, 4, 4), (2, 2, 2), (3, 3, 2)),
    down_strides=((2, 2, 2), (1, 2, 2)),
    global_stages=(False, False, True),
    drop_path=0.0,
    deep_supervision=True,
    mask_padding=False,
)


@pytest.mark.parametrize("mask_shift", [True, False])
def test_the_official_design_computes_the_same_logits_and_gradients(mask_shift: bool) -> None:
    torch.manual_seed(0)
    config = NnFormerConfig.from_dict({**TINY.to_dict(), "mask_shift": mask_shift})
    network = NnFormer(config)
    for block in network.modules():
        if hasattr(block, "table"):
            torch.nn.init.normal_(block.table)  # large enough to matter
    design = OfficialDesign(network)
    image = torch.randn(2, 1, *config.crop_size)
    logits, gradient = difference(network, design, image)
    assert max(logits, gradient) < 1e-4
    assert len(design.train()(image)) == 2
    assert _gradients(network, image) == pytest.approx(_gradients(design, image), rel=1e-3, abs=1e-5)


def _gradients(model: torch.nn.Module, image: torch.Tensor) -> list[float]:
    sum(level.square().mean() for level in model.train()(image)).backward()
    found = [float(parameter.grad.norm()) for parameter in model.parameters()]
    model.zero_grad(set_to_none=True)
    return found


def test_the_official_design_is_refused_for_a_network_that_masks_padding() -> None:
    with pytest.raises(ValueError, match="mask_padding"):
        OfficialDesign(NnFormer(NnFormerConfig.from_dict({**TINY.to_dict(), "mask_padding": True})))


def test_a_network_that_cannot_run_on_a_crop_says_why() -> None:
    with pytest.raises(ValueError, match="32 voxels"):
        MONAI["MONAI SwinUNETR (48)"](TINY, (40, 56, 40))


def test_contenders_take_turns_and_each_round_has_one_of_each() -> None:
    calls: list[str] = []
    timings = alternate({name: lambda name=name: calls.append(name) for name in "ab"}, seconds=0, warm_up=1)
    assert calls == ["a", "b", *"abbaab"]
    assert {len(timing.wall) for timing in timings.values()} == {3}


def test_a_ratio_is_the_median_over_rounds_of_the_two_times_of_a_round() -> None:
    ours, other = Timing((1.0, 10.0, 1.0), (1.0, 1.0, 1.0)), Timing((2.0, 20.0, 3.0), (4.0, 4.0, 4.0))
    assert other.speedup_of(ours)[1] == 2.0
    assert other.processor_speedup_of(ours) == 4.0


def test_a_block_measured_again_replaces_its_rows_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    replace_rows(path, [{"case": "a", "s": 1}, {"case": "b", "s": 2, "note": "x, y"}], ["case"])
    replace_rows(path, [{"case": "a", "s": 3}], ["case"])
    assert read_rows(path) == [{"case": "b", "s": "2", "note": "x, y"}, {"case": "a", "s": "3", "note": ""}]


def test_the_table_marks_figures_of_a_busy_machine_and_says_what_was_not_run() -> None:
    row = dict.fromkeys(
        ("q1_s", "median_s", "q3_s", *(f"ours_faster{part}" for part in ("", "_q1", "_q3", "_processor"))), "1.50"
    )
    row |= {"case": "c", "batch": "1", "crop": "8x8x8", "device": "cpu", "precision": "fp32", "threads": "1"}
    row |= {
        "mode": "train",
        "contender": "official design",
        "rounds": "9",
        "machine": "m",
        "skipped": "",
        "load": "4.0",
    }
    skipped = {**row, "contender": "official code", "skipped": "no clone"}
    text = network_table([row, skipped])
    assert "**1.50** (1.50 - 1.50) (busy)" in text
    assert "official code on c: not run, no clone." in text
    assert "(busy)" not in network_table([{**row, "load": "1.0"}])


def test_a_step_of_pretraining_runs_with_either_encoding_and_reports_both() -> None:
    case = pretraining.Case(
        "tiny",
        NnFormerConfig.preset("small", crop_size=(16, 16, 16), embed_dim=8, heads=(1, 1, 1), drop_path=0.0),
        {"unit": (8, 8, 8), "decoder_dim": 8, "decoder_depth": 1, "decoder_heads": 1},
    )
    run = {name: pretraining.step(case, 0.75, name, torch.device("cpu")) for name in pretraining.ENCODINGS}
    assert all(run[name]() > 0 for name in run)
    figures = {"median_s": "0.1", "faster": "2.0", "faster_q1": "1.9", "faster_q3": "2.1", "faster_processor": "2.0"}
    figures |= {"case": "tiny", "ratio": "0.75", "precision": "fp32", "threads": "1", "peak_mib": "9", "rounds": "5"}
    rows = [{**figures, "encoding": name, "load": "1.0", "machine": "m"} for name in pretraining.ENCODINGS]
    assert "**2.00** (1.90 - 2.10)" in pretraining_table(rows)


def test_fine_tuning_says_how_soon_dice_was_near_its_end(tmp_path: Path, real_data: Path) -> None:
    settings = FineTuneSettings(steps=2, validate_every=1, batch_size=1, threads=1, initial_weights="autoencoder")
    task = finetuning._task(real_data / "hippocampus_mr", 1, settings, tmp_path)
    train(task, settings, tmp_path / "run")
    summary = finetuning._summary(task, settings)
    assert int(summary["near_step"]) in (1, 2)
    assert 0 <= float(summary["waiting_share"]) < 1
    assert [row["step"] for row in task.rows] == [1, 2]
