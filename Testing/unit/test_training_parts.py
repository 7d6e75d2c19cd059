"""A step that is computed in parts is the step that was computed whole, whoever computes which part."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from MAESegmentLib.bundle import Bundle, open_bundle
from MAESegmentLib.cases.dataset import load_dataset
from MAESegmentLib.errors import ConfigurationError
from MAESegmentLib.networks import MaeConfig, MaskedAutoencoder, NnFormer
from MAESegmentLib.training.data.patches import Batch, PatchSamples, batches
from MAESegmentLib.training.data.prepared import IGNORED
from MAESegmentLib.training.finetune import finetune
from MAESegmentLib.training.loop.checkpoint import CHECKPOINT
from MAESegmentLib.training.loop.distributed import SOLO, Team, joined
from MAESegmentLib.training.loop.loop import train
from MAESegmentLib.training.loop.runlog import read_log
from MAESegmentLib.training.pretrain import pretrain
from MAESegmentLib.training.run_context import RunContext
from MAESegmentLib.training.settings import Augmentation, FineTuneSettings, PretrainSettings
from MAESegmentLib.training.tasks.losses import SegmentationLoss
from MAESegmentLib.training.tasks.masked import MaskedTask
from MAESegmentLib.training.tasks.segmentation import SegmentationTask
from Testing.bundles import autoencoder_spec, save_tiny, tiny_network_config, tiny_spec
from Testing.datasets import prepared_case, write_dataset
from Testing.phantoms import LABELS
from Testing.teams import run_team

PATCH = (16, 16, 16)
CPU = torch.device("cpu")
QUICK: dict[str, Any] = {"device": "cpu", "precision": "fp32", "threads": 1}
SETTINGS = FineTuneSettings(steps=3, batch_size=5, micro_batch=2, log_every=1, ema_decay=0.9, **QUICK)


def masked(settings: PretrainSettings, team: Team = SOLO, **options: object) -> MaskedTask:
    torch.manual_seed(0)
    model = MaskedAutoencoder(MaeConfig(encoder=tiny_network_config(), decoder_dim=16, **options))  # type: ignore[arg-type]
    cases = [prepared_case(f"case{n}", seed=n) for n in range(3)]
    return MaskedTask(model, cases, cases[:1], PATCH, settings, "test", team)


def segmentation(settings: FineTuneSettings = SETTINGS, team: Team = SOLO) -> SegmentationTask:
    torch.manual_seed(0)
    cases = [prepared_case(f"case{n}", seed=n) for n in range(4)]
    network = NnFormer(replace(tiny_network_config(), drop_path=0.3, deep_supervision=True))
    return SegmentationTask(network, cases[:3], cases[3:], ("one", "two"), PATCH, settings, "test", 2, team)


def tuned(out: Path, team: Team = SOLO) -> Bundle:
    data = load_dataset(write_dataset(out.with_name(f"data-{team.rank}-{team.size}"), 3))
    base = save_tiny(out.with_name(f"base-{team.rank}-{team.size}"), tiny_spec(labels=LABELS))
    return finetune(data, base, out, SETTINGS, validation="case_2", context=RunContext(team=team))


def pretrained(out: Path, team: Team = SOLO) -> Bundle:
    cases = load_dataset(write_dataset(out.with_name(f"scans-{team.rank}-{team.size}"), 3)).cases
    spec, settings = autoencoder_spec(), PretrainSettings(steps=3, batch_size=5, micro_batch=2, held_out=0.3, **QUICK)
    assert spec.autoencoder is not None
    return pretrain(
        cases,
        out,
        settings,
        autoencoder=spec.autoencoder,
        preprocessing=spec.preprocessing,
        context=RunContext(team=team),
    )


@pytest.mark.parametrize("processes", [2, 3])
def test_every_patch_of_a_step_is_made_by_exactly_one_process(processes: int) -> None:
    samples = PatchSamples([prepared_case(f"case{n}", seed=n) for n in range(3)], PATCH, SETTINGS)
    whole = {(n // 3, batch.part): batch for n, batch in enumerate(batches(samples, 0, CPU))}
    seen = {}
    for rank in range(processes):
        team = Team(rank, processes)
        own = len(team.own(SETTINGS.parts()))
        for n, batch in enumerate(batches(samples, 0, CPU, team)):
            key = (n // own, batch.part)
            assert key not in seen
            seen[key] = batch
    assert seen.keys() == whole.keys()
    assert all(torch.equal(seen[key].image, whole[key].image) for key in whole)
    assert [len(whole[0, part].case_ids) for part in range(3)] == [2, 2, 1]


def test_masked_voxels_count_equally_in_whichever_part_they_are() -> None:
    settings = PretrainSettings(steps=1, batch_size=5, micro_batch=2, device="cpu", precision="fp32", threads=1)
    task = masked(settings, mask_ratio=(0.2, 0.9))
    parts = list(islice(task.batches(0, CPU), 3))
    amounts = [task.amounts(part, 0) for part in parts]
    assert len({amount / len(part.case_ids) for (amount,), part in zip(amounts, parts, strict=True)}) > 1
    of = [sum(amount for (amount,) in amounts)]
    errors, voxels = 0.0, 0.0
    for part in parts:
        output = task.model(part.image, task._mask(part, 0))
        difference = task.model.distance(output.prediction.detach(), part.image) * output.mask
        errors += float(difference.sum())
        voxels += float(output.mask.sum())
    assert of == [voxels]
    total = sum(float(task.loss(task.model, part, 0, of).detach()) for part in parts)
    assert total == pytest.approx(errors / voxels, rel=1e-4)


def test_annotated_voxels_count_equally_in_whichever_part_they_are() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 3, 8, 8, 8, generator=generator)
    classes = torch.randint(0, 3, (3, 1, 8, 8, 8), generator=generator)
    classes[0, :, 1:] = IGNORED
    known = classes != IGNORED
    loss = SegmentationLoss()
    parts = (slice(0, 1), slice(1, 3))
    shares = [float(known[part].sum() / known.sum()) for part in parts]
    entropies = [
        loss(logits[rows], classes[rows], None, (0.0, share)) for rows, share in zip(parts, shares, strict=True)
    ]
    torch.testing.assert_close(torch.stack(entropies).sum(), loss(logits, classes, None, (0.0, 1.0)))


def test_dropout_and_masks_of_the_parts_of_a_step_differ() -> None:
    settings = PretrainSettings(steps=1, batch_size=4, micro_batch=2)
    task = masked(settings)
    image = torch.zeros(2, 1, *PATCH)
    masks = [task._mask(Batch(image, None, ("a", "b"), part), step) for step in (0, 1) for part in (0, 1)]
    assert len({mask.numpy().tobytes() for mask in masks}) == 4


def test_a_run_that_began_before_later_settings_goes_on() -> None:
    whole = FineTuneSettings()
    later = whole.LATER
    older = {key: value for key, value in whole.to_dict().items() if key not in later}
    decisive = {key: value for key, value in older.items() if key not in whole.INCIDENTAL}
    later = whole.augmentation.LATER
    decisive["augmentation"] = {key: value for key, value in older["augmentation"].items() if key not in later}
    assert whole.fingerprint() == hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]
    assert whole.fingerprint() != replace(whole, micro_batch=1).fingerprint()
    assert whole.fingerprint() != replace(whole, augmentation=Augmentation(elastic=0.5)).fingerprint()
    assert FineTuneSettings.from_dict({**whole.to_dict(), "shard_optimiser": True}) == whole, "a retired setting"


def test_too_few_patches_for_the_processes_are_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigurationError, match="too few for 4 processes") as raised:
        Team(0, 4).settings(FineTuneSettings(batch_size=2))
    assert "--batch-size" in raised.value.hint
    assert Team(0, 4).settings(FineTuneSettings(batch_size=10)).micro_batch == 2
    assert SOLO.settings(FineTuneSettings()).micro_batch is None


_TEAM = """
import os, sys
from pathlib import Path
import numpy as np
from MAESegmentLib.errors import MAESegmentError
from MAESegmentLib.processes.ending import end_process
from MAESegmentLib.training.loop.distributed import joined
from MAESegmentLib.training.loop.loop import train
from MAESegmentLib.training.run_context import RunContext
from Testing.unit.test_training_parts import SETTINGS, pretrained, segmentation, tuned

