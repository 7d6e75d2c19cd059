"""What follows from drawn slices: `python -m model_training.benchmarks.updates --data DATA`.

On head-and-neck CTs whose labels no model was trained on (`partial`), every structure is drawn on every second, fourth
and eighth slice, or one to three slices of a result of `headneck-ct` are corrected to the reference. Dice are those of
the slices that were not drawn. `--itk` adds ITK's morphological contour interpolation, which Slicer's *Fill between
slices* is (`pip install itk-morphologicalcontourinterpolation`, in an environment of its own).
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from MAESegmentLib.bundle import ModelStore
from MAESegmentLib.images.reading import read_label_map, read_volume
from MAESegmentLib.images.volume import LabelMap, Volume
from MAESegmentLib.inference.predictor import Predictor
from MAESegmentLib.propagation.spreading import REACH_MM
from MAESegmentLib.propagation.update import update_scan

from .runner import add_data, begin, record

GAPS = (2, 4, 8)
CORRECTED = (1, 2, 3)
#: Mandible is there, which few of these scans have, then the larynx.
FIRST = ("Mandible", "Larynx")


def main() -> None:
    arguments = begin(__doc__, _add)
    rows: list[dict[str, object]] = []
    for scan, volume, reference, names in cases(arguments.data / "headneck_ct", arguments.cases):
        if arguments.task != "corrected":
            rows += drawn_rows(scan, volume, reference, names, itk=arguments.itk)
        if arguments.task != "drawn" and not arguments.itk:
            rows += corrected_rows(scan, volume, reference, names)
        print(scan, len(rows), flush=True)
    record("updates", rows, ("scan", "task", "method", "structure"))


def _add(parser: argparse.ArgumentParser) -> None:
    add_data(parser)
    parser.add_argument("--cases", type=int, default=8, help="how many scans (default: %(default)s)")
    parser.add_argument("--task", choices=("drawn", "corrected"), help="only this one")
    parser.add_argument("--itk", action="store_true", help="only ITK's interpolation")


def cases(folder: Path, count: int) -> Iterator[tuple[str, Volume, LabelMap, dict[int, str]]]:
    """Scans with the names of what is annotated in each, by label value."""
    described = json.loads((folder / "dataset7.json").read_text())
    partial = set(described["splits"]["partial"])
    known = [case for case in described["cases"] if case["id"] in partial]
    known.sort(key=lambda case: [name in case["unknown"] for name in FIRST])
    for case in known[:count]:
        names = {value: name for name, value in described["labels"].items() if value and name not in case["unknown"]}
        yield case["id"], read_volume(folder / case["image"]), read_label_map(folder / case["label"]), names


def drawn_rows(
    scan: str, volume: Volume, reference: LabelMap, names: Mapping[int, str], *, itk: bool
) -> Iterator[dict[str, object]]:
    """Every structure drawn on some slices."""
    axis = int(np.argmax(np.abs(volume.ijk_to_ras[2, :3])))
    planes = np.moveaxis(reference.array, axis, 0)
    for gap in GAPS:
        drawn = np.zeros_like(reference.array)
        slices: dict[int, list[int]] = {}
        for value in names:
            there = np.flatnonzero((planes == value).any(axis=(1, 2)))
            chosen = [int(index) for index in there if (index - there[0]) % gap == 0]
            if len(chosen) < 3:
                continue
            slices[value] = chosen
            np.moveaxis(drawn, axis, 0)[chosen] += (planes[chosen] == value).astype(drawn.dtype) * value
        now = LabelMap(drawn, volume.ijk_to_ras)
        methods = {"ITK": None} if itk else {"outlines": None, "outlines and grey values": volume}
        for method, with_volume in methods.items():
            begun = time.perf_counter()
            if itk:
                found = _by_itk(drawn, axis, slices)
            else:
                kept = {value: names[value] for value in slices}
                found = update_scan(now, None, kept, volume=with_volume, axis=axis).label_map.array
            seconds = time.perf_counter() - begun
            for value, chosen in slices.items():
                between = sorted(set(range(chosen[0], chosen[-1])) - set(chosen))
                score = dice(np.moveaxis(found, axis, 0)[between] == value, planes[between] == value)
                yield row(scan, f"every {gap}", method, names[value], score, seconds)


def corrected_rows(
    scan: str, volume: Volume, reference: LabelMap, names: Mapping[int, str]
) -> Iterator[dict[str, object]]:
    """The worst slices of a result are corrected; what follows within reach, and what would be without."""
    bundle = ModelStore().find("headneck-ct")
    own = {label.value: label.name for label in bundle.labels if label.name in names.values()}
    result = np.where(np.isin(found := Predictor(bundle).predict(volume).label_map.array, list(own)), found, 0)
    truth = np.where(np.isin(reference.array, list(own)), reference.array, 0).astype(result.dtype)
    axis = int(np.argmax(np.abs(volume.ijk_to_ras[2, :3])))
    results, truths = (np.moveaxis(array, axis, 0) for array in (result, truth))
    reach = int(REACH_MM / volume.grid.spacing[axis])
    wrong = (results != truths).sum(axis=(1, 2))
    for count in CORRECTED:
        chosen: list[int] = []
        for index in np.argsort(-wrong, kind="stable"):
            if len(chosen) < count and all(abs(int(index) - one) > 4 for one in chosen):
                chosen.append(int(index))
        now = result.copy()
        np.moveaxis(now, axis, 0)[chosen] = truths[chosen]
        begun = time.perf_counter()
        updated = update_scan(LabelMap(now, volume.ijk_to_ras), result, own, volume=volume, axis=axis)
        seconds = time.perf_counter() - begun
        beside = sorted({k for one in chosen for k in range(one - reach, one + reach + 1) if 0 <= k < len(truths)})
        beside = [index for index in beside if index not in chosen]
        for method, array in (("nothing follows", now), ("corrections carried over", updated.label_map.array)):
            part = np.moveaxis(array, axis, 0)[beside]
            for value, name in own.items():
                if (truths[beside] == value).any():
                    score = dice(part == value, truths[beside] == value)
                    yield row(scan, f"{count} corrected", method, name, score, seconds)


def row(scan: str, task: str, method: str, structure: str, score: float, seconds: float) -> dict[str, object]:
    return {
        "scan": scan,
        "task": task,
        "method": method,
        "structure": structure,
        "dice": f"{score:.4f}",
        "seconds": f"{seconds:.2f}",
    }


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * float(np.count_nonzero(one & other)) / max(1.0, float(np.count_nonzero(one) + np.count_nonzero(other)))


def _by_itk(drawn: np.ndarray, axis: int, slices: Mapping[int, Sequence[int]]) -> np.ndarray:
    itk = importlib.import_module("itk")
    found = np.zeros_like(drawn)
    for value in slices:
        mask = np.ascontiguousarray(np.moveaxis(drawn == value, axis, 0).astype(np.uint8))
        interpolator = itk.MorphologicalContourInterpolator.New(itk.image_from_array(mask))
        interpolator.SetAxis(2)
        interpolator.SetLabel(1)
        interpolator.Update()
        np.moveaxis(found, axis, 0)[itk.array_from_image(interpolator.GetOutput()) > 0] = value
    return found


if __name__ == "__main__":
    main()
