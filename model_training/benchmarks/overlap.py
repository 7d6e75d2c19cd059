"""What the overlap of the windows is worth: `python -m model_training.benchmarks.overlap`.

Segments the same cases of `pool` at several overlaps and compares Dice, case by case, with overlap 0.5. These cases
were trained on, so their Dice is too high; what counts is the difference. `validation` is not touched. A model that is
measured again replaces its rows in results/overlap.csv.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from statistics import fmean

import numpy as np
import torch

from MAESegmentLib.bundle import ModelStore
from MAESegmentLib.cases.checks import read_reference
from MAESegmentLib.cases.dataset import load_dataset
from MAESegmentLib.images.reading import read_volume
from MAESegmentLib.inference.predictor import Predictor
from MAESegmentLib.inference.settings import InferenceSettings
from MAESegmentLib.inference.windows import WindowPlan

from .measurements import RESULTS, machine, replace_rows
from .volumes_report import write_report

CSV = RESULTS / "overlap.csv"
REFERENCE = 0.5
OVERLAPS = (REFERENCE, 0.375, 0.25, 0.125, 0.0, 0.625)
DATA = {"headneck-ct": "headneck_ct", "hippocampus-mr": "hippocampus_mr"}


def main() -> int:
    arguments = _parse()
    if not arguments.report:
        torch.set_num_threads(1)
        for model in arguments.model or DATA:
            measure(model, arguments.data / DATA[model], arguments.cases)
    write_report()
    return 0


def measure(model: str, data: Path, count: int) -> None:
    """Dice of every case at every overlap, as rows."""
    bundle = ModelStore().find(model)
    dataset = load_dataset(data)
    cases = dataset.select("pool")[:count]
    predictors = {}
    for overlap in OVERLAPS:
        settings = InferenceSettings.of_model(
            bundle.spec.inference, device="cpu", precision="fp32", overlap=overlap, check_familiarity=False
        )
        predictors[overlap] = Predictor(bundle, settings)
    dice: dict[float, list[float]] = {overlap: [] for overlap in OVERLAPS}
    windows = dict.fromkeys(OVERLAPS, 0)
    for case in cases:
        volume, reference = read_volume(case.image[0]), read_reference(case, dataset.labels)
        grid = bundle.spec.preprocessing.grid_for(volume).shape
        patch = bundle.spec.preprocessing.patch_size
        d, h, w = (max(n, least) for n, least in zip(grid, patch, strict=True))
        for overlap, predictor in predictors.items():
            labels = predictor.predict(volume).label_map.array
            dice[overlap].append(
                fmean(_dice(labels == label.value, reference.array == label.value) for label in bundle.labels)
            )
            windows[overlap] += len(WindowPlan((d, h, w), patch, overlap).blocks())
        print(case.id, {overlap: round(values[-1], 4) for overlap, values in dice.items()}, flush=True)
    rows = []
    for overlap in OVERLAPS:
        difference = np.subtract(dice[overlap], dice[REFERENCE])
        low, high = np.quantile(difference, [0.25, 0.75])
        rows.append(
            {
                "model": f"{bundle.name} {bundle.version}",
                "cases": len(cases),
                "overlap": overlap,
                "mirroring": predictors[overlap].settings.mirroring,
                "dice": f"{fmean(dice[overlap]):.4f}",
                "difference": f"{difference.mean():.5f}",
                "difference_q1": f"{low:+.4f}",
                "difference_q3": f"{high:+.4f}",
                "windows": windows[overlap],
                "machine": machine(),
            }
        )
    replace_rows(CSV, rows, ("model",))


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    total = int(one.sum() + other.sum())
    return 2 * int((one & other).sum()) / total if total else 1.0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("MAESEGMENT_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=default, help="folder of the data sets (default: %(default)s)")
    parser.add_argument("--model", choices=tuple(DATA), action="append", help="default: all")
    parser.add_argument("--cases", type=int, default=20, help="the first so many of pool (default: 20)")
    parser.add_argument("--report", action="store_true", help="only make the table again")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
