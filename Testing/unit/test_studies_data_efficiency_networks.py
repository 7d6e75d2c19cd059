"""The networks that nnFormer is compared with in the study of data efficiency."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from MAESegmentLib.errors import ConfigurationError
from MAESegmentLib.training.tasks.losses import SegmentationLoss
from model_training.studies.data_efficiency.networks import NETWORKS, build_network, strides_and_kernels

PATCHES = [(40, 56, 40), (40, 40, 48)]
CARDIAC = (8, 96, 96)
ODD, FLAT = (13, 22, 17), (8, 40, 32)
#: Millions of parameters of the size "small"; of nnFormer's preset of that name, 1.07.
SMALL = dict.fromkeys(NETWORKS, (1.0, 2.0)) | {"swin-unetr": (1.0, 4.1)}
#: And of "full", for one image channel and two structures, on the patch of the hippocampus.
FULL = {
    "unet": 18.9,
    "attention-unet": 23.4,
    "vnet": 45.6,
    "unetr": 92.6,
    "swin-unetr": 62.2,
    "segresnet": 18.8,
    "dynunet": 5.6,
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def _millions(network: nn.Module) -> float:
    return sum(parameter.numel() for parameter in network.parameters()) / 1e6


def _answers(network: nn.Module, image: Tensor) -> list[Tensor]:
    outputs = network(image)
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


@pytest.mark.parametrize("patch", [*PATCHES, CARDIAC])
@pytest.mark.parametrize("name", NETWORKS)
def test_logits_have_the_grid_of_the_patch(name: str, patch: tuple[int, int, int]) -> None:
    network = build_network(name, 1, 3, patch, "small").to("meta").train()
    outputs = _answers(network, torch.empty(2, 1, *patch, device="meta"))
    assert {tuple(output.shape) for output in outputs} == {(2, 3, *patch)}
    assert len(outputs) == (3 if name == "dynunet" else 1)


@pytest.mark.parametrize("patch", [ODD, FLAT])
@pytest.mark.parametrize("name", NETWORKS)
def test_learning_reaches_every_parameter_on_odd_and_on_flat_patches(name: str, patch: tuple[int, int, int]) -> None:
    network = build_network(name, 1, 4, patch, "small").train()
    for module in network.modules():
        if isinstance(module, nn.Dropout3d):  # that of V-Net drops whole channels
            module.p = 0.0
    outputs = _answers(network, torch.randn(1, 1, *patch))
    assert all(output.shape == (1, 4, *patch) for output in outputs)
    loss = SegmentationLoss()(outputs, torch.randint(0, 4, (1, 1, *patch)))
    loss.backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        # A bias before a normalisation learns nothing, by construction.
        assert parameter.ndim < 2 or parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize("name", NETWORKS)
def test_small_networks_are_about_as_large_as_the_small_nnformer(name: str) -> None:
    lowest, highest = SMALL[name]
    for patch in (*PATCHES, CARDIAC):
        assert lowest <= _millions(build_network(name, 1, 6, patch, "small")) <= highest


@pytest.mark.parametrize("name", NETWORKS)
def test_full_networks_have_the_published_widths(name: str) -> None:
    with torch.device("cpu" if name == "swin-unetr" else "meta"):  # which reads values when it is made
        network = build_network(name, 1, 3, PATCHES[0], "full")
    assert _millions(network) == pytest.approx(FULL[name], abs=0.06)


def test_several_image_channels_keep_the_size_of_the_narrow_v_net() -> None:
    with torch.device("meta"):
        assert _millions(build_network("vnet", 3, 3, PATCHES[0], "small")) < 2.0


def test_deep_supervision_is_for_training_only() -> None:
    network = build_network("dynunet", 1, 3, (16, 16, 16), "small")
    image = torch.randn(1, 1, 16, 16, 15)
    assert [tuple(output.shape) for output in network.train()(image)] == [(1, 3, 16, 16, 15)] * 2
    assert network.eval()(image).shape == (1, 3, 16, 16, 15)


def test_a_flat_axis_is_halved_when_the_others_are_down_to_it() -> None:
    strides, kernels = strides_and_kernels((14, 160, 160), 5)
    assert strides == [(1, 2, 2), (1, 2, 2), (1, 2, 2), (2, 2, 2), (1, 2, 2)]
    assert kernels == [(1, 3, 3)] * 3 + [(3, 3, 3)] * 3


def test_halving_ends_before_an_axis_is_shorter_than_four_voxels() -> None:
    strides, kernels = strides_and_kernels((40, 56, 40), 5)
    assert strides == [(2, 2, 2)] * 3
    assert kernels == [(3, 3, 3)] * 4


def test_an_image_larger_than_the_position_code_of_unetr_is_refused() -> None:
    network = build_network("unetr", 1, 3, (16, 16, 16), "small")
    with pytest.raises(ConfigurationError, match="made for"):
        network(torch.zeros(1, 1, 16, 16, 17))


@pytest.mark.parametrize(
    ("name", "size", "patch", "why"),
    [
        ("resnet", "small", (16, 16, 16), "No network 'resnet'"),
        ("unet", "large", (16, 16, 16), "No network size 'large'"),
        ("unet", "small", (16, 16), "three whole numbers"),
        ("unet", "small", (4, 4, 4), "too small"),
    ],
)
def test_what_cannot_be_built_is_named(name: str, size: str, patch: tuple[int, ...], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        build_network(name, 1, 3, patch, size)
