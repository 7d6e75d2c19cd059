"""`maesegment batch`: every scan of a folder or DICOM archive in, a segmentation of each and one table out."""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, OutputError
from ..processes.processor import usable_cores
from .terminal import make_console, say

if TYPE_CHECKING:
    from ..bundle import Bundle
    from ..images.archive import ArchivedScan
    from ..inference.batch import Batch, BatchPlan
    from ..inference.batch_table import VolumeRow
    from ..inference.settings import InferenceSettings, Progress
    from ..torchrun import Launch

#: Exit code when some scan could not be segmented.
INCOMPLETE = 1
_ENDINGS = {"seg.nrrd": ".seg.nrrd", "nii.gz": ".nii.gz", "dicom": ".dcm"}
#: So many failures are told in the terminal; all are in the table.
_TOLD = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    # Lets "--roi -40,-5,..." pass; argparse would take "-40,-5,..." for an option.
    parser._negative_number_matcher = re.compile(r"^-\.?\d[\d.,eE+-]*$")
    parser.epilog = (
        "Run the same command again to go on where it was stopped. With several GPUs or processes: "
        "torchrun --nproc-per-node N -m MAESegmentLib.cli batch ..."
    )
    parser.add_argument(
        "sources", nargs="+", type=Path, metavar="SOURCE", help="folders (searched at any depth) and image files"
    )
    parser.add_argument("-m", "--model", required=True, help="name (or the start of it), name@version or folder")
    parser.add_argument(
        "-o", "--output", required=True, type=Path, metavar="DIR", help="gets volumes.csv and segmentations/"
    )
    parser.add_argument(
        "--format", choices=tuple(_ENDINGS), default="seg.nrrd", help="dicom: DICOM SEG for DICOM series, else seg.nrrd"
    )
    parser.add_argument("--modality", metavar="CT", help="only DICOM series of this modality (files are all taken)")
    parser.add_argument("--roi", metavar="R0,R1,A0,A1,S0,S1", help="segment only this box of every scan; RAS mm")
    parser.add_argument("--retry-failed", action="store_true", help="try again what failed in an earlier run")
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:N or cpu (default: auto)")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto", help="(default: auto)")
    parser.add_argument("--overlap", type=float, help="share of a window covered by the next (default: the model's)")
    parser.add_argument("--mirror", action="store_true", default=None, help="average over mirror images: slower")
    parser.add_argument("--no-cpu", action="store_true", help="fail a scan that does not fit in the GPU's memory")
    parser.add_argument("-q", "--quiet", action="store_true", help="print only errors")


def run(arguments: argparse.Namespace) -> int:
    from ..bundle import ModelStore
    from ..images.roi import Roi
    from ..inference.batch import Batch, BatchPlan
    from ..inference.predictor import Predictor
    from ..torchrun import Launch

    launch = Launch.from_environment()
    roi = Roi.parse(arguments.roi) if arguments.roi else None
    bundle = ModelStore().find(arguments.model, kind="segmentation")
    if len(bundle.spec.channels) != 1:
        raise ConfigurationError(
            f"{bundle.name} needs {len(bundle.spec.channels)} channels for each case; a batch gives it one file.",
            "Segment each case by itself: maesegment segment CHANNEL_1 CHANNEL_2 ...",
        )
    settings = _settings(arguments, bundle, launch)
    _make_folder(arguments.output)
    _check_same(arguments.output, _description(arguments, bundle, settings))
    scans = _find(arguments, launch)
    plan = BatchPlan(
        arguments.output,
        scans,
        _ENDINGS[arguments.format],
        roi,
        retry_before=_run_began(launch) if arguments.retry_failed else "",
        rank=launch.rank,
    )
    batch = Batch(plan, bundle.labels)
    if batch.left():
        # Loaded only now: a finished batch that is started again should answer at once.
        predictor = Predictor(bundle, settings)
        with _display(len(scans), arguments.quiet or not launch.is_first) as (progress, on_row):
            batch.run(predictor, progress=progress, on_row=on_row)
    # torchrun ends the other processes as soon as one fails: only the first tells.
    return _report(batch, plan, arguments.quiet) if launch.is_first else 0


