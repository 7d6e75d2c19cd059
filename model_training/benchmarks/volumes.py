"""Whole scans, from file to file: `python -m model_training.benchmarks.volumes`.

The library (reading, familiarity check, windows, restoring, writing) against the same network in a plain MONAI pipeline
(`plain_monai.py`), one thread, float32, the same windows; on a GPU in any precision. The contenders take turns in one
process; before that their outputs are compared. A scan that is measured again replaces its rows in results/volumes.csv.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch

from MAESegmentLib.bundle import Bundle, ModelStore
from MAESegmentLib.evaluation.metrics import dice
from MAESegmentLib.images.reading import read_label_map, read_volume
from MAESegmentLib.images.writing import write_label_map
from MAESegmentLib.inference.predictor import Predictor
from MAESegmentLib.inference.settings import InferenceSettings, Precision

from .plain_monai import RESAMPLINGS, PlainPipeline
from .runner import add_data, begin, record, where
from .stages import Stages
from .timing import Timing, alternate
from .volumes_cases import BLOCK, SCANS, make_scan

MODEL = "headneck"
OVERLAP = 0.5
OURS, OURS_CHECKED = "ours", "ours, with the familiarity check"
#: Least Dice of every structure between ours and MONAI on the same input. A GPU rounds otherwise in other windows.
EQUAL = {"cpu": 0.999, "cuda": 0.98}


class Ours:
    """The library as `maesegment segment --no-clean` uses it: MONAI's pipeline removes no stray pieces."""

    def __init__(self, bundle: Bundle, *, check: bool, device: str, precision: Precision) -> None:
        self.stages = Stages(device)
        settings = InferenceSettings.of_model(
            bundle.spec.inference,
            device=device,
            precision=precision,
            overlap=OVERLAP,
            check_familiarity=check,
            clean=False,
        )
        self._labels = bundle.labels
        self._predictor = Predictor(bundle, settings, network=self.stages.timed(bundle.load_network()))

    def run(self, scan: Path, output: Path) -> None:
        self.stages.start()
        volume = read_volume(scan)
        self.stages.lap("load")

        def report(stage: str, fraction: float) -> None:
            if (stage, fraction) in _LAPS:
                self.stages.lap(_LAPS[stage, fraction])

        prediction = self._predictor.predict(volume, progress=report)
        write_label_map(output, prediction.label_map, self._labels)
        self.stages.lap("write")


#: What has been done when the library reports this.
_LAPS = {("prepare", 1.0): "prepare", ("restore", 0.0): "blend and restore", ("restore", 1.0): "check"}


@dataclass
class Measured:
    """One contender: how to run it, and the stages of each timed run."""

    stages: Stages
    run: Callable[[], None]
    laps: list[dict[str, float]] = field(default_factory=list)

    def __call__(self) -> None:
        self.run()
        self.laps.append(dict(self.stages))


def main() -> None:
    arguments = begin(__doc__, _options)
    if arguments.device == "cpu":
        torch.set_num_threads(1)
    bundle = ModelStore().find(MODEL)
    for name in arguments.scan or SCANS:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scan = make_scan(name, arguments.data, Path(folder))
            how = arguments.device, arguments.precision, arguments.seconds
            record("volumes", measure(name, bundle, scan, Path(folder), *how), BLOCK)


