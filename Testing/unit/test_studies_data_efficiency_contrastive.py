"""Pretexts that compare views: what belongs together, what the target follows, how a patch is turned."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from MAESegmentLib.errors import ConfigurationError
from MAESegmentLib.networks import MaeConfig
from MAESegmentLib.training.data.patches import PatchSamples
from MAESegmentLib.training.data.prepared import PreparedCase
from MAESegmentLib.training.settings import Augmentation, PretrainSettings
from model_training.studies.data_efficiency.pretexts import make_pretext
from model_training.studies.data_efficiency.pretexts.byol import Byol, ByolTask, disagreement
from model_training.studies.data_efficiency.pretexts.contrastive import nt_xent
from model_training.studies.data_efficiency.pretexts.corruptions import boxes_of_share
from model_training.studies.data_efficiency.pretexts.swin import SwinTask, Turns
from model_training.studies.data_efficiency.pretexts.views import ViewSamples, split_views
from Testing.bundles import tiny_network_config
from Testing.datasets import prepared_case

PATCH = (16, 16, 16)
NETWORK = replace(tiny_network_config(), drop_path=0.0)
SETTINGS = PretrainSettings(
    steps=4, batch_size=2, device="cpu", precision="fp32", threads=1, augmentation=Augmentation.geometric()
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(name: str, **options: object):
    cases = [prepared_case(str(n), seed=n) for n in range(3)]
    autoencoder = MaeConfig(NETWORK, decoder_dim=8)
    return make_pretext(name, options, NETWORK, autoencoder, cases, cases[:1], PATCH, SETTINGS, "cases")


# --- views -----------------------------------------------------------------------------------------------------------


def test_views_of_a_sample_differ_and_come_again_for_the_same_number() -> None:
    cases = [prepared_case("a", (24, 24, 24)), prepared_case("b", (24, 24, 24), seed=1)]
    samples = ViewSamples(cases, PATCH, SETTINGS, views=3)
    stacked, classes, case_id = samples[5]
    views = split_views(stacked[None], 3)
    assert (classes, views.shape) == (None, (3, 1, *PATCH))
    assert type(stacked) is torch.Tensor  # not MONAI's, which slows every operation on it
    assert case_id == PatchSamples(cases, PATCH, SETTINGS)[5][2]
    assert not any(torch.equal(views[a], views[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    assert torch.equal(ViewSamples(cases, PATCH, SETTINGS, views=3)[5][0], stacked)


def test_views_show_the_patch_that_other_pretexts_get() -> None:
    """Every voxel holds its own place in the volume: views stay within the patch of the same number."""
    place = np.stack(np.meshgrid(*[np.arange(40, dtype=np.float32)] * 3, indexing="ij"))
    case = PreparedCase("place", place, (1.0, 1.0, 1.0))
    plain = replace(SETTINGS, augmentation=Augmentation.none())
    samples = ViewSamples([case], PATCH, SETTINGS)
    grey = dict.fromkeys(("noise", "blur", "brightness", "contrast", "low_resolution", "gamma"), 0.0)
    samples._augmentation = replace(samples._augmentation, **grey)
    patch, stacked = PatchSamples([case], PATCH, plain)[3][0], samples[3][0]
    inside = stacked[:3] != 0
    for axis in range(3):
        seen = stacked[axis][inside[axis]]
        assert patch[axis].min() - 1e-3 <= seen.min() <= seen.max() <= patch[axis].max() + 1e-3


def test_views_are_mirrored_only_where_the_study_mirrors() -> None:
    ramp = np.broadcast_to(np.arange(16, dtype=np.float32)[:, None, None], (1, 16, 16, 16)).copy()
    case = PreparedCase("ramp", ramp, (1.0, 1.0, 1.0))

    def mirrored(flip_axes: tuple[int, ...]) -> set[bool]:
        settings = replace(SETTINGS, augmentation=replace(Augmentation.geometric(), flip_axes=flip_axes))
        samples = ViewSamples([case], PATCH, settings)
        views = torch.cat([samples[n][0] for n in range(8)])
        return {bool(view[4, 8, 8] > view[11, 8, 8]) for view in views}

    assert mirrored(()) == {False}
    assert mirrored((0,)) == {False, True}


# --- contrast --------------------------------------------------------------------------------------------------------


def test_nt_xent_with_two_views_is_the_loss_of_the_paper() -> None:
    z = torch.randn(6, 5, generator=seeded(0))
    unit, losses = F.normalize(z, dim=1), []
    for i in range(6):
        j = i + 1 if i % 2 == 0 else i - 1
        others = [math.exp(float(unit[i] @ unit[k]) / 0.3) for k in range(6) if k != i]
        losses.append(-math.log(math.exp(float(unit[i] @ unit[j]) / 0.3) / sum(others)))
    assert nt_xent(z, 2, 0.3).item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_nt_xent_is_lowest_where_views_of_an_image_agree_and_images_do_not() -> None:
    together = torch.eye(4).repeat_interleave(3, dim=0)
    mixed = torch.eye(4).repeat(3, 1)
    assert nt_xent(together, 3, 0.1) < nt_xent(torch.ones(12, 4), 3, 0.1) < nt_xent(mixed, 3, 0.1)


@pytest.mark.parametrize("name", ["simclr", "swin-ssl"])
def test_contrast_without_others_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="at least 2 patches"):
        make(name, batch_size=1)


def test_more_patches_and_views_can_be_asked_for() -> None:
    batch = next(iter(make("simclr", batch_size=3, views=4).batches(0, torch.device("cpu"))))
    assert batch.image.shape == (3, 4, *PATCH)


# --- BYOL ------------------------------------------------------------------------------------------------------------


def test_the_target_follows_the_last_update_before_the_next_step() -> None:
    task = make("byol", momentum=0.9)
    assert isinstance(task, ByolTask)
    model, batch = task.model, next(iter(task.batches(0, torch.device("cpu"))))
    key = "encoder.embedding.pair1.conv1.weight"
    task.loss(model, batch, 0)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    assert torch.equal(state[f"target.{key}"], state[key])
    with torch.no_grad():
        model.get_parameter(key).add_(1.0)
    task.loss(model, batch, 1)
    moved = model.state_dict()[f"target.{key}"] - state[f"target.{key}"]
    expected = 1 - task.momentum(1)
    torch.testing.assert_close(moved, torch.full_like(moved, expected), atol=1e-6, rtol=0)


def test_the_targets_momentum_rises_to_one() -> None:
    task = make("byol", momentum=0.9)
    values = [task.momentum(step) for step in range(SETTINGS.steps + 1)]
    assert values == sorted(values)
    assert (values[0], values[-1]) == (pytest.approx(0.9), pytest.approx(1.0))


def test_no_gradient_and_no_optimiser_reaches_the_target() -> None:
    task = make("byol")
    task.loss(task.model, next(iter(task.batches(0, torch.device("cpu")))), 0).backward()
    assert isinstance(task.model, Byol)
    assert all(p.grad is None for p in task.model.target.parameters())
    trained = {id(p) for group in task.parameter_groups() for p in group["params"]}
    assert trained == {id(p) for p in task.model.parameters() if p.requires_grad}
    assert not trained & {id(p) for p in task.model.target.parameters()}


def test_disagreement_is_zero_for_equal_views_of_an_image_whatever_other_images_hold() -> None:
    z = torch.eye(3).repeat_interleave(2, dim=0)
    assert disagreement(z, 5 * z, 2).item() == pytest.approx(0.0, abs=1e-6)
    assert disagreement(z, -z, 2).item() == pytest.approx(4.0)


# --- Swin UNETR's pretexts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patch", "spacing", "plane"),
    [
        ((40, 56, 40), (1.0, 1.0, 1.0), (0, 2)),
        ((40, 40, 48), (3.9, 3.9, 2.5), (0, 1)),
        ((8, 160, 160), (10.0, 1.4, 1.4), (1, 2)),
        ((56, 48, 56), (3.9, 3.9, 2.5), None),
        ((40, 56, 48), (1.0, 1.0, 1.0), None),
    ],
)
def test_quarter_turns_need_equal_edges_and_voxels(patch, spacing, plane) -> None:
    assert Turns.of(patch, [spacing, spacing]).plane == plane


@pytest.mark.parametrize("plane", [(0, 2), None])
def test_turns_keep_the_shape_and_no_two_are_alike(plane: tuple[int, int] | None) -> None:
    image = torch.randn(2, 4, 5, 4)
    turned = [Turns(plane)(image, number) for number in range(4)]
    assert torch.equal(turned[0], image)
    assert {t.shape for t in turned} == {image.shape}
    assert not any(torch.equal(turned[a], turned[b]) for a in range(4) for b in range(a))
    assert all(torch.equal(t.flatten().sort().values, image.flatten().sort().values) for t in turned)


def test_boxes_are_cut_out_until_their_share_is_reached() -> None:
    shares = [
        boxes_of_share((20, 24, 20), (1 / 6, 1 / 3), 0.3, seeded(seed)).float().mean().item() for seed in range(5)
    ]
    assert all(0.3 <= share < 0.35 for share in shares)


def test_each_of_the_three_questions_teaches_its_own_head() -> None:
    task = make("swin-ssl")
    assert isinstance(task, SwinTask)
    task.loss(task.model, next(iter(task.batches(0, torch.device("cpu")))), 0).backward()
    for head in ("rotation", "contrast", "inpainting"):
        assert all(p.grad.abs().sum() > 0 for p in task.model.get_submodule(head).parameters() if p.ndim > 1)


def test_a_model_that_knows_image_and_turn_is_left_with_the_least_contrast_alone() -> None:
    task, image = make("swin-ssl"), torch.randn(2, 1, *PATCH)

    class Oracle(torch.nn.Module):
        def forward(self, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            wholes = [(task.turns(image[i], k), k, i) for i in range(2) for k in range(4)]
            best = [min(wholes, key=lambda w: float(((s - w[0]) * (s != 0)).abs().sum())) for s in seen]
            whole, turns, images = zip(*best, strict=True)
            logits = 100 * F.one_hot(torch.tensor(turns), 4).float()
            return torch.stack(whole), logits, F.one_hot(torch.tensor(images), 2).float()

    loss = task.question(Oracle(), image, seeded(0)).item()
    assert loss == pytest.approx(nt_xent(torch.eye(2).repeat_interleave(2, dim=0), 2, 0.5).item(), abs=1e-5)
