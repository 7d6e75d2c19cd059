"""Every pretext trains an encoder that a segmentation network takes over, and continues exactly after a stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from MAESegmentLib.errors import Cancelled, ConfigurationError
from MAESegmentLib.networks import MaeConfig, NnFormer, NnFormerConfig, transfer_encoder
from MAESegmentLib.training.loop.loop import Task, train
from MAESegmentLib.training.run_context import Progress, RunContext
from MAESegmentLib.training.settings import Augmentation, PretrainSettings
from model_training.studies.data_efficiency.pretexts import PRETEXTS, make_pretext
from Testing.bundles import tiny_network_config
from Testing.datasets import prepared_case

PATCH = (16, 16, 16)
NETWORK = replace(tiny_network_config(), embed_strides=((2, 2, 2), (1, 1, 1)), drop_path=0.3)
AUTOENCODER = MaeConfig(NETWORK, unit=(4, 4, 4), mask_ratio=0.6, decoder_dim=8, decoder_depth=1, decoder_heads=1)
SETTINGS = PretrainSettings(
    steps=4,
    batch_size=2,
    learning_rate=1e-3,
    checkpoint_every=2,
    validate_every=4,
    log_every=1,
    device="cpu",
    precision="fp32",
    threads=1,
    augmentation=Augmentation.geometric(),
)
NAMES = tuple(PRETEXTS)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def task(
    name: str,
    options: dict[str, Any] | None = None,
    *,
    network: NnFormerConfig = NETWORK,
    settings: PretrainSettings = SETTINGS,
    patch: tuple[int, int, int] = PATCH,
    identity: str = "cases",
) -> Task:
    training = [prepared_case("a"), prepared_case("b", seed=1), prepared_case("c", seed=2)]
    held_out = [prepared_case("held out", seed=3)]
    return make_pretext(name, options or {}, network, AUTOENCODER, training, held_out, patch, settings, identity)


def first_loss(made: Task, step: int = 0) -> torch.Tensor:
    batch = next(iter(made.batches(step, torch.device("cpu"))))
    torch.manual_seed(SETTINGS.seed * 1_000_003 + step)
    return made.loss(made.model.train(), batch, step)


def stop_after(steps: int) -> tuple[Callable[[Progress], None], Callable[[], bool]]:
    seen = [0]

    def report(progress: Progress) -> None:
        seen[0] = max(seen[0], progress.step)

    return report, lambda: seen[0] >= steps


@pytest.mark.parametrize("name", NAMES)
def test_the_encoder_fits_a_segmentation_network_whole(name: str) -> None:
    network = NnFormer(NETWORK)
    made = task(name)
    report = transfer_encoder(made.model.state_dict(), network)
    assert set(report.loaded) == {key for key in network.state_dict() if key.startswith("encoder.")}
    image = torch.randn(1, 1, *PATCH)
    with torch.no_grad():
        theirs = made.model.eval().encoder(image)  # type: ignore[operator]
        assert all(torch.equal(a, b) for a, b in zip(network.eval().encoder(image), theirs, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_teaches_every_stage_of_the_encoder(name: str) -> None:
    made = task(name)
    loss = first_loss(made)
    assert loss.isfinite()
    loss.backward()
    encoder = made.model.encoder
    for part in (encoder.embedding, *encoder.stages, *encoder.downs):  # type: ignore[union-attr, misc]
        dead = [key for key, p in part.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert dead == []


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_of_a_step_depends_on_seed_and_step_alone(name: str) -> None:
    first, again, later = first_loss(task(name)), first_loss(task(name)), first_loss(task(name), step=1)
    assert first.item() == again.item()
    assert first.item() != later.item()


@pytest.mark.parametrize("name", NAMES)
def test_a_stopped_pretraining_ends_with_the_weights_of_one_that_was_not(name: str, tmp_path: Path) -> None:
    whole = train(task(name), SETTINGS, tmp_path / "whole")
    report, should_cancel = stop_after(3)
    with pytest.raises(Cancelled):
        train(task(name), SETTINGS, tmp_path / "parts", RunContext(report, should_cancel))
    parts = train(task(name), SETTINGS, tmp_path / "parts")
    assert whole.weights.keys() == parts.weights.keys()
    for key, value in whole.weights.items():
        torch.testing.assert_close(value, parts.weights[key], atol=1e-6, rtol=0, msg=key)
    assert whole.score == pytest.approx(parts.score, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_stochastic_depth_is_off_whatever_the_network_says(name: str) -> None:
    rates = {module.rate for module in task(name).model.modules() if hasattr(module, "rate")}
    assert rates == {0.0}


def test_options_change_the_autoencoder_and_the_identity() -> None:
    plain, changed = task("mae"), task("mae", {"mask_ratio": 0.3, "unit": [2, 2, 2], "decoder_depth": 2})
    config = changed.model.config
    assert (config.mask_ratio, config.unit, config.decoder_depth) == (0.3, (2, 2, 2), 2)  # type: ignore[union-attr]
    assert len({plain.identity, changed.identity, task("mae", identity="others").identity}) == 3
    assert task("mae").identity == plain.identity


def test_visible_units_alone_can_be_encoded_by_an_option() -> None:
    made = task("mae", {"encoding": "visible"})
    first_loss(made).backward()
    assert all(token.grad.abs().sum() > 0 for token in made.model.visible.tokens)  # type: ignore[union-attr, operator]
    assert made.identity != task("mae").identity


def test_unknown_names_and_options_are_refused_with_those_that_exist() -> None:
    with pytest.raises(ConfigurationError, match=r"'jigsaw'.*\n.*mae"):
        task("jigsaw")
    with pytest.raises(ConfigurationError, match=r"temperature.*\n.*mask_ratio"):
        task("mae", {"temperature": 0.1})
