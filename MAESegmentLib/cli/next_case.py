"""`maesegment cases next`: which of many scans to correct first, and which slice of it."""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..text import csv_cell, visible
from .terminal import make_console

if TYPE_CHECKING:
    from rich.table import Table

    from ..bundle import Bundle
    from ..cases.store import CaseStore
    from ..images.roi import Roi
    from ..inference.predictor import Predictor
    from ..inference.ranking import Uncertainty

#: Exit code when some scan could not be looked at.
INCOMPLETE = 1
COLUMNS = (
    *("rank", "scan", "entropy", "axis", "slice"),
    *("r_mm", "a_mm", "s_mm", "not_found", "stored_as", "problem"),
)


@dataclass(frozen=True)
class RankedScan:
    """One scan: how uncertain the model is about it, or that it is in the store already, or why neither is known."""

    path: Path
    name: str
    uncertainty: Uncertainty | None = None
    stored_as: str = ""
    problem: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    # Lets "--roi -40,-5,..." pass; argparse would take "-40,-5,..." for an option.
    parser._negative_number_matcher = re.compile(r"^-\.?\d[\d.,eE+-]*$")
    parser.add_argument(
        "scans", nargs="+", type=Path, metavar="FOLDER|FILE", help="folders of scans, image files, DICOM folders"
    )
    parser.add_argument("-m", "--model", required=True, help="name (or the start of it), name@version or folder")
    parser.add_argument(
        "--store", type=Path, metavar="DIR", help="scans that are cases there are left out (default: the model's cases)"
    )
    parser.add_argument("--roi", metavar="R0,R1,A0,A1,S0,S1", help="look only at this box of every scan; RAS mm")
    parser.add_argument("-o", "--output", type=Path, metavar="CSV", help="also write the table as CSV")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")


def run(arguments: argparse.Namespace) -> int:

    from ..bundle import ModelStore
    from ..errors import ConfigurationError
    from ..images.roi import Roi
    from ..images.scans import find_scans
    from ..storage.atomic_file import check_writable
    from .case_stores import choose_store

    roi = Roi.parse(arguments.roi) if arguments.roi else None
    if arguments.output:
        check_writable(arguments.output)
    bundle = ModelStore().find(arguments.model, kind="segmentation")
    store = choose_store(arguments.store, arguments.model)[0]
    scans = find_scans(arguments.scans)
    if not scans:
        raise ConfigurationError(
            f"There is no scan in {', '.join(map(str, arguments.scans))}.",
            "Give folders with NIfTI, NRRD, MetaImage, MGZ or DICOM files.",
        )
    ranked = in_order(look_at(bundle, scans, store, roi, arguments.device))
    console = make_console()
    looked_at = [scan for scan in ranked if scan.uncertainty is not None]
    if looked_at:
        console.print(table_of(looked_at, bundle))
        console.print(f"Correct {looked_at[0].name} first.", soft_wrap=True)
    for scan in ranked:
        remark = f"it is {scan.stored_as} already." if scan.stored_as else scan.problem
        if remark:
            console.print(f"left out: {scan.name}: {remark}", soft_wrap=True)
    if arguments.output:
        write_csv(arguments.output, ranked)
        console.print(f"Written: {arguments.output}", soft_wrap=True)
    return INCOMPLETE if any(scan.problem for scan in ranked) else 0


def look_at(bundle: Bundle, scans: Sequence[Path], store: CaseStore, roi: Roi | None, device: str) -> list[RankedScan]:
    """How uncertain the model is about each scan that is not in the store; a bad one carries the reason."""
    from rich.markup import escape
    from rich.progress import Progress

    from ..inference.predictor import Predictor
    from ..inference.settings import InferenceSettings

    predictor = Predictor(bundle, InferenceSettings.of_model(bundle.spec.inference, device=device))
    result = []
    console = make_console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Looking", total=len(scans))
        for number, (path, name) in enumerate(zip(scans, short_names(scans), strict=True)):
            bar.update(task, description=escape(visible(name)))

            def report(stage: str, fraction: float, done: int = number) -> None:
                if stage == "segment":
                    bar.update(task, completed=done + fraction)

            result.append(_look(predictor, path, name, store, roi, report))
            bar.update(task, completed=number + 1)
    return result


def _look(
    predictor: Predictor,
    path: Path,
    name: str,
    store: CaseStore,
    roi: Roi | None,
    report: Callable[[str, float], None],
) -> RankedScan:
    from ..cases.snapshot import image_hash
    from ..errors import Cancelled, MAESegmentError
    from ..images.reading import read_volume
    from ..inference.uncertainty import uncertainty_of

    try:
        volume = read_volume(path)
        known = store.find(image_hash(volume)) if store.folder.is_dir() else None
        if known is not None:
            return RankedScan(path, name, stored_as=known.id)
        return RankedScan(path, name, uncertainty_of(predictor, volume, roi, report))
    except Cancelled:
        raise
    except MAESegmentError as error:
        return RankedScan(path, name, problem=error.message)


def in_order(scans: Sequence[RankedScan]) -> list[RankedScan]:
    """The most useful to correct first; last those that were not looked at."""
    from ..inference.ranking import rank

    good = [(scan, scan.uncertainty) for scan in scans if scan.uncertainty is not None]
    order = rank([uncertainty for _, uncertainty in good])
    return [good[index][0] for index in order] + [scan for scan in scans if scan.uncertainty is None]


def short_names(paths: Sequence[Path]) -> list[str]:
    """File names, with as many folders before them as it takes to tell them apart."""
    for depth in range(1, 5):
        names = ["/".join(path.absolute().parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def table_of(scans: Sequence[RankedScan], bundle: Bundle) -> Table:
    """Scans that were looked at, in order."""
    from rich import box
    from rich.table import Table

    title = f"Least certain first: {bundle.name} {bundle.version}"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    table.add_column("", justify="right")
    table.add_column("scan", overflow="fold")
    table.add_column("uncertainty", justify="right", no_wrap=True)
    table.add_column("slice to look at")
    table.add_column("not found", overflow="fold")
    for number, scan in enumerate(scans, start=1):
        found = scan.uncertainty
        assert found is not None
        r, a, s = found.position_ras
        where = f"{'IJK'[found.slice_axis]} {found.slice_index} (RAS {r:.0f}, {a:.0f}, {s:.0f} mm)"
        table.add_row(
            str(number),
            scan.name,
            f"{found.entropy:.3f}",
            where,
            ", ".join(found.not_found),
        )
    return table


def write_csv(path: Path, scans: Sequence[RankedScan]) -> None:
    """One row a scan, in order; `slice` is the index along `axis` (I, J or K), from 0."""
    from ..storage.atomic_file import replacing

    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for number, scan in enumerate(scans, start=1):
            found, path_cell = scan.uncertainty, csv_cell(str(scan.path))
            if found is None:
                writer.writerow(["", path_cell, *[""] * (len(COLUMNS) - 4), scan.stored_as, csv_cell(scan.problem)])
                continue
            where = ("IJK"[found.slice_axis], found.slice_index, *(f"{x:.2f}" for x in found.position_ras))
            writer.writerow(
                [number, path_cell, f"{found.entropy:.6g}", *where, csv_cell("; ".join(found.not_found)), "", ""]
            )
