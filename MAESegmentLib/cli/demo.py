"""`maesegment demo`: both hippocampi of a real head, from the volume that the nilearn package carries."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import VolumeReadError
from ..samples import SAMPLE_MODEL, head_path
from . import options
from .segment import STAGES, print_result
from .terminal import ProgressBar, say

_NAME = "MNI152_T1_hippocampi"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_out(parser, "DIR", "folder for the results (default: output)", default=Path("output"))
    options.add_model(parser, f"model to use (default: {SAMPLE_MODEL})", default=SAMPLE_MODEL)
    options.add_device(parser)


def run(arguments: argparse.Namespace) -> int:
    from ..bundle.library import ModelLibrary
    from ..bundle.suitability import box_placing
    from ..images.reading import read_volume
    from ..images.writing import check_label_map_destination, write_label_map
    from ..inference import Predictor
    from ..inference.locating import locating
    from ..inference.preview import write_preview

    try:
        head = head_path()
    except VolumeReadError as error:
        error.hint = "Install it with `pip install nilearn`, or segment a scan of your own with `maesegment segment`."
        raise
    target = options.made_folder(arguments.out) / f"{_NAME}.seg.nrrd"
    check_label_map_destination(target)
    library = ModelLibrary()
    bundle = library.find(arguments.model, verify=True)
    volume = read_volume(head)
    placing = box_placing(bundle, volume.grid, None, library.meant)
    predictor = locating(Predictor(bundle, options.inference_settings(arguments, bundle)), placing.locator)
    with ProgressBar(STAGES["prepare"]) as bar:
        prediction = predictor.predict(
            volume, progress=lambda stage, fraction: bar.update(fraction, STAGES.get(stage, stage))
        )
    written = {
        "segmentation": write_label_map(target, prediction.label_map, prediction.labels, volume_name="MNI152 T1"),
        "preview": target.with_name(f"{_NAME}.png"),
        "volume": head,
    }
    write_preview(written["preview"], volume, prediction.label_map, prediction.labels)
    print_result(prediction, bundle, written, [text for text in (placing.lacking, *prediction.warnings) if text])
    say("Drag the segmentation and the volume into 3D Slicer to see them there.")
    return 0
