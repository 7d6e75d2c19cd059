"""A body known in closed form and a model that finds it, trained in seconds: what the test inside Slicer runs on.

`python body_model.py FOLDER` makes the model; only this needs torch.
`python body_model.py FOLDER IN OUT` also labels the image file IN with it, as the
command line does, so that the module's result can be compared with one that never came near a scene.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from MAESegmentLib.images.labels import ANATOMICAL_STRUCTURE, Code, Label, Terminology

if TYPE_CHECKING:
    from MAESegmentLib.bundle import Bundle, ModelSpec
    from MAESegmentLib.networks import NnFormer

NAME = "self-test"
_BRAIN = Terminology(ANATOMICAL_STRUCTURE, Code("SCT", "12738006", "Brain"))
#: The third is never there: it has to arrive as an empty segment.
LABELS = (Label(1, "front", (230, 80, 60), _BRAIN), Label(2, "back", (70, 110, 220)), Label(3, "absent", (90, 200, 90)))

#: Ellipsoids by centre and half axes in world RAS mm, grey value and label; without mirror symmetry, so that no flip
#: goes unnoticed.
_BODIES = (
    ((1.0, -2.0, 0.0), (20.0, 22.0, 18.0), 300.0, 0),
    ((5.0, 8.0, 3.0), (8.0, 7.0, 9.0), 700.0, 1),
    ((-4.0, -9.0, -4.0), (9.0, 7.0, 6.0), 1100.0, 2),
)
_PATCH = 16
_STEPS = 400
_RATE = 2e-2


def body_at(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Grey values (float32) and labels (uint8) at world RAS mm `points` (..., 3)."""
    grey = np.full(points.shape[:-1], 20.0, np.float32)
    labels = np.zeros(points.shape[:-1], np.uint8)
    for centre, radii, value, label in _BODIES:
        inside = np.sum(((points - np.array(centre)) / np.array(radii)) ** 2, axis=-1) <= 1.0
        grey[inside] = value
        labels[inside] = label
    return grey, labels


def body_on(shape_kji: Sequence[int], ijk_to_world: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The body seen through a grid: (K, J, I) grey values and labels."""
    k, j, i = np.meshgrid(*[np.arange(n, dtype=float) for n in shape_kji], indexing="ij")
    points = np.stack([i, j, k], axis=-1) @ ijk_to_world[:3, :3].T + ijk_to_world[:3, 3]
    return body_at(points)


def make_model(folder: Path) -> Bundle:
    """Train on the body and save the bundle in `folder`."""
    import torch

    from MAESegmentLib.bundle import save_bundle
    from MAESegmentLib.networks import NnFormer

    spec = _spec()
    assert spec.network is not None
    torch.manual_seed(0)
    network = NnFormer(spec.network)
    _train(network, spec)
    return save_bundle(folder, spec, network.state_dict(), card=f"# {NAME}\n\nFor tests only.\n", licence_text="None\n")


def label_file(bundle: Bundle, image: Path, output: Path) -> None:
    """Segment the file `image` as the command line does; `output` is .npz with labels (I, J, K) and ijk_to_ras."""
    from MAESegmentLib.images import read_volume
    from MAESegmentLib.inference import Predictor

    label_map = Predictor(bundle).predict(read_volume(image)).label_map
    np.savez(output, labels=label_map.array, ijk_to_ras=label_map.ijk_to_ras)


def _spec() -> ModelSpec:
    from MAESegmentLib.bundle import ModelSpec
    from MAESegmentLib.networks import NnFormerConfig
    from MAESegmentLib.preprocessing.intensity import IntensityRecipe
    from MAESegmentLib.preprocessing.plan import Preprocessing

    # Fixed numbers: what the network sees does not depend on how much air a test's volume holds.
    recipe = IntensityRecipe("ct", lower=0.0, upper=1500.0, mean=300.0, std=300.0)
    network = NnFormerConfig(
        in_channels=1,
        out_channels=1 + len(LABELS),
        crop_size=(_PATCH, _PATCH, _PATCH),
        embed_dim=8,
        depths=(1, 1),
        heads=(1, 2),
        embed_strides=((2, 2, 2), (2, 2, 2)),
        windows=((2, 2, 2), (2, 2, 2)),
        down_strides=((2, 2, 2),),
        global_stages=(False, True),
        drop_path=0.0,
    )
    return ModelSpec(
        name=NAME,
        version="1.0.0",
        kind="segmentation",
        description="Finds the body of the self test",
        intended_use="Tests",
        modality="CT",
        channels=("CT",),
        labels=LABELS,
        network=network,
        autoencoder=None,
        preprocessing=Preprocessing("RAS", (1.5, 1.5, 1.5), (_PATCH, _PATCH, _PATCH), recipe),
        licence="Apache-2.0",
        copyright="The MAESegment authors",
        data_source="Computed",
        inference={"overlap": 0.5, "mirroring": False},
    )


def _train(network: NnFormer, spec: ModelSpec) -> None:
    import torch

    matrix = np.diag([1.5, 1.5, 1.5, 1.0])
    matrix[:3, 3] = -1.5 * 17.5
    grey, labels = body_on((36, 36, 36), matrix)
    image = torch.from_numpy(spec.preprocessing.intensity.apply(grey.T[None])[0])
    target = torch.from_numpy(labels.T.astype(np.int64))
    # Steps as large as clipping and a warm-up allow: whatever a machine's rounding, both structures are then found.
    optimiser = torch.optim.Adam(network.parameters(), _RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=_STEPS, pct_start=0.1)
    corners = np.random.default_rng(0)
    network.train()
    for _step in range(_STEPS):
        cuts = [tuple(slice(n, n + _PATCH) for n in corners.integers(0, 36 - _PATCH + 1, 3)) for _ in range(4)]
        logits = network(torch.stack([image[cut] for cut in cuts])[:, None])
        loss = torch.nn.functional.cross_entropy(logits, torch.stack([target[cut] for cut in cuts]))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    network.eval()


def main(arguments: Sequence[str]) -> int:
    from MAESegmentLib.bundle import open_bundle

    folder = Path(arguments[0])
    bundle = open_bundle(folder) if folder.is_dir() else make_model(folder)
    if len(arguments) > 1:
        label_file(bundle, Path(arguments[1]), Path(arguments[2]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