def measure(
    name: str, bundle: Bundle, scan: Path, folder: Path, device: str, precision: Precision, seconds: float
) -> list[dict[str, object]]:
    """Compare the outputs, and let the contenders take turns; the rows of this scan."""
    volume = read_volume(scan)
    grid = bundle.spec.preprocessing.grid_for(volume)
    pipelines: dict[str, Ours | PlainPipeline] = {
        OURS: Ours(bundle, check=False, device=device, precision=precision),
        OURS_CHECKED: Ours(bundle, check=True, device=device, precision=precision),
    }
    for resampling in RESAMPLINGS:
        pipelines[f"MONAI, {resampling}"] = PlainPipeline(
            bundle.load_network(),
            bundle.spec.preprocessing,
            resampling=resampling,
            grid=grid.shape,
            overlap=OVERLAP,
            device=device,
            precision=precision,
        )
    outputs = {contender: folder / f"{number}.nii.gz" for number, contender in enumerate(pipelines)}
    for contender, pipeline in pipelines.items():
        pipeline.run(scan, outputs[contender])
    agreement = {contender: agree(outputs[OURS], outputs[contender], bundle) for contender in pipelines}
    print(f"{name}: {volume.grid.shape} -> {grid.shape}", flush=True)
    for contender, (least, share) in agreement.items():
        print(f"  {contender}: least Dice with ours {least:.4f}, {share:.1e} of the voxels differ", flush=True)
    assert agreement["MONAI, same input"][0] >= EQUAL[device], "the two pipelines do not compute the same"
    contenders = {
        contender: Measured(pipeline.stages, partial(pipeline.run, scan, outputs[contender]))
        for contender, pipeline in pipelines.items()
        if not contender.endswith("same input")
    }
    timings = alternate(contenders, seconds=seconds, warm_up=1)
    fixed = {
        "scan": name,
        "voxels": _size(volume.grid.shape),
        "network_grid": _size(grid.shape),
        "classes": len(bundle.labels) + 1,
        "precision": precision,
        "threads": torch.get_num_threads(),
        "device": device,
        **where(device),
    }
    laps = {contender: measured.laps[1:] for contender, measured in contenders.items()}
    seconds_of = {name: timing.wall if device != "cpu" else timing.processor for name, timing in timings.items()}
    return [
        fixed | _row(contender, timings[contender], seconds_of, laps[contender], agreement[contender])
        for contender in timings
    ]


def agree(one: Path, other: Path, bundle: Bundle) -> tuple[float, float]:
    """Least Dice over the structures that either has, and the share of voxels that differ."""
    a, b = read_label_map(one), read_label_map(other)
    assert a.grid.matches(b.grid)
    found = [(a.array == label.value, b.array == label.value) for label in bundle.labels]
    least = min((dice(mine, its) for mine, its in found if mine.any() or its.any()), default=1.0)
    return least, float(np.mean(a.array != b.array))


def _row(
    contender: str,
    timing: Timing,
    seconds_of: dict[str, tuple[float, ...]],
    laps: list[dict[str, float]],
    agreement: tuple[float, float],
) -> dict[str, object]:
    """`seconds_of` each contender are on the clock where a GPU computes, else of the processor."""
    own = seconds_of[contender]
    ratios = [its / mine for mine, its in zip(seconds_of[OURS], own, strict=True)]
    low, middle, high = np.quantile(own, [0.25, 0.5, 0.75])
    names = dict.fromkeys(name for lap in laps for name in lap)
    return {
        "contender": contender,
        "rounds": len(own),
        "processor_s": f"{middle:.3f}",
        "processor_q1": f"{low:.3f}",
        "processor_q3": f"{high:.3f}",
        "wall_s": f"{median(timing.wall):.3f}",
        "ours_faster": f"{median(ratios):.3f}",
        "ours_faster_q1": f"{np.quantile(ratios, 0.25):.3f}",
        "ours_faster_q3": f"{np.quantile(ratios, 0.75):.3f}",
        "least_dice_with_ours": f"{agreement[0]:.5f}",
        "voxels_that_differ": f"{agreement[1]:.2e}",
        **{f"{name} (s)": f"{median(lap.get(name, 0.0) for lap in laps):.3f}" for name in names},
    }


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _options(parser: argparse.ArgumentParser) -> None:
    add_data(parser)
    parser.add_argument("--scan", choices=SCANS, action="append", help="default: all")
    parser.add_argument("--device", choices=EQUAL, default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each scan (default: %(default)s)")


if __name__ == "__main__":
    main()
