"""`configs/inference.json` of a bundle: how plain `monai.bundle run` does what `maesegment segment` does.

MONAI evaluates what is in it, MAESegment never does: it only writes it, from the model's description, and compares.
Imports nothing heavy; the parts that the config names are in `inference.monai_workflow`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_PARTS = "MAESegmentLib.inference.monai_workflow"


def inference_file(metadata: Mapping[str, Any]) -> bytes | None:
    """The only content that the file may have, given the checked `metadata`; None for a model that does not segment."""
    if metadata["maesegment"]["kind"] != "segmentation":
        return None
    text = json.dumps(inference_config(metadata["maesegment"]), indent=2, allow_nan=False)
    return f"{text}\n".encode()


def inference_config(own: Mapping[str, Any]) -> dict[str, Any]:
    """The config, JSON-ready, for the entries `own` of the metadata. Run it in the bundle's folder, or pass
    `--bundle_root`:

    python -m monai.bundle run --config_file configs/inference.json --input scan.nii.gz --output out.seg.nrrd

    `input` may be a list of paths, one per channel. The default output is named after the input.
    """
    return {
        "imports": ["$import MAESegmentLib"],
        "bundle_root": ".",
        "input": None,
        "output": None,
        "device": "auto",
        "precision": "auto",
        "overlap": float(own["inference"].get("overlap", 0.5)),
        "bundle": {"_target_": "MAESegmentLib.bundle.open_bundle", "path": "@bundle_root"},
        "network_def": "$@bundle.load_network()",
        "network": "@network_def",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [{"_target_": f"{_PARTS}.ReadScan", "channels": list(own["channels"])}],
        },
        "dataset": {
            "_target_": "Dataset",
            "data": [{"image": "@input"}],
            "transform": "@preprocessing",
        },
        "dataloader": {
            "_target_": "DataLoader",
            "dataset": "@dataset",
            "batch_size": 1,
            "shuffle": False,
            "num_workers": 0,
            "collate_fn": "$list",
        },
        "inferer": {
            "_target_": f"{_PARTS}.VolumeInferer",
            "bundle": "@bundle",
            "device": "@device",
            "precision": "@precision",
            "overlap": "@overlap",
        },
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [{"_target_": f"{_PARTS}.SaveSegmentation", "bundle": "@bundle", "output": "@output"}],
        },
        "evaluator": {
            "_target_": f"{_PARTS}.VolumeEvaluator",
            "dataloader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
        },
        "run": ["$@evaluator.run()"],
    }
