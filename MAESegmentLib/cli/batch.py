"""`maesegment batch`: every scan of a folder or DICOM archive in, a segmentation of each and one table out."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, MismatchError, OutputError
from ..processes.processor import usable_cores
from . import options
from .terminal import ProgressBar, say

if TYPE_CHECKING:
    from ..bundle import Bundle
    from ..images.archive import ArchivedScan
    from ..images.roi import Roi
    from ..images.volume import Volume
    from ..inference.batch import Batch, BatchPlan
    from ..inference.batch_table import VolumeRow
    from ..inference.settings import InferenceSettings
    from ..torchrun import Launch

#: Exit code when some scan could not be segmented.
INCOMPLETE = 1
_ENDINGS = {"seg.nrrd": ".seg.nrrd", "nii.gz": ".nii.gz", "dicom": ".dcm", "rtstruct": ".rtstruct.dcm"}
#: So many failures are listed in the terminal; all are in the table.
_LISTED = 20
#: While an archive is searched, a line at most this often.
_SEARCH_LINE_S = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Run the same command again to resume where it was stopped. With several GPUs or processes: "
        "torchrun --nproc-per-node N -m MAESegmentLib.cli batch ..."
    )
    parser.add_argument(
        "sources", nargs="+", type=Path, metavar="SOURCE", help="folders (searched at any depth) and image files"
    )
    options.add_model(parser, required=True)
    options.add_out(parser, "DIR", "folder for volumes.csv and segmentations/", required=True)
    parser.add_argument(
        "--format",
        choices=tuple(_ENDINGS),
        default="seg.nrrd",
        help="seg.nrrd (default), nii.gz; or dicom (DICOM SEG) or rtstruct (contours) for DICOM series, seg.nrrd for "
        "other files",
    )
    parser.add_argument(
        "--modality", metavar="CT", help="of DICOM series, only those of this modality; other files are always included"
    )
    options.add_roi(parser, "segment only this box in every scan")
    parser.add_argument(
        "--statistics",
        action="store_true",
        help="also statistics.csv: volume, grey values and extent of each structure; results without are made again",
    )
    parser.add_argument("--retry-failed", action="store_true", help="retry the scans that failed in an earlier run")
    options.add_allow_mismatch(parser)
    options.add_inference(parser)
    options.add_quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    from ..bundle.library import ModelLibrary
    from ..bundle.suitability import locator_among
    from ..images.scans import check_exist
    from ..inference.batch import Batch, BatchPlan
    from ..inference.locating import locating
    from ..inference.predictor import Predictor
    from ..storage.atomic_file import check_writable
    from ..torchrun import Launch

    launch = Launch.from_environment()
    roi = options.chosen_roi(arguments)
    library = ModelLibrary()
    bundle = library.find(arguments.model, verify=True)
    if len(bundle.spec.channels) != 1:
        raise ConfigurationError(
            f"{bundle.name} needs {len(bundle.spec.channels)} channels for each case; a batch gives it one file.",
            "Segment each case alone: maesegment segment CHANNEL_1 CHANNEL_2 ...",
        )
    settings = _settings(arguments, bundle, launch)
    check_exist(arguments.sources)  # before anything is noted in the folder of the results
    check_writable(options.made_folder(arguments.out) / "volumes.csv")
    locator, lacking = locator_among(bundle, library.meant) if roi is None else (None, "")
    same = {"model": bundle.reference, "content_hash": bundle.content_hash, **settings.decisive()}
    same |= {"locator": locator.reference} if locator is not None else {}
    _check_same(arguments.out, {**same, "roi": list(roi.bounds) if roi else None, "format": arguments.format})
    scans = _find(arguments, launch)
    plan = BatchPlan(
        arguments.out,
        scans,
        _ENDINGS[arguments.format],
        roi,
        retry_before=_run_began(launch) if arguments.retry_failed else "",
        rank=launch.rank,
        statistics=arguments.statistics,
    )
    batch = Batch(plan, bundle.labels if locator is None else bundle.all_labels)
    if batch.left():
        # Loaded only now: a finished batch that is started again should return at once.
        predictor = locating(Predictor(bundle, settings), locator)
        display = _Display(len(scans), arguments.quiet or not launch.is_first)

        def check(volume: Volume) -> Sequence[str]:
            note = display.note if locator is None else lambda _text: None  # what is not found is in the scan's row
            return _check(bundle, volume, roi, note, lacking, allowed=arguments.allow_mismatch)

        with display.bar:
            batch.run(predictor, progress=display.progress, on_row=display.on_row, check=check)
    # torchrun ends the other processes as soon as one fails: only the first reports.
    return _report(batch, plan, arguments.quiet) if launch.is_first else 0


def _check(
    bundle: Bundle, volume: Volume, roi: Roi | None, note: Callable[[str], None], lacking: str, *, allowed: bool
) -> Sequence[str]:
    """Raise `MismatchError` for a scan that the model cannot fit, or return what to warn of if that is `allowed`;
    `note` what to know before it is segmented, with what is `lacking` to place a box."""
    from ..bundle.suitability import ScanFacts, check_scan, lacks_box

    facts = ScanFacts.of(volume)
    try:
        warnings = check_scan(bundle, facts, allowed=allowed)
    except MismatchError as error:
        advice = "If you know that it fits: --allow-mismatch --retry-failed."
        raise MismatchError(f"{error.message} {advice}") from None
    if text := lacks_box(bundle, facts.grid, roi):
        note(f"{text} {lacking}".strip())
    return warnings


def _settings(arguments: argparse.Namespace, bundle: Bundle, launch: Launch) -> InferenceSettings:
    device = arguments.device
    if launch.local_world_size > 1:
        import torch

        if device == "auto" and torch.cuda.is_available():
            device = f"cuda:{launch.local_rank % torch.cuda.device_count()}"
        if os.environ.get("OMP_NUM_THREADS", "1") == "1":  # torchrun's choice, however many cores there are
            torch.set_num_threads(max(1, usable_cores() // launch.local_world_size))
    return options.inference_settings(arguments, bundle, device=device)


def _check_same(folder: Path, wanted: Mapping[str, Any]) -> None:
    """Results of two models, or of two settings, in one table would mislead."""
    from ..images.roi import Roi
    from ..storage.atomic_file import replacing
    from ..storage.lock import FileLock

    file = folder / "batch.json"
    with FileLock(folder / ".batch.lock"):
        if not file.exists():
            with replacing(file) as temporary:
                temporary.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
            return
        try:
            before = dict(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, TypeError, ValueError) as error:
            raise OutputError(f"{file} cannot be read: {error}.", "Choose another folder with -o.") from error
    if isinstance(before.get("roi"), str):  # versions before wrote the text of the option
        before["roi"] = list(Roi.of(before["roi"]).bounds)
    different = [name for name in {**before, **wanted} if before.get(name) != wanted.get(name)]
    if different:
        what = "; ".join(
            f"{name} {_shown(before.get(name))}, now {_shown(wanted.get(name))}"
            for name in different
            if name != "content_hash"
        )
        raise ConfigurationError(
            f"{folder} holds results that were made otherwise: {what or 'another model of the same name and version'}.",
            "Choose another folder with -o, or give the same options as before.",
        )


def _shown(value: object) -> object:
    if value is None:
        return "not given"
    return "{name}@{version}".format(**value) if isinstance(value, dict) else value


def _find(arguments: argparse.Namespace, launch: Launch) -> list[ArchivedScan]:
    """The scans; one process searches, the others wait and read what it noted."""
    from ..images.archive import ArchiveIndex
    from ..storage.lock import FileLock

    is_quiet = arguments.quiet or not launch.is_first
    last = time.monotonic()

    def on_folder(number: int, folder: Path) -> None:
        """An archive may take hours the first time."""
        nonlocal last
        if not is_quiet and time.monotonic() - last > _SEARCH_LINE_S:
            last = time.monotonic()
            say(f"looking for scans: {number} folders, now {folder}", error=True)

    def find(places: Sequence[Path]) -> list[ArchivedScan]:
        scans = index.scans(places, leave_out=[arguments.out], on_folder=on_folder)
        wanted = (arguments.modality or "").upper()
        return [scan for scan in scans if not wanted or not scan.files or scan.modality.upper() == wanted]

    with FileLock(arguments.out / ".index.lock", timeout_s=float("inf")):
        index = ArchiveIndex(arguments.out / "index.jsonl")
        return list(options.scans_in(arguments.sources, find))


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


class _Display:
    """A bar over all scans on a terminal, and a line for each scan (on stderr)."""

    def __init__(self, total: int, quiet: bool) -> None:
        self._total, self._quiet = total, quiet
        self._done = 0
        self.bar = ProgressBar("Segmenting", total, shown=not quiet)

    def progress(self, stage: str, fraction: float) -> None:
        if stage == "segment":
            self.bar.update(self._done + fraction)

    def note(self, text: str) -> None:
        if not self._quiet:
            self.bar.print(f"warning: {text}")

    def on_row(self, row: VolumeRow, done: int) -> None:
        self._done = done
        self.bar.update(done)
        if not self._quiet:
            what = f"{row.seconds:.1f} s" if row.status == "done" else f"failed: {row.reason}"
            warned = f"; warning: {row.warnings}" if row.warnings else ""
            self.bar.print(f"{done}/{self._total} {row.volume}: {what}{warned}")


def _report(batch: Batch, plan: BatchPlan, quiet: bool) -> int:
    rows = batch.rows()
    failed = [rows[scan.key] for scan in plan.scans if rows[scan.key].status != "done"]
    statistics = batch.write_statistics() if plan.statistics else None
    if not quiet:
        say(f"{len(rows) - len(failed)} of {len(rows)} scans segmented. Table: {plan.folder / 'volumes.csv'}")
        if statistics is not None:
            say(f"Statistics: {statistics}")
    if failed:
        lines = [f"  {row.volume} ({row.source}): {row.reason}" for row in failed[:_LISTED]]
        if len(failed) > _LISTED:
            lines.append(f"  ... and {len(failed) - _LISTED} more, in the table")
        lines.append("  They are tried again when their files change, or with --retry-failed.")
        say("\n".join([f"{len(failed)} could not be segmented:", *lines]), error=True)
    return INCOMPLETE if failed else 0
