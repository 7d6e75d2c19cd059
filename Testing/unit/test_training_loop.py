"""The loop continues exactly where it was, stops before it does harm, and refuses what it cannot continue."""

from __future__ import annotations

import contextlib
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from MAESegmentLib.errors import Cancelled, ConfigurationError, DeviceMemoryError, OutputError, TrainingError
from MAESegmentLib.networks import NnFormer
from MAESegmentLib.storage import atomic_file
from MAESegmentLib.training.data.patches import Batch
from MAESegmentLib.training.data.prepared import IGNORED, PreparedCase
from MAESegmentLib.training.loop.checkpoint import CHECKPOINT, load_checkpoint, save_checkpoint
from MAESegmentLib.training.loop.loop import Trained, train
from MAESegmentLib.training.loop.optimiser import MovingAverage, parameter_groups, stage_scale
from MAESegmentLib.training.loop.runlog import read_log
from MAESegmentLib.training.loop.schedule import BySteps
from MAESegmentLib.training.run_context import RunContext
from MAESegmentLib.training.settings import FineTuneSettings, LoopSettings
from MAESegmentLib.training.tasks.losses import SegmentationLoss
from MAESegmentLib.training.tasks.segmentation import SegmentationTask
from Testing.bundles import tiny_network_config
from Testing.datasets import prepared_case
from Testing.stopping import once_at

PATCH = (16, 16, 16)
#: What torch says of its own code.
INTERNALS = re.compile(r"enforce|\.cc|miniz|internal|archive|zip|pickle", re.IGNORECASE)
SETTINGS = FineTuneSettings(
    steps=12,
    checkpoint_every=4,
    validate_every=6,
    log_every=1,
    device="cpu",
    precision="fp32",
    threads=1,
    ema_decay=0.9,
)