folder = Path(sys.argv[1])
with joined("cpu") as team:
    def told(work):
        try:
            work()
        except MAESegmentError as error:
            print("told:", error.message, flush=True)
        except ValueError as error:
            print("own:", error, flush=True)

    def fail(_=None):
        raise ValueError("as expected")

    told(lambda: team.first(fail))
    told(lambda: team.map(lambda n: fail() if n == 1 else n, [0, 1, 2]))
    assert team.map(lambda n: n * n, [0, 1, 2, 3, 4]) == [0, 1, 4, 9, 16]

    train(segmentation(SETTINGS, team), SETTINGS, folder / "team", RunContext(team=team))
    tuned(folder / "tuned", team)
    pretrained(folder / "pretrained", team)
    bad = segmentation(SETTINGS, team)
    for case in bad._samples.cases if team.rank == 1 else ():
        case.image[...] = np.inf
    told(lambda: train(bad, SETTINGS, folder / "bad", RunContext(team=team)))
    stopped = segmentation(SETTINGS, team)
    context = RunContext(should_cancel=lambda: team.rank == 1, team=team)
    told(lambda: train(stopped, SETTINGS, folder / "stopped", context))
end_process(0)  # as the command does
"""


@pytest.mark.slow
def test_what_happens_in_one_process_is_known_to_all(tmp_path: Path) -> None:
    (first, first_output), (second, second_output) = run_team(2, _TEAM, str(tmp_path))
    assert (first, second) == (0, 0), first_output + second_output
    for output, place in ((first_output, 0), (second_output, 1)):
        assert [line.partition(":")[0] for line in output.splitlines() if line.startswith(("own", "told"))] == [
            *(["own", "told"] if place == 0 else ["told", "own"]),
            *["told", "told"],
        ]
        assert "The loss of step 1 is nan" in output
        assert "Training was stopped" in output
    assert "Process 1 of 2 failed: The loss of step 1" in first_output
    state = torch.load(tmp_path / "stopped" / CHECKPOINT, weights_only=True)
    assert state["step"] == 0
    assert not (tmp_path / "bad" / CHECKPOINT).exists()
    _assert_run_of_a_team_is_like_one_process(tmp_path)
    together, alone = open_bundle(tmp_path / "tuned" / "model"), tuned(tmp_path / "tuned alone")
    _assert_close(together.load_network(), alone.load_network())
    assert together.spec.metrics["validation"]["cases"] == 1
    together, alone = open_bundle(tmp_path / "pretrained" / "model"), pretrained(tmp_path / "pretrained alone")
    _assert_close(together.load_autoencoder(), alone.load_autoencoder())
    assert together.spec.reconstruction_error["mean"] == pytest.approx(
        alone.spec.reconstruction_error["mean"], rel=1e-3
    )


def _assert_close(found: torch.nn.Module | None, expected: torch.nn.Module | None) -> None:
    assert found is not None
    assert expected is not None
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value, atol=1e-3, rtol=1e-2, msg=name)


def _assert_run_of_a_team_is_like_one_process(folder: Path) -> None:
    """And one process resumes from its checkpoint."""
    alone = train(segmentation(), SETTINGS, folder / "alone")
    losses = [[row["loss"] for row in read_log(folder / name / "log.csv")] for name in ("alone", "team")]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    state = torch.load(folder / "team" / CHECKPOINT, weights_only=True)
    task = segmentation()
    torch.optim.AdamW(task.parameter_groups()).load_state_dict(state["optimiser"])
    again = train(task, SETTINGS, folder / "team")
    for name, value in alone.weights.items():
        torch.testing.assert_close(again.weights[name], value, atol=1e-3, rtol=1e-2, msg=name)


def test_one_gpu_for_all_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match="cannot all use cuda:0") as raised, joined("cuda:0"):
        pass
    assert "--device cuda" in raised.value.hint
