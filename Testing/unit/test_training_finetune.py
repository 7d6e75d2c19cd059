"""From a bundle and cases to a child bundle: heads and stems re-made, bad cases named, proof kept apart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from MAESegmentLib.bundle import Bundle, open_bundle, save_bundle
from MAESegmentLib.cases.checks import read_image
from MAESegmentLib.cases.dataset import CaseDataset, load_dataset
from MAESegmentLib.errors import Cancelled, ConfigurationError, DatasetError
from MAESegmentLib.images.labels import Label
from MAESegmentLib.images.volume import Volume
from MAESegmentLib.inference import InferenceSettings, Predictor
from MAESegmentLib.networks import MaeConfig
from MAESegmentLib.training.data.labelling import plan_labels
from MAESegmentLib.training.finetune import finetune
from MAESegmentLib.training.pretrain import pretrain
from MAESegmentLib.training.recipe import Description, slug
from MAESegmentLib.training.run_context import Progress, RunContext
from MAESegmentLib.training.settings import FineTuneSettings, PretrainSettings
from MAESegmentLib.training.tasks.initial import initial_network
from Testing.bundles import autoencoder_spec, save_tiny, tiny_network_config, tiny_spec
from Testing.datasets import change, write_dataset
from Testing.phantoms import LABELS
from Testing.stopping import once_at

QUICK = FineTuneSettings(steps=2, validate_every=2, device="cpu", threads=1)
PIXEL = torch.arange(16**3, dtype=torch.float32).reshape(1, 1, 16, 16, 16) / 1000 - 2


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return save_tiny(tmp_path_factory.mktemp("mae") / "tiny-mae", autoencoder_spec())


@pytest.fixture(scope="module")
def detailed(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A model with a detail head that has learnt something."""
    folder, spec = tmp_path_factory.mktemp("detailed"), tiny_spec(labels=LABELS)
    assert spec.network is not None
    spec = replace(spec, network=replace(spec.network, detail_channels=4))
    state = save_tiny(folder / "new", spec).load_network().state_dict()
    torch.manual_seed(1)
    learnt = {
        key: 0.1 * torch.randn_like(value) if key.startswith("detail.") else value for key, value in state.items()
    }
    return save_bundle(folder / "learnt", spec, learnt, card="# tiny\n", licence_text="Apache License 2.0\n")


@pytest.fixture
def dataset(tmp_path: Path) -> CaseDataset:
    return load_dataset(write_dataset(tmp_path / "data", 3))


def network_for(
    base: Bundle, labels: dict[str, int], wanted: Sequence[str] | None = None, channels: int = 1, **changes: Any
):
    plan = plan_labels(labels, base.labels, wanted)
    return initial_network(base, plan, channels, replace(QUICK, **changes)), plan


def test_same_labels_start_as_the_base_model_whatever_their_order(base: Bundle) -> None:
    (network, notes), plan = network_for(base, {"Back": 7, "front": 3})
    assert plan.names == ("front", "back")
    assert plan.values == (3, 7)
    torch.testing.assert_close(network.eval()(PIXEL), base.load_network()(PIXEL))
    assert "Same labels" in notes[0]


def test_subset_keeps_the_outputs_of_its_labels(base: Bundle) -> None:
    (network, notes), plan = network_for(base, {"front": 1, "back": 2}, ["back"])
    torch.testing.assert_close(network.eval()(PIXEL), base.load_network()(PIXEL)[:, [0, 2]])
    assert plan.labels == (LABELS[1],)
    assert "re-made; kept: back; dropped: front" in notes[0]


def test_new_label_gets_a_new_output_beside_the_known_ones(base: Bundle) -> None:
    (network, notes), plan = network_for(base, {"front": 1, "tumour": 5})
    torch.testing.assert_close(network.eval()(PIXEL)[:, :2], base.load_network()(PIXEL)[:, :2])
    assert [label.value for label in plan.labels] == [1, 5]
    assert "new: tumour" in notes[0]


def test_detail_head_of_the_base_is_taken_over_row_by_row(detailed: Bundle) -> None:
    (network, _), plan = network_for(detailed, {"tumour": 5, "back": 2})
    back, tumour = (plan.names.index(name) + 1 for name in ("back", "tumour"))
    torch.testing.assert_close(network.eval()(PIXEL)[:, [0, back]], detailed.load_network()(PIXEL)[:, [0, 2]])
    assert not network.detail.out.weight[tumour].any()


@pytest.mark.parametrize("channels", [4, 6])
def test_detail_head_that_the_base_lacks_changes_nothing_at_first(
    base: Bundle, detailed: Bundle, channels: int
) -> None:
    (network, notes), _ = network_for(base, {"front": 1, "back": 2}, detail_channels=channels)
    assert "12 new" in notes[-1]
    assert network.config.detail_channels == channels
    torch.testing.assert_close(network.eval()(PIXEL), base.load_network()(PIXEL))
    (network, _), _ = network_for(detailed, {"front": 1, "back": 2}, detail_channels=0)
    assert network.detail is None