def _settings(arguments: argparse.Namespace, bundle: Bundle, launch: Launch) -> InferenceSettings:
    import torch

    from ..inference.settings import InferenceSettings

    device = arguments.device
    if launch.local_world_size > 1:
        if device == "auto" and torch.cuda.is_available():
            device = f"cuda:{launch.local_rank % torch.cuda.device_count()}"
        if os.environ.get("OMP_NUM_THREADS", "1") == "1":  # torchrun's choice, however many cores there are
            torch.set_num_threads(max(1, usable_cores() // launch.local_world_size))
    return InferenceSettings.of_model(
        bundle.spec.inference,
        device=device,
        precision=arguments.precision,
        overlap=arguments.overlap,
        mirroring=arguments.mirror,
        allow_cpu=not arguments.no_cpu,
    )


def _make_folder(folder: Path) -> None:
    from ..storage.atomic_file import check_writable

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {folder} cannot be made: {error.strerror}.", "Choose another one.") from error
    check_writable(folder / "volumes.csv")


def _description(arguments: argparse.Namespace, bundle: Bundle, settings: InferenceSettings) -> dict[str, Any]:
    """What decides about the results. Device and precision do not: they change them by less than rounding matters."""
    return {
        "model": bundle.reference,
        "content_hash": bundle.content_hash,
        "overlap": settings.overlap,
        "mirroring": settings.mirroring if isinstance(settings.mirroring, bool) else list(settings.mirroring),
        "roi": arguments.roi,
        "format": arguments.format,
    }


def _check_same(folder: Path, wanted: Mapping[str, Any]) -> None:
    """Results of two models, or of two settings, in one table would mislead."""
    from ..storage.atomic_file import replacing
    from ..storage.lock import FileLock

    file = folder / "batch.json"
    with FileLock(folder / ".batch.lock"):
        if not file.exists():
            with replacing(file) as temporary:
                temporary.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
            return
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise OutputError(f"{file} cannot be read: {error}.", "Choose another folder with -o.") from error
    different = [name for name in wanted if before.get(name) != wanted[name]]
    if different:
        what = "; ".join(
            f"{name} {before.get(name)}, now {wanted[name]}" for name in different if name != "content_hash"
        )
        raise ConfigurationError(
            f"{folder} holds results that were made otherwise: {what or 'another model of the same name and version'}.",
            "Choose another folder with -o, or give the options of then.",
        )


def _find(arguments: argparse.Namespace, launch: Launch) -> list[ArchivedScan]:
    """The scans; one process looks, the others wait and read what it noted."""
    from ..images.archive import ArchiveIndex
    from ..storage.lock import FileLock

    missing = [str(source) for source in arguments.sources if not source.exists()]
    if missing:
        raise ConfigurationError(f"There is no {', '.join(missing)}.", "Give folders or image files that exist.")
    looking = _Looking(arguments.quiet or not launch.is_first)
    with FileLock(arguments.output / ".index.lock", timeout_s=float("inf")):
        index = ArchiveIndex(arguments.output / "index.jsonl")
        scans = index.scans(arguments.sources, leave_out=[arguments.output], on_folder=looking)
    if arguments.modality:
        wanted = arguments.modality.upper()
        scans = [scan for scan in scans if not scan.files or scan.modality.upper() == wanted]
    if not scans:
        raise ConfigurationError(
            f"There is no scan in {', '.join(map(str, arguments.sources))}.",
            "Give folders with NIfTI, NRRD, MetaImage, MGZ or DICOM files.",
        )
    return scans


class _Looking:
    """Says now and then how far the search is: an archive may take hours the first time."""

    _EVERY_S = 10.0

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._last = time.monotonic()

    def __call__(self, number: int, folder: Path) -> None:
        if not self._quiet and time.monotonic() - self._last > self._EVERY_S:
            self._last = time.monotonic()
            say(f"looking for scans: {number} folders, now {folder}", error=True)


def _run_began(launch: Launch) -> str:
    """When the command was given, the same for all processes of one launcher: the first may be done with a scan before
    the last has started."""
    from ..inference.batch_table import utc_now, utc_text

    if launch.world_size == 1:
        return utc_now()
    import psutil

    try:
        return utc_text(psutil.Process(os.getppid()).create_time())
    except (psutil.Error, OSError):  # the launcher is another user's, whose processes are hidden here
        return utc_now()


@contextmanager
def _display(total: int, quiet: bool) -> Iterator[tuple[Progress, Callable[[VolumeRow, int], None]]]:
    """A bar over all scans on a terminal, and a line for each scan (on stderr)."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = make_console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("Segmenting", total=total)
        done = 0

        def report(stage: str, fraction: float) -> None:
            if stage == "segment":
                bar.update(task, completed=done + fraction)

        def on_row(row: VolumeRow, finished: int) -> None:
            nonlocal done
            done = finished
            bar.update(task, completed=done)
            if not quiet:
                what = f"{row.seconds:.1f} s" if row.status == "done" else f"failed: {row.reason}"
                console.print(f"{done}/{total} {row.volume}: {what}", soft_wrap=True)

        yield report, on_row


def _report(batch: Batch, plan: BatchPlan, quiet: bool) -> int:
    rows = batch.rows()
    failed = [rows[scan.key] for scan in plan.scans if rows[scan.key].status != "done"]
    if not quiet:
        say(f"{len(rows) - len(failed)} of {len(rows)} scans segmented. Table: {plan.folder / 'volumes.csv'}")
    if failed:
        _tell(failed)
    return INCOMPLETE if failed else 0


def _tell(failed: Sequence[VolumeRow]) -> None:
    say(f"{len(failed)} could not be segmented:", error=True)
    for row in failed[:_TOLD]:
        say(f"  {row.volume} ({row.source}): {row.reason}", error=True)
    if len(failed) > _TOLD:
        say(f"  ... and {len(failed) - _TOLD} more, in the table", error=True)
    say("  They are tried again when their files change, or with --retry-failed.", error=True)