def segmentation(
    settings: FineTuneSettings = SETTINGS,
    cases: list[PreparedCase] | None = None,
    kind: type[SegmentationTask] = SegmentationTask,
) -> Any:
    torch.manual_seed(settings.seed)
    network = NnFormer(replace(tiny_network_config(), drop_path=0.3, deep_supervision=True))
    cases = cases or [prepared_case(f"case{n}", seed=n) for n in range(3)]
    return kind(
        network, cases[:-1] or cases, cases[-1:], ("one", "two"), PATCH, settings, encoder_stages=2, identity="test"
    )


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        torch.testing.assert_close(value, right[name], atol=1e-6, rtol=0, msg=name)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run that was not stopped."""
    return train(segmentation(), SETTINGS, tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("step", [1, 5, 11])
def test_stopped_run_ends_with_the_weights_of_one_that_was_not(tmp_path: Path, whole: Trained, step: int) -> None:
    report, should_cancel = once_at(step)
    with pytest.raises(Cancelled):
        train(segmentation(), SETTINGS, tmp_path / "parts", RunContext(report, should_cancel))
    assert_same(whole.weights, train(segmentation(), SETTINGS, tmp_path / "parts").weights)


class _Drawing(SegmentationTask):
    """Notes what dropout would draw at each step."""

    draws: dict[int, float]

    def loss(self, model: torch.nn.Module, batch: Batch, step: int, of: Sequence[float] | None = None) -> torch.Tensor:
        self.draws[step] = float(torch.rand(()))
        return super().loss(model, batch, step, of)


def _drawn(folder: Path, settings: FineTuneSettings, parts: Sequence[int] = ()) -> dict[int, float]:
    """What is drawn at each step of a run that is stopped at the steps `parts` and resumed."""
    draws: dict[int, float] = {}
    for stop in (*parts, settings.steps):
        task = segmentation(settings, kind=_Drawing)
        task.draws = draws
        report, should_cancel = once_at(stop)
        with contextlib.suppress(Cancelled):
            train(task, settings, folder, RunContext(report, should_cancel))
    return draws


def test_dropout_of_a_step_depends_on_the_step_and_the_seed_alone(tmp_path: Path) -> None:
    whole = _drawn(tmp_path / "whole", SETTINGS)
    assert sorted(whole) == list(range(12))
    assert len(set(whole.values())) == 12
    assert _drawn(tmp_path / "parts", SETTINGS, [3, 7]) == whole
    other = _drawn(tmp_path / "other", replace(SETTINGS, seed=1))
    assert not set(other.values()) & set(whole.values())


_WORKER = """
import sys
from pathlib import Path
from Testing.unit.test_training_loop import SETTINGS, segmentation
from MAESegmentLib.training.loop.loop import train
from dataclasses import replace
settings = replace(SETTINGS, steps=400, checkpoint_every=3)
train(segmentation(settings), settings, Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_killed_process_leaves_a_run_that_ends_with_the_same_weights(tmp_path: Path) -> None:
    settings = replace(SETTINGS, steps=400, checkpoint_every=3)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen([sys.executable, "-c", _WORKER, str(killed)], cwd=Path(__file__).parents[2])
    wanted = random.randint(4, 25)
    deadline = time.monotonic() + 120
    while len(_rows(killed / "log.csv")) < wanted and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, f"the worker ended by itself before row {wanted}"
    for folder in (killed, whole):
        report, should_cancel = once_at(40)
        with pytest.raises(Cancelled):
            train(segmentation(settings), settings, folder, RunContext(report, should_cancel))
    states = [torch.load(folder / CHECKPOINT, weights_only=True) for folder in (killed, whole)]
    assert states[0]["step"] == states[1]["step"] == 40
    for part in ("model", "average"):
        assert_same(states[0][part], states[1][part])
    assert [row["step"] for row in read_log(killed / "log.csv")] == list(range(1, 41))


def _rows(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_non_finite_loss_names_the_case_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    bad = prepared_case("bad")
    bad.image[...] = np.inf
    cases = [prepared_case("good"), bad, prepared_case("held out")]
    settings = replace(SETTINGS, batch_size=1, checkpoint_every=1)
    trials = [replace(settings, seed=seed) for seed in range(10)]
    settings = next(s for s in trials if _first_case(segmentation(s, cases)) == "good")
    with pytest.raises(TrainingError, match=r"step 2 is nan.* case bad"):
        train(segmentation(settings, cases), settings, tmp_path)
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert state["step"] == 1
    assert all(torch.isfinite(value).all() for value in state["model"].values())


def _first_case(task: SegmentationTask) -> str:
    return next(iter(task.batches(0, torch.device("cpu")))).case_ids[0]


class _PatchesThatDoNotFit(SegmentationTask):
    def batches(self, first_step: int, device: torch.device) -> Any:  # noqa: ARG002
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        yield


def test_patches_that_do_not_fit_on_the_gpu_are_told_as_too_little_memory(tmp_path: Path) -> None:
    with pytest.raises(DeviceMemoryError) as raised:
        train(segmentation(kind=_PatchesThatDoNotFit), SETTINGS, tmp_path)
    assert "micro-batch" in raised.value.hint


def test_a_held_out_case_that_does_not_fit_on_the_gpu_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*_of: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB.")

    monkeypatch.setattr("MAESegmentLib.training.tasks.segmentation.rows_of_case", too_large)
    settings = replace(SETTINGS, validate_every=1)
    task = segmentation(settings)
    with pytest.raises(DeviceMemoryError, match=f"held-out case {task.held_out[0].id} ") as raised:
        train(task, settings, tmp_path)
    assert "hold out a smaller scan" in raised.value.hint


def test_run_folder_of_other_settings_is_refused(tmp_path: Path) -> None:
    short = replace(SETTINGS, steps=2)
    train(segmentation(short), short, tmp_path)
    with pytest.raises(ConfigurationError, match="other settings"):
        train(segmentation(), replace(short, learning_rate=1.0), tmp_path)


def test_logging_more_often_is_not_another_run(tmp_path: Path) -> None:
    short = replace(SETTINGS, steps=2)
    train(segmentation(short), short, tmp_path)
    assert train(segmentation(short), replace(short, log_every=2, cache_gb=1.0), tmp_path).step == 2


@pytest.mark.filterwarnings("ignore")
def test_a_checkpoint_with_flipped_bytes_is_reported_with_what_to_do(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, {"fingerprint": "x", "step": 1, "model": {"w": torch.arange(20.0)}})
    path = tmp_path / CHECKPOINT
    data, drawn, hints = path.read_bytes(), random.Random(0), []
    for _ in range(300):
        damaged = bytearray(data)
        damaged[drawn.randrange(40, 500)] = drawn.randrange(256)
        path.write_bytes(damaged)
        try:
            load_checkpoint(tmp_path, "x")
        except (TrainingError, ConfigurationError) as error:
            hints.append(error.hint)
    assert len(hints) > 30
    assert all(hints)


def test_training_lowers_the_loss_and_logs_it(tmp_path: Path) -> None:
    settings = replace(SETTINGS, steps=40, learning_rate=3e-3, validate_every=20)
    train(segmentation(settings), settings, tmp_path)
    losses = [row["loss"] for row in read_log(tmp_path / "log.csv")]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
    validation = read_log(tmp_path / "validation.csv")
    assert [row["step"] for row in validation] == [20, 40]
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_best_weights_are_kept_only_when_asked_for(tmp_path: Path) -> None:
    trained = train(segmentation(), SETTINGS, tmp_path / "best", keep_best=True)
    scores = {row["step"]: row["dice"] for row in read_log(tmp_path / "best" / "validation.csv")}
    assert trained.score == pytest.approx(max(scores.values()), abs=1e-5)
    assert trained.best_step == max(scores, key=scores.__getitem__)
    last = train(segmentation(), SETTINGS, tmp_path / "last")
    assert torch.load(tmp_path / "last" / CHECKPOINT, weights_only=True)["best"]["weights"] is None
    assert last.step == SETTINGS.steps


def test_deep_layers_learn_slowly_and_norms_biases_and_bias_tables_do_not_decay() -> None:
    network = NnFormer(tiny_network_config())
    scale = stage_scale(2, 0.5)
    assert scale("encoder.stages.0.0.norm1.weight") < scale("encoder.stages.1.0.norm1.weight") < scale("heads.0.weight")
    groups = parameter_groups(network, FineTuneSettings(weight_decay=0.1), scale)
    decay_of = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    for name, parameter in network.named_parameters():
        assert (decay_of.pop(id(parameter)) > 0) == (parameter.ndim > 1 and "table" not in name), name
    assert not decay_of
    assert {group["lr_scale"] for group in groups} == {1.0, 0.5, 0.25, 0.125}


def test_the_moving_average_warms_up_and_then_keeps_its_pace() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)

    def averaged(steps: Sequence[int], decay: float = 0.999) -> list[float]:
        average, schedule = MovingAverage(model, decay), BySteps(LoopSettings(ema_decay=decay))
        target = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.ones_(target.weight)
        values = []
        for step in steps:
            average.update(target, schedule.before(step - 1)[1])
            values.append(float(average.model.weight))
        assert not average.model.weight.requires_grad
        return values

    # The first steps count for nearly all, though 0.999 alone would keep 99 % of the random start after ten of them.
    first = averaged(range(1, 11))
    assert first[0] == pytest.approx(9 / 11)
    assert first[1] == pytest.approx(1 - 2 / 11 * 3 / 12)
    assert first[-1] > 0.999
    assert averaged([10**6]) == [pytest.approx(0.001, rel=1e-3)]
    assert averaged([8]) == [pytest.approx(1 - 9 / 18)]
    assert averaged([8], decay=0.25) == [pytest.approx(0.75)]


def test_ignored_voxels_do_not_change_the_loss() -> None:
    logits = torch.randn(2, 3, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    classes = torch.zeros(2, 1, 8, 8, 8, dtype=torch.long)
    classes[:, :, 2:5] = 1
    classes[:, :, 6:] = IGNORED
    changed = logits.clone()
    changed[:, :, 6:] += 5 * torch.randn(2, 3, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    loss = SegmentationLoss()
    torch.testing.assert_close(loss(logits, classes), loss(changed, classes))
    # They cost what the others cost alone.
    torch.testing.assert_close(loss(logits, classes), loss(logits[:, :, :6], classes[:, :, :6]))


def test_perfect_outputs_at_every_level_cost_nearly_nothing() -> None:
    classes = torch.zeros(1, 1, 8, 8, 8, dtype=torch.long)
    classes[:, :, 4:] = 1
    classes[:, :, :, 4:] = 2
    outputs = [
        50.0 * torch.nn.functional.one_hot(classes[:, 0, ::f, ::f, ::f], 3).movedim(-1, 1).float() for f in (1, 2, 4)
    ]
    loss = SegmentationLoss()
    assert float(loss(outputs, classes)) < 1e-3
    assert float(loss([outputs[0], -outputs[1], outputs[2]], classes)) > 1.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"learning_rate": float("nan")},
        {"ema_decay": 1.0},
        {"precision": "fp8"},
        {"layer_decay": 0.0},
        {"augmentation": {"affine": 2.0}},
        {"augmentation": {"elastics": 1.0}},
        {"setps": 5},
    ],
)
def test_setting_that_cannot_work_is_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError) as raised:
        FineTuneSettings.from_dict(wrong)
    name = next(iter(wrong))
    assert name in raised.value.message or "augmentation" in raised.value.message


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_checkpoint_that_cannot_be_written_is_told_without_torchs_internals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, {"fingerprint": "x", "step": 1})

    on_a_full_disk = tmp_path / ".tmp-full.pt"
    on_a_full_disk.symlink_to("/dev/full")
    monkeypatch.setattr(atomic_file, "_temporary_beside", lambda _path: on_a_full_disk)
    with pytest.raises(OutputError, match=r"cannot be written to .*: No space left on device\.") as raised:
        save_checkpoint(tmp_path, {"fingerprint": "x", "step": 2, "model": {"w": torch.arange(2.0e5)}})
    assert not INTERNALS.search(raised.value.message)
    assert load_checkpoint(tmp_path, "x") == {"fingerprint": "x", "step": 1}


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_a_checkpoint_that_is_cut_short_is_told_without_torchs_internals(tmp_path: Path, share: float) -> None:
    save_checkpoint(tmp_path, {"fingerprint": "x", "model": {"w": torch.arange(2.0e4)}})
    data = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(data[: int(share * len(data))])
    with pytest.raises(TrainingError, match="it is damaged") as raised:
        load_checkpoint(tmp_path, "x")
    assert "start over" in raised.value.hint
    assert not INTERNALS.search(raised.value.message)
