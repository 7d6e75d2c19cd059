"""`maesegment segment`: a scan in, a segmentation on exactly its grid out."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigurationError, OutputError
from .terminal import make_console, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..bundle import Bundle, ModelStore
    from ..images.labels import Label
    from ..images.volume import Volume
    from ..inference.settings import Prediction, Progress

_STAGES = {"prepare": "Preparing", "segment": "Segmenting", "restore": "Restoring"}
_LABEL_MAP_ENDINGS = (".seg.nrrd", ".nii.gz", ".nii", ".dcm")
_MAP_ENDINGS = (".nii.gz", ".nii", ".nrrd")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    # Lets "--roi -40,-5,..." pass; argparse would take "-40,-5,..." for an option.
    parser._negative_number_matcher = re.compile(r"^-\.?\d[\d.,eE+-]*$")
    parser.add_argument(
        "scan",
        nargs="+",
        type=Path,
        metavar="IN",
        help="NIfTI, NRRD, MHA, MGZ or a DICOM folder; for a model of several channels one file each, in its order",
    )
    parser.add_argument(
        "-m", "--model", help="name (or the start of it), name@version or folder; see `maesegment models list`"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT",
        help="OUT.seg.nrrd (default: <name of IN>.seg.nrrd here), OUT.nii.gz, or OUT.dcm for DICOM input",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace output files that exist")
    parser.add_argument("--series", metavar="UID", help="which series of a DICOM folder")
    parser.add_argument(
        "--roi", metavar="R0,R1,A0,A1,S0,S1", help="segment only this box; RAS mm (R: to the right, A: front, S: up)"
    )
    parser.add_argument("--preview", type=Path, metavar="OUT.png", help="picture of three planes with contours")
    parser.add_argument(
        "--probabilities", type=Path, metavar="OUT", help="probability of every class, .nii.gz or .nrrd"
    )
    parser.add_argument("--entropy", type=Path, metavar="OUT", help="uncertainty from 0 to 1, .nii.gz or .nrrd")
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:N or cpu (default: auto)")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto", help="(default: auto)")
    parser.add_argument(
        "--overlap", type=float, help="share of a window covered by the next, 0 to 0.9 (default: the model's)"
    )
    parser.add_argument(
        "--mirror", action="store_true", default=None, help="average over mirror images: slower, often better"
    )
    parser.add_argument(
        "--no-cpu", action="store_true", help="fail, rather than use the CPU, if the GPU's memory is too small"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print only errors")


def run(arguments: argparse.Namespace) -> int:
    if arguments.series and len(arguments.scan) > 1:
        raise ConfigurationError("--series picks a series of one DICOM folder, but several scans were given.")
    outputs = _check_outputs(arguments)

    from ..bundle import ModelStore
    from ..images.reading import read_volume, read_volumes
    from ..images.roi import Roi
    from ..images.writing import check_label_map_destination
    from ..inference.predictor import Predictor
    from ..inference.settings import InferenceSettings

    roi = Roi.parse(arguments.roi) if arguments.roi else None
    bundle = _choose_model(ModelStore(), arguments.model)
    settings = InferenceSettings.of_model(
        bundle.spec.inference,
        device=arguments.device,
        precision=arguments.precision,
        overlap=arguments.overlap,
        mirroring=arguments.mirror,
        allow_cpu=not arguments.no_cpu,
    )
    if len(arguments.scan) == 1:
        volume = read_volume(arguments.scan[0], series_uid=arguments.series)
    else:
        volume = read_volumes(arguments.scan)
    check_label_map_destination(outputs["segmentation"], source=volume, labels=bundle.labels)
    predictor = Predictor(bundle, settings)
    with _progress_bar(arguments.quiet) as progress:
        prediction = predictor.predict(
            volume,
            roi=roi,
            progress=progress,
            want_probabilities=arguments.probabilities is not None,
            want_entropy=arguments.entropy is not None,
        )
    written = _write(outputs, volume, prediction, bundle.labels, arguments.scan[0].name)
    if not arguments.quiet:
        _print_result(prediction, bundle, written)
    return 0


def _check_outputs(arguments: argparse.Namespace) -> dict[str, Path]:
    """What is to be written where; `OutputError` before any work is done if that cannot be."""
    from ..inference.naming import default_output

    output: Path = arguments.output or default_output(arguments.scan[0])
    if output.is_dir():  # a DICOM folder gets DICOM
        output /= "segmentation.dcm" if arguments.scan[0].is_dir() else default_output(arguments.scan[0])
    outputs = {"segmentation": output}
    for name in ("preview", "probabilities", "entropy"):
        if getattr(arguments, name):
            outputs[name] = getattr(arguments, name)
    endings = {"segmentation": _LABEL_MAP_ENDINGS, "preview": (".png",)}
    inputs = {path.resolve() for path in arguments.scan}
    for name, path in outputs.items():
        if path.resolve() in inputs:
            raise OutputError(f"{path} is the scan itself; it is never overwritten.", "Choose another name with -o.")
        _check_output(path, endings.get(name, _MAP_ENDINGS), overwrite=arguments.overwrite)
    if len({path.resolve() for path in outputs.values()}) < len(outputs):
        raise OutputError("Two outputs have the same name.", "Give each output its own file.")
    return outputs


def _check_output(path: Path, endings: Sequence[str], *, overwrite: bool) -> None:
    if not path.name.lower().endswith(tuple(endings)):
        raise OutputError(
            f"{path.name} is not written in this format.", f"Use a name that ends in {', '.join(endings)}."
        )
    if not path.absolute().parent.is_dir():
        raise OutputError(f"The folder {path.parent} does not exist.", "Create it first.")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists already.", "Choose another name, or add --overwrite.")


def _choose_model(store: ModelStore, name: str | None) -> Bundle:
    """The model asked for, or the only one there is: which anatomy is wanted cannot be guessed."""
    if name:
        return store.find(name, kind="segmentation")
    names = sorted({bundle.name for bundle in store.list() if bundle.kind == "segmentation"})
    if len(names) == 1:
        return store.find(names[0], kind="segmentation")
    raise ConfigurationError(
        "Which model? None was named." if names else "No model is installed.",
        f"Add -m and one of: {', '.join(names)}." if names else "Import one with `maesegment models import ZIP`.",
    )


@contextmanager
def _progress_bar(quiet: bool) -> Iterator[Progress]:
    """A callback that draws on the terminal (stderr, so that stdout stays clean)."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=make_console(stderr=True), transient=True, disable=quiet) as bar:
        task = bar.add_task(_STAGES["prepare"], total=1.0)
        stage = "prepare"

        def report(name: str, fraction: float) -> None:
            nonlocal stage
            if name != stage:
                stage = name
                bar.reset(task, description=_STAGES.get(name, name))
            bar.update(task, completed=fraction)

        yield report


def _write(
    outputs: dict[str, Path], volume: Volume, prediction: Prediction, labels: Sequence[Label], volume_name: str
) -> dict[str, Path]:
    from ..images.writing import write_label_map, write_volume

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
    return written


def _print_result(prediction: Prediction, bundle: Bundle, written: dict[str, Path]) -> None:
    from rich.table import Table

    from ..images.volumetry import volumes_ml

    volumes = volumes_ml(prediction.label_map, bundle.labels)
    table = Table(title=f"{bundle.name} {bundle.version}", title_justify="left")
    table.add_column("Segment")
    table.add_column("Volume (ml)", justify="right")
    for label in bundle.labels:
        table.add_row(label.name, f"{volumes[label.value]:.2f}" if volumes[label.value] else "not found")
    console = make_console()
    console.print(table)
    say(f"{prediction.seconds:.1f} seconds on {prediction.device}")
    for name, path in written.items():
        say(f"{name}: {path}")
    stderr = make_console(stderr=True)
    for warning in prediction.warnings:
        stderr.print(f"warning: {warning}", style="yellow", soft_wrap=True)
