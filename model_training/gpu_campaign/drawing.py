"""What a rehearsal works on: noise with a box for each structure, and the shipped models with tiny random networks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from MAESegmentLib.bundle import Bundle, ModelStore
from MAESegmentLib.images.volume import LabelMap, Volume
from MAESegmentLib.images.writing import write_label_map, write_volume
from MAESegmentLib.networks import MaeConfig
from Testing.bundles import save_tiny, tiny_network_config

_SHAPE, _COUNT = (24, 24, 24), 6


def draw(folder: Path, models: Mapping[str, str]) -> dict[str, Any]:
    """A data set below `folder` for each model, which `models` names, and the model beside it."""
    for model, name in models.items():
        base = _small(ModelStore().find(model), folder / model)
        labels = base.labels
        matrix = np.diag([*base.spec.preprocessing.spacing[::-1], 1.0])
        ids = [f"pt_{number}" for number in range(1, _COUNT + 1)]
        for part in ("images", "labels"):
            (folder / name / part).mkdir(parents=True, exist_ok=True)
        for seed, case in enumerate(ids):
            array = np.random.default_rng(seed).normal(0, 20, (1, *_SHAPE)).astype(np.int16)
            classes = np.zeros(_SHAPE, np.uint8)
            for place, label in enumerate(labels):
                box = (slice(4, 18), slice(4, 18), slice(3 + 3 * place, 6 + 3 * place))
                classes[box] = label.value
                array[0][box] += 60 * (place + 1)
            write_volume(folder / name / "images" / f"{case}.nii.gz", Volume(array, matrix))
            write_label_map(folder / name / "labels" / f"{case}.nii.gz", LabelMap(classes, matrix), labels)
        values = {"background": 0, **{label.name: label.value for label in labels}}
        (folder / name / "dataset.json").write_text(json.dumps({"labels": values, "splits": {"pool": ids}}))
    return {"data_sets": sorted(models.values())}


def _small(shipped: Bundle, folder: Path) -> Bundle:
    network = tiny_network_config(out_channels=len(shipped.labels) + 1)
    preprocessing = replace(shipped.spec.preprocessing, patch_size=network.crop_size)
    autoencoder = MaeConfig(encoder=network, unit=(8, 8, 8), decoder_dim=16)
    small = replace(
        shipped.spec, network=network, autoencoder=autoencoder, preprocessing=preprocessing, familiarity=None
    )
    return save_tiny(folder, small)
