"""`maesegment segment`: a scan in, a segmentation on exactly its grid out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigurationError, OutputError
from ..storage.atomic_file import check_writable
from . import options
from .terminal import ProgressBar, make_console, make_table, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..bundle import Bundle
    from ..images.volume import Volume
    from ..inference.settings import Prediction

#: What is shown of the stages that `predict` reports.
STAGES = {"locate": "Placing the box", "prepare": "Preparing", "segment": "Segmenting", "restore": "Restoring"}
_LABEL_MAP_ENDINGS = (".seg.nrrd", ".nii.gz", ".nii", ".dcm")
_MAP_ENDINGS = (".nii.gz", ".nii", ".nrrd")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "scan",
        nargs="+",
        type=Path,
        metavar="IN",
        help="NIfTI, NRRD, MHA, MGZ or a DICOM folder; for a model with several channels, one file each, in its order",
    )
    options.add_model(parser)
    options.add_out(
        parser,
        "OUT",
        "a .seg.nrrd (default: named after IN, in the current folder), .nii.gz, or for DICOM input .dcm (DICOM SEG) or "
        ".rtstruct.dcm file",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace output files that exist")
    parser.add_argument("--series", metavar="UID", help="the series to read, if the DICOM folder holds several")
    options.add_roi(parser, "segment only this box")
    parser.add_argument(
        "--preview", type=Path, metavar="OUT.png", help="also write a picture of three planes with contours"
    )
    parser.add_argument(
        "--statistics",
        type=Path,
        metavar="OUT.csv",
        help="also write volume, grey values and extent of each structure, as Slicer's Segment Statistics names them",
    )
    parser.add_argument(
        "--probabilities",
        type=Path,
        metavar="OUT",
        help="also write the probability of every class, as .nii.gz or .nrrd",
    )
    parser.add_argument(
        "--entropy", type=Path, metavar="OUT", help="also write the uncertainty, 0 to 1, as .nii.gz or .nrrd"
    )
    options.add_allow_mismatch(parser)
    options.add_inference(parser)
    options.add_quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.series and len(arguments.scan) > 1:
        raise ConfigurationError("--series picks a series of one DICOM folder, but several scans were given.")
    outputs = _check_outputs(arguments)

    from ..bundle.library import ModelLibrary
    from ..bundle.suitability import ScanFacts, box_placing, check_scan
    from ..images.reading import read_volume, read_volumes
    from ..images.writing import check_label_map_destination
    from ..inference.locating import locating
    from ..inference.predictor import Predictor

    roi = options.chosen_roi(arguments)
    library = ModelLibrary()
    bundle = library.find(arguments.model, verify=True)
    settings = options.inference_settings(arguments, bundle)
    if len(arguments.scan) == 1:
        volume = read_volume(arguments.scan[0], series_uid=arguments.series)
    else:
        volume = read_volumes(arguments.scan)
    facts = ScanFacts.of(volume)
    hint = "If you know that it fits, add --allow-mismatch."
    allowed = check_scan(bundle, facts, allowed=arguments.allow_mismatch, hint=hint)
    check_label_map_destination(outputs["segmentation"], source=volume, labels=bundle.labels)
    placing = box_placing(bundle, facts.grid, roi, library.meant)
    if placing.lacking:
        _warn(f"{placing.lacking} Give it with --roi.")
    predictor = locating(Predictor(bundle, settings), placing.locator)
    with ProgressBar(STAGES["prepare"], shown=not arguments.quiet) as bar:
        prediction = predictor.predict(
            volume,
            roi=roi,
            progress=lambda stage, fraction: bar.update(fraction, STAGES.get(stage, stage)),
            want_probabilities=arguments.probabilities is not None,
            want_entropy=arguments.entropy is not None,
        )
    written = _write(outputs, volume, prediction, bundle, arguments.scan[0].name)
    if not arguments.quiet:
        print_result(prediction, bundle, written, [*allowed, *prediction.warnings])
    return 0


def _check_outputs(arguments: argparse.Namespace) -> dict[str, Path]:
    """What is to be written where; `OutputError` before any work is done if that cannot be."""
    from ..inference.settings import default_output

    output: Path = arguments.out or default_output(arguments.scan[0])
    if output.is_dir():  # a DICOM folder gets DICOM
        output /= "segmentation.dcm" if arguments.scan[0].is_dir() else default_output(arguments.scan[0])
    outputs = {"segmentation": output}
    for name in ("preview", "statistics", "probabilities", "entropy"):
        if getattr(arguments, name):
            outputs[name] = getattr(arguments, name)
    endings = {"segmentation": _LABEL_MAP_ENDINGS, "preview": (".png",), "statistics": (".csv",)}
    inputs = {path.resolve() for path in arguments.scan}
    for name, path in outputs.items():
        if path.resolve() in inputs:
            raise OutputError(f"{path} is the scan itself; it is never overwritten.", "Choose another name with -o.")
        check_output(path, endings.get(name, _MAP_ENDINGS), overwrite=arguments.overwrite)
    if len({path.resolve() for path in outputs.values()}) < len(outputs):
        raise OutputError("Two outputs have the same name.", "Give each output its own file.")
    return outputs


def check_output(path: Path, endings: Sequence[str] = _LABEL_MAP_ENDINGS, *, overwrite: bool) -> None:
    """Raise `OutputError` now if a file of one of these `endings` cannot be written, or must not be replaced."""
    if not path.name.lower().endswith(tuple(endings)):
        raise OutputError(
            f"{path.name} is not written in this format.", f"Use a name that ends in {', '.join(endings)}."
        )
    check_writable(path)
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists already.", "Choose another name, or add --overwrite.")


def _write(
    outputs: dict[str, Path], volume: Volume, prediction: Prediction, bundle: Bundle, volume_name: str
) -> dict[str, Path]:
    from ..images.writing import write_label_map, write_volume

    labels = prediction.labels
    written = {
        "segmentation": write_label_map(
            outputs["segmentation"], prediction.label_map, labels, source=volume, volume_name=volume_name
        )
    }
    for name, maps in (("probabilities", prediction.probabilities), ("entropy", prediction.entropy)):
        if maps is not None:
            written[name] = write_volume(outputs[name], maps)
    if "preview" in outputs:
        from ..inference.preview import write_preview

        written["preview"] = write_preview(outputs["preview"], volume, prediction.label_map, labels)
    if "statistics" in outputs:
        from ..images.segment_statistics import measure_labels, write_statistics

        found = measure_labels(prediction.label_map, labels, volume.array)
        written["statistics"] = write_statistics(outputs["statistics"], found, bundle.channels)
    return written


def print_result(prediction: Prediction, bundle: Bundle, written: dict[str, Path], warnings: Sequence[str]) -> None:
    """What was found, where it was written, and what to know of it."""
    from ..images.volumetry import volumes_ml
    from ..inference.islands import cleaned_text

    volumes = volumes_ml(prediction.label_map, prediction.labels)
    table = make_table("Segment", "Volume (ml)", right=["Volume (ml)"], title=f"{bundle.name} {bundle.version}")
    for label in prediction.labels:
        table.add_row(label.name, f"{volumes[label.value]:.2f}" if volumes[label.value] else "not found")
    make_console().print(table)
    say(f"{prediction.seconds:.1f} seconds on {prediction.ran_on(prediction.device)}")
    if prediction.located_by:
        say(f"boxes placed by {prediction.located_by}")
    if prediction.cleaned:
        say(f"cleaned: {cleaned_text(prediction.cleaned)}")
    for name, path in written.items():
        say(f"{name}: {path}")
    for warning in warnings:
        _warn(warning)


def _warn(text: str) -> None:
    make_console(stderr=True).print(f"warning: {text}", style="yellow", soft_wrap=True)