def test_detail_head_of_another_width_begins_anew(detailed: Bundle) -> None:
    (network, _), _ = network_for(detailed, {"front": 1, "back": 2}, detail_channels=6)
    assert network.detail.out.weight.shape == (3, 6, 1, 1, 1)
    assert not network.detail.out.weight.any()


@pytest.mark.parametrize("kind", ["base", "detailed"])
def test_two_channels_of_the_same_image_look_like_one(kind: str, request: pytest.FixtureRequest) -> None:
    base = request.getfixturevalue(kind)
    (network, notes), _ = network_for(base, {"front": 1, "back": 2}, channels=2)
    twice = PIXEL.expand(1, 2, 16, 16, 16)
    torch.testing.assert_close(network.eval()(twice), base.load_network()(PIXEL), atol=1e-4, rtol=1e-4)
    assert any("2 input channels instead of 1" in note for note in notes)


def test_autoencoder_gives_its_encoder_to_a_new_network(pretrained: Bundle) -> None:
    (network, notes), _ = network_for(pretrained, {"front": 1})
    source = pretrained.load_autoencoder()
    assert source is not None
    for name, value in source.encoder.state_dict().items():
        torch.testing.assert_close(network.encoder.state_dict()[name], value)
    assert any("Encoder of the masked autoencoder" in note for note in notes)


def test_from_scratch_takes_nothing_over(base: Bundle) -> None:
    plan = plan_labels({"front": 1, "back": 2}, base.labels)
    network, notes = initial_network(base, plan, 1, replace(QUICK, initial_weights="random"))
    assert not torch.equal(network.state_dict()["heads.0.weight"], base.load_network().state_dict()["heads.0.weight"])
    assert "From scratch" in notes[0]


def test_wanted_label_that_the_dataset_lacks_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no label liver"):
        plan_labels({"front": 1}, (), ["liver"])


def test_a_label_that_is_wanted_twice_is_learnt_once() -> None:
    assert plan_labels({"front": 1, "back": 2}, (), ["front", "Front"]).names == ("front",)


def test_a_label_that_no_model_can_have_is_refused_before_training() -> None:
    with pytest.raises(ConfigurationError, match="300 characters"):
        plan_labels({"x" * 300: 1})


def test_described_labels_keep_their_colour() -> None:
    plan = plan_labels({"spleen": 4}, (), None, [Label(1, "Spleen", (1, 2, 3))])
    assert plan.labels[0].colour == (1, 2, 3)


def test_finetuned_bundle_is_a_child_with_proof_and_without_names(
    base: Bundle, dataset: CaseDataset, tmp_path: Path
) -> None:
    said: list[Progress] = []
    child = finetune(dataset, base, tmp_path / "run", QUICK, validation="case_2", context=RunContext(said.append))
    assert child.parent == base.reference
    assert (child.name, child.version) == (base.name, "1.1.0")
    assert child.labels == base.labels
    validation = child.spec.metrics["validation"]
    assert validation["cases"] == 1
    assert set(validation["dice_before"]) == set(validation["dice_after"]) == {"front", "back"}
    assert not validation["indicative_only"]
    assert len(child.spec.training["cases"]) == 2
    assert child.load_autoencoder() is not None
    text = json.dumps(dict(child.metadata)) + child.card
    assert "case_" not in text
    assert str(tmp_path) not in text
    for name in ("log.csv", "validation.csv", "report.json", "curves.png", "model"):
        assert (tmp_path / "run" / name).exists()
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["trained_on"] == ["case_0", "case_1"]
    assert set(report["per_case"]["after"]) == {"case_2"}
    assert {progress.stage for progress in said} >= {"prepare", "train", "validate", "save", "log"}


def test_finished_run_is_not_trained_again_and_of_other_settings_refused(
    base: Bundle, dataset: CaseDataset, tmp_path: Path
) -> None:
    first = finetune(dataset, base, tmp_path / "run", QUICK, validation="none")
    said: list[Progress] = []
    again = finetune(dataset, base, tmp_path / "run", QUICK, validation="none", context=RunContext(said.append))
    assert again.content_hash == first.content_hash
    assert [progress.stage for progress in said] == ["log"]
    with pytest.raises(ConfigurationError, match="other settings"):
        finetune(dataset, base, tmp_path / "run", replace(QUICK, steps=3), validation="none")


def test_cases_beyond_the_budget_train_from_disk_and_leave_no_files(
    base: Bundle, dataset: CaseDataset, tmp_path: Path
) -> None:
    said: list[Progress] = []
    small = replace(QUICK, cache_gb=0.0)
    slow = finetune(dataset, base, tmp_path / "disk", small, validation="none", context=RunContext(said.append))
    assert any("exceed the budget" in progress.message for progress in said)
    assert not (tmp_path / "disk" / "prepared").exists()
    fast = finetune(dataset, base, tmp_path / "memory", QUICK, validation="none")
    for name, value in fast.load_network().state_dict().items():
        assert torch.equal(value, slow.load_network().state_dict()[name])


