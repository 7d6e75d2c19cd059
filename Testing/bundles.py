"""A small bundle that is complete in every respect but was never trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from MAESegmentLib.bundle import Bundle, ModelSpec, save_bundle
from MAESegmentLib.bundle.scan_statistics import ENOUGH_TO_CALIBRATE
from MAESegmentLib.images.labels import ANATOMICAL_STRUCTURE, Code, Label, Terminology
from MAESegmentLib.images.volume import Volume
from MAESegmentLib.inference.familiarity import describe_scan, fit_familiarity
from MAESegmentLib.networks import MaeConfig, MaskedAutoencoder, NnFormer, NnFormerConfig
from MAESegmentLib.preprocessing.grey_values import describe_grey_values
from MAESegmentLib.preprocessing.intensity import IntensityRecipe
from MAESegmentLib.preprocessing.plan import Preprocessing

HIPPOCAMPUS = Terminology(ANATOMICAL_STRUCTURE, Code("SCT", "5366008", "Hippocampus"), Code("SCT", "7771000", "Left"))
LABELS = (Label(1, "anterior", (220, 20, 60), HIPPOCAMPUS), Label(2, "posterior", (65, 105, 225), HIPPOCAMPUS))


def tiny_network_config(in_channels: int = 1, out_channels: int = 3) -> NnFormerConfig:
    return NnFormerConfig(
        in_channels=in_channels,
        out_channels=out_channels,
        crop_size=(16, 16, 16),
        embed_dim=8,
        depths=(1, 1),
        heads=(1, 2),
        embed_strides=((2, 2, 2), (2, 2, 2)),
        windows=((2, 2, 2), (2, 2, 2)),
        down_strides=((2, 2, 2),),
        global_stages=(False, True),
    )


def tiny_spec(**changes: Any) -> ModelSpec:
    """A segmentation model that carries its autoencoder, or what `changes` make of it."""
    network = tiny_network_config()
    spec = ModelSpec(
        name="tiny-mr",
        version="1.0.0",
        kind="segmentation",
        description="A network that was never trained",
        intended_use="Tests",
        modality="MR",
        channels=("T1",),
        labels=LABELS,
        network=network,
        autoencoder=MaeConfig(encoder=network, unit=(8, 8, 8), decoder_dim=16),
        preprocessing=Preprocessing("RAS", (1.0, 1.0, 1.5), (16, 16, 16), IntensityRecipe("zscore")),
        licence="Apache-2.0",
        copyright="The MAESegment authors",
        data_source="None",
        inference={"overlap": 0.5, "mirroring": False},
        metrics={"dice": {"anterior": {"mean": 0.5, "n": 4}}},
        training={"cases": ["0" * 64], "steps": 1},
        reconstruction_error={"p50": 0.1, "p95": 0.4},
    )
    return replace(spec, **changes)


def autoencoder_spec(**changes: Any) -> ModelSpec:
    return tiny_spec(**{"name": "tiny-mae", "kind": "autoencoder", "labels": (), "network": None, **changes})


def save_tiny(
    folder: Path, spec: ModelSpec | None = None, *, seed: int = 0, documents: Mapping[str, bytes] | None = None
) -> Bundle:
    """Save `spec` with random weights that depend only on `seed`."""
    spec = spec or tiny_spec()
    torch.manual_seed(seed)
    network = NnFormer(spec.network).state_dict() if spec.network else None
    autoencoder = MaskedAutoencoder(spec.autoencoder).state_dict() if spec.autoencoder else None
    return save_bundle(
        folder,
        spec,
        network,
        autoencoder_state=autoencoder,
        card=f"# {spec.name}\n\nFor tests.\n",
        licence_text="Apache License 2.0\n",
        documents=documents,
    )


def save_taught(folder: Path, scans: Sequence[Volume], **changes: Any) -> Bundle:
    """A tiny model that holds the statistics of `scans` as those it was trained on."""
    plain = save_tiny(folder / "plain", tiny_spec(**changes))
    familiarity = _familiarity(plain.load_network().encoder, plain.spec.preprocessing, scans)
    return save_tiny(folder / "taught", tiny_spec(familiarity=familiarity, **changes))


def _familiarity(encode: Any, preprocessing: Preprocessing, scans: Sequence[Volume]) -> dict[str, Any]:
    found = []
    for volume in scans:
        prepared = preprocessing.prepare(volume)
        grey = describe_grey_values(volume.array, preprocessing.intensity)
        spacing, patch_size = prepared.grid.spacing, preprocessing.patch_size
        windows = 1 if len(scans) >= ENOUGH_TO_CALIBRATE else 4
        image = torch.from_numpy(prepared.image)
        found.append(describe_scan(grey, image, spacing, patch_size, encode, windows=windows))
    return dict(fit_familiarity(found).to_dict())


def save_by_grey(folder: Path, greys: Mapping[float, int], spec: ModelSpec, scans: Sequence[Volume] = ()) -> Bundle:
    """A model that labels voxels of the grey values `greys` by these alone: as the output channel that each has. It was
    not trained, but solved for; it holds the statistics of `scans`, if there are any."""
    torch.manual_seed(0)
    config = replace(tiny_network_config(out_channels=len(spec.labels) + 1), detail_channels=32)
    network = NnFormer(config).eval()
    assert network.detail is not None
    with torch.no_grad():
        for one in [network.heads[0], network.detail.tokens]:
            torch.nn.init.zeros_(one.weight)
            torch.nn.init.zeros_(one.bias)
        for conv in (network.detail.image, network.detail.conv):
            torch.nn.init.zeros_(conv.weight)
            conv.weight[:, :, 1, 1, 1] = torch.randn(conv.weight.shape[:2])
            conv.bias.copy_(torch.randn(conv.bias.shape))
        values, channels = np.array([*greys], np.float32), [*greys.values()]
        image = torch.from_numpy(spec.preprocessing.intensity.apply(values[None, :, None, None])[0])
        features: list[torch.Tensor] = []
        hook = network.detail.out.register_forward_hook(lambda _layer, given, _result: features.append(given[0]))
        network.detail(torch.zeros(1, -(-len(values) // 4), 1, 1, config.dims[0]), image[None, None])
        hook.remove()
        known = torch.cat([features[0][0, :, :, 0, 0].T, torch.ones(len(values), 1)], dim=1).double()
        wanted = torch.nn.functional.one_hot(torch.tensor(channels), config.out_channels).double()
        solved = torch.linalg.lstsq(known, wanted, driver="gelsd").solution.float()
        network.detail.out.weight.copy_(solved[:-1].T[:, :, None, None, None])
        network.detail.out.bias.copy_(solved[-1])
    familiarity = _familiarity(network.encoder, spec.preprocessing, scans) if scans else None
    spec = replace(spec, network=config, autoencoder=None, familiarity=familiarity)
    return save_bundle(
        folder, spec, network.state_dict(), card=f"# {spec.name}\n", licence_text="None\n", dtype=torch.float32
    )
