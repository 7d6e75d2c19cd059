"""`maesegment demo`: both hippocampi of a real head, from the volume that the nilearn package carries."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import VolumeReadError
from ..samples import ROI_LEFT, ROI_RIGHT, SAMPLE_MODEL, head_path
from . import options
from .terminal import make_console, make_table, say

if TYPE_CHECKING:
    from ..images.labels import Label
    from ..images.volume import LabelMap
    from ..inference import Prediction

_NAME = "MNI152_T1_hippocampi"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_out(parser, "DIR", "folder for the results (default: output)", default=Path("output"))
    options.add_model(parser, f"model to use (default: {SAMPLE_MODEL})", default=SAMPLE_MODEL)
    options.add_device(parser)


def run(arguments: argparse.Namespace) -> int:
    from ..bundle import ModelStore
    from ..images.reading import read_volume
    from ..images.writing import check_label_map_destination, write_label_map
    from ..inference import Predictor, Roi
    from ..inference.preview import write_preview

    try:
        head = head_path()
    except VolumeReadError as error:
        error.hint = "Install it with `pip install nilearn`, or segment a scan of your own with `maesegment segment`."
        raise
    target = options.made_folder(arguments.out) / f"{_NAME}.seg.nrrd"
    check_label_map_destination(target)
    bundle = ModelStore().find(arguments.model)
    volume = read_volume(head)
    predictor = Predictor(bundle, options.inference_settings(arguments, bundle))
    sides = {}
    for side, box in (("Left", ROI_LEFT), ("Right", ROI_RIGHT)):
        say(f"Segmenting the {side.lower()} hippocampus ...")
        sides[side] = predictor.predict(volume, roi=Roi.of(box))
    label_map, labels = combine(sides, bundle.spec.labels)
    written = write_label_map(target, label_map, labels, volume_name="MNI152 T1")
    preview = target.with_name(f"{_NAME}.png")
    write_preview(preview, volume, label_map, labels)
    _print_table(sides, label_map, labels, f"{bundle.spec.name} {bundle.spec.version}")
    say(f"\nSegmentation: {written}  (drag it into 3D Slicer with the volume below)")
    say(f"Preview:      {preview}\nVolume:       {head}")
    return 0


def combine(sides: dict[str, Prediction], labels: tuple[Label, ...]) -> tuple[LabelMap, list[Label]]:
    """One label map in which each side has labels of its own, with the side in name and terminology."""
    import numpy as np

    from ..images.labels import Code
    from ..images.volume import LabelMap

    modifiers = {"Left": Code("SCT", "7771000", "Left"), "Right": Code("SCT", "24028007", "Right")}
    combined: list[Label] = []
    first = next(iter(sides.values())).label_map
    array = np.zeros_like(first.array)
    for side, prediction in sides.items():
        for label in labels:
            value = len(combined) + 1
            array[prediction.label_map.array == label.value] = value
            # The right side is drawn darker, so that the sides can be told apart in 3D.
            red, green, blue = (round(c * (1.0 if side == "Left" else 0.7)) for c in label.colour)
            combined.append(
                replace(
                    label,
                    value=value,
                    name=f"{side} hippocampus, {label.name}",
                    colour=(red, green, blue),
                    terminology=replace(label.terminology, modifier=modifiers[side]),
                )
            )
    return LabelMap(array, first.ijk_to_ras), combined


def _print_table(sides: dict[str, Prediction], label_map: LabelMap, labels: list[Label], model: str) -> None:
    from ..images.volumetry import volumes_ml

    volumes = volumes_ml(label_map, labels)
    headings = ("Segment", "Volume (ml)", "Seconds", "Device")
    table = make_table(*headings, right=headings[1:3], title=f"Hippocampi of the MNI152 head, {model}")
    per_side = len(labels) // len(sides)
    for index, label in enumerate(labels):
        prediction = list(sides.values())[index // per_side]
        once = index % per_side == 0
        table.add_row(
            label.name,
            f"{volumes[label.value]:.2f}",
            f"{prediction.seconds:.1f}" if once else "",
            prediction.ran_on(prediction.device) if once else "",
        )
    console = make_console()
    console.print(table)
    for side, prediction in sides.items():
        for warning in prediction.warnings:
            console.print(f"{side}: {warning}", style="yellow")