def test_few_cases_are_estimated_by_leave_one_out_and_called_indicative(
    pretrained: Bundle, dataset: CaseDataset, tmp_path: Path
) -> None:
    child = finetune(dataset, pretrained, tmp_path / "run", QUICK)
    validation = child.spec.metrics["validation"]
    assert validation["held_out"] == "leave-one-out"
    assert validation["indicative_only"]
    assert validation["cases"] == 3
    assert validation["dice_before"] is None
    assert len(child.spec.training["cases"]) == 3
    assert child.name == "data"
    assert child.spec.autoencoder is not None


def test_cancelled_run_leaves_no_model(base: Bundle, dataset: CaseDataset, tmp_path: Path) -> None:
    with pytest.raises(Cancelled):
        finetune(dataset, base, tmp_path, QUICK, validation="none", context=RunContext(*once_at(1)))
    assert not (tmp_path / "model").exists()
    assert finetune(dataset, base, tmp_path, QUICK, validation="none").name == base.name


def test_every_bad_case_is_named_before_training_starts(base: Bundle, dataset: CaseDataset, tmp_path: Path) -> None:
    change(tmp_path / "data" / "labels" / "case_0.nii.gz", lambda array, matrix: (array * 0, matrix))
    change(tmp_path / "data" / "labels" / "case_2.nii.gz", lambda array, matrix: (array + 7, matrix))
    with pytest.raises(DatasetError) as raised:
        finetune(dataset, base, tmp_path / "run", QUICK, validation="none")
    assert "case_0" in raised.value.message
    assert "case_2" in raised.value.message
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_other_number_of_channels_drops_the_autoencoder_and_says_so(base: Bundle, tmp_path: Path) -> None:
    dataset = load_dataset(write_dataset(tmp_path / "data", 2, channels=2))
    child = finetune(dataset, base, tmp_path / "run", QUICK, validation="none")
    assert child.spec.channels == ("channel 0", "channel 1")
    assert child.load_autoencoder() is None
    assert "2 input channels instead of 1" in child.card


def test_pretrained_bundle_knows_its_reconstruction_errors_and_can_be_finetuned(
    dataset: CaseDataset, tmp_path: Path
) -> None:
    config = MaeConfig(encoder=tiny_network_config(), decoder_dim=16)
    settings = PretrainSettings(steps=3, held_out=0.34, device="cpu", threads=1)
    description = Description(name="mae", labels=())
    bundle = pretrain(
        dataset.cases,
        tmp_path / "pre",
        settings,
        autoencoder=config,
        preprocessing=tiny_spec().preprocessing,
        description=description,
    )
    assert bundle.kind == "autoencoder"
    percentiles = open_bundle(bundle.path).spec.reconstruction_error["percentiles"]
    assert 0 < percentiles["5"] <= percentiles["99"]
    assert bundle.spec.autoencoder.encoder.drop_path == tiny_network_config().drop_path
    assert (tmp_path / "pre" / "reconstruction.png").stat().st_size > 1000
    assert len(bundle.spec.training["cases"]) == 2
    child = finetune(dataset, bundle, tmp_path / "fine", QUICK, validation="none")
    assert child.parent == bundle.reference
    assert child.spec.reconstruction_error is None
    # Each has statistics of its own training scans.
    assert (bundle.spec.familiarity["scans"], child.spec.familiarity["scans"]) == (2, 3)


def test_a_finetuned_model_knows_the_scans_it_was_taught_and_not_those_of_its_base(
    dataset: CaseDataset, tmp_path: Path
) -> None:
    strange = np.random.default_rng(0).normal(size=(1, 24, 24, 20)).astype(np.float32)
    base = save_tiny(tmp_path / "base")
    child = finetune(dataset, base, tmp_path / "fine", QUICK, validation="case_2")
    assert child.spec.familiarity["scans"] == 2
    predictor = Predictor(child, InferenceSettings(device="cpu", precision="fp32"))

    def said(volume: Volume) -> list[str]:  # what so short a training finds has volumes of any size
        return [text for text in predictor.predict(volume).warnings if "Unlike the volumes" not in text]

    for case in dataset.cases:
        assert said(read_image(case)) == []
    (warning,) = said(Volume(strange, read_image(dataset.cases[0]).ijk_to_ras))
    assert "2 training scans only" in warning


@pytest.mark.parametrize(("text", "name"), [("MSD Task04 (200)", "msd-task04-200"), ("", "model"), ("ÄÖ", "model")])
def test_any_text_becomes_a_model_name(text: str, name: str) -> None:
    assert slug(text) == name
