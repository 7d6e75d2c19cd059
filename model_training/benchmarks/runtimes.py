"""OpenVINO against PyTorch on a processor: `python -m model_training.benchmarks.runtimes --data DATA [--model NAME]`.

One thread, processor seconds. The windows of both shipped models by both runtimes in fp32 and bf16, in turn
(results/runtimes.csv); every scan of `validation` as a whole by each, in turn, with how far its labels are from those
of PyTorch in fp32 (results/runtimes_scans.csv). What is there of these files is not measured again, so that the same
command resumes; delete the rows to measure them again. Models that are not prepared for OpenVINO yet are at first.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from functools import partial
from statistics import mean, median
from typing import Any

import numpy as np
import torch

from MAESegmentLib.bundle import Bundle, ModelStore
from MAESegmentLib.cases.checks import read_image
from MAESegmentLib.cases.dataset import load_dataset
from MAESegmentLib.evaluation.metrics import dice
from MAESegmentLib.images.volume import Volume
from MAESegmentLib.inference.predictor import Predictor
from MAESegmentLib.inference.settings import InferenceSettings

from ..tables import read_rows
from .familiarity import DATA, REFERENCE
from .report import RESULTS, write_report
from .runner import add_data, begin, record, where
from .timing import Timing, alternate

#: The first is what the others are compared with.
WAYS = tuple((runtime, precision) for runtime in ("torch", "openvino") for precision in ("fp32", "bf16"))
Way = tuple[str, str]


def main() -> None:
    arguments = begin(__doc__, _options)
    torch.set_num_threads(1)
    for name in arguments.model or DATA:
        measure(ModelStore().find(name), arguments)
    write_report()


def measure(bundle: Bundle, arguments: argparse.Namespace) -> None:
    """What is not there yet of one model."""
    model = {"model": f"{bundle.name} {bundle.version}"}
    predictors = {way: _predictor(bundle, *way) for way in WAYS}
    cases = load_dataset(arguments.data / DATA[bundle.name]).select(REFERENCE)
    if not _known("runtimes", **model):
        timings = time_windows(predictors, arguments.seconds)
        rows = [model | _times(way, timings) | where() for way in WAYS]
        record("runtimes", rows, ("model",), report=False)
    for number, case in enumerate(cases):
        if not _known("runtimes_scans", **model, scan=case.id):
            found = compare(predictors, read_image(case), number)
            rows = [model | {"scan": case.id} | row | where() for row in found]
            record("runtimes_scans", rows, ("model", "scan"), report=False)


def _known(name: str, **values: str) -> bool:
    return any(values.items() <= row.items() for row in read_rows(RESULTS / f"{name}.csv"))


def _times(way: Way, timings: Mapping[str, Timing]) -> dict[str, object]:
    timing = timings[_text(way)]
    return {
        "way": _text(way),
        "window_s": f"{median(timing.processor):.4f}",
        "faster": f"{timings[_text(WAYS[0])].processor_speedup_of(timing):.2f}",
        "rounds": len(timing.processor),
    }


def time_windows(predictors: Mapping[Way, Predictor], seconds: float) -> dict[str, Timing]:
    """The network alone on one random window."""
    any_one = predictors[WAYS[0]]
    sample = torch.randn((1, len(any_one.spec.channels), *any_one.preprocessing.patch_size))
    networks = {_text(way): one.network_on(torch.device("cpu")) for way, one in predictors.items()}
    with torch.inference_mode():
        return alternate({name: partial(network, sample) for name, network in networks.items()}, seconds=seconds)


def compare(predictors: Mapping[Way, Predictor], scan: Volume, number: int) -> list[dict[str, object]]:
    """A row for each way, in an order that rotates with the scan's `number`."""
    turn = number % len(WAYS)
    labels: dict[Way, np.ndarray] = {}
    seconds: dict[Way, float] = {}
    for way in WAYS[turn:] + WAYS[:turn]:
        worked = time.process_time()
        labels[way] = predictors[way].predict(scan).label_map.array
        seconds[way] = time.process_time() - worked
    reference, rows = labels[WAYS[0]], []
    for way in WAYS:
        values = [label.value for label in predictors[way].spec.labels]
        there = [value for value in values if (reference == value).any() or (labels[way] == value).any()]
        found = [dice(labels[way] == value, reference == value) for value in there]
        row: dict[str, object] = {"way": _text(way), "seconds": f"{seconds[way]:.4f}"}
        row |= {"faster": f"{seconds[WAYS[0]] / seconds[way]:.3f}", "dice": f"{mean(found):.6f}"}
        rows.append(row | {"least_dice": f"{min(found):.6f}", "differing": f"{(labels[way] != reference).mean():.2e}"})
    return rows


def _predictor(bundle: Bundle, runtime: str, precision: str) -> Predictor:
    chosen: dict[str, Any] = {"device": "cpu", "runtime": runtime, "precision": precision, "check_familiarity": False}
    return Predictor(bundle, InferenceSettings.of_model(bundle.spec.inference, **chosen))


def _text(way: Way) -> str:
    return " ".join(way)


def _options(parser: argparse.ArgumentParser) -> None:
    add_data(parser)
    parser.add_argument("--model", action="append", choices=DATA, help="may be repeated (default: both)")
    parser.add_argument("--seconds", type=float, default=20, help="for the windows of a model (default: %(default)s)")


if __name__ == "__main__":
    main()
