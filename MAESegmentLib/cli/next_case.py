"""`maesegment cases next`: which of many scans to correct first, and which slice of it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..text import csv_cell, visible
from . import options
from .terminal import ProgressBar, check_csv, make_console, make_table, write_csv

if TYPE_CHECKING:
    from rich.table import Table

    from ..bundle import Bundle
    from ..cases.store import CaseStore
    from ..images.roi import Roi
    from ..inference.predictor import Predictor
    from ..inference.ranking import Uncertainty

#: Exit code when some scan could not be assessed.
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
    parser.add_argument(
        "scans", nargs="+", type=Path, metavar="FOLDER|FILE", help="folders of scans, image files, DICOM folders"
    )
    options.add_model(parser, required=True)
    options.add_store(parser, "scans that are cases there are left out (default: the model's cases)")
    options.add_roi(parser, "consider only this box of every scan")
    options.add_out(parser, "CSV", "also write the table as CSV")
    options.add_device(parser)


def run(arguments: argparse.Namespace) -> int:
    from ..bundle import ModelStore
    from ..images.scans import find_scans
    from ..inference.predictor import Predictor
    from .case_stores import choose_store

    roi = options.chosen_roi(arguments)
    if arguments.out:
        check_csv(arguments.out)
    bundle = ModelStore().find(arguments.model, kind="segmentation")
    store = choose_store(arguments.store, arguments.model)[0]
    scans = options.scans_in(arguments.scans, find_scans)
    ranked = in_order(assess(Predictor(bundle, options.inference_settings(arguments, bundle)), scans, store, roi))
    console = make_console()
    assessed = [scan for scan in ranked if scan.uncertainty is not None]
    if assessed:
        console.print(table_of(assessed, bundle))
        console.print(f"Correct {assessed[0].name} first.", soft_wrap=True)
    for scan in ranked:
        remark = f"it is {scan.stored_as} already." if scan.stored_as else scan.problem
        if remark:
            console.print(f"left out: {scan.name}: {remark}", soft_wrap=True)
    if arguments.out:
        write_csv(arguments.out, COLUMNS, csv_rows(ranked))
        console.print(f"Written: {arguments.out}", soft_wrap=True)
    return INCOMPLETE if any(scan.problem for scan in ranked) else 0


def assess(predictor: Predictor, scans: Sequence[Path], store: CaseStore, roi: Roi | None) -> list[RankedScan]:
    """How uncertain the model is about each scan that is not in the store; a bad one carries the reason."""
    result = []
    with ProgressBar("", len(scans)) as bar:
        for number, (path, name) in enumerate(zip(scans, short_names(scans), strict=True)):
            bar.update(number, visible(name))

            def report(stage: str, fraction: float, done: int = number) -> None:
                if stage == "segment":
                    bar.update(done + fraction)

            result.append(_assess(predictor, path, name, store, roi, report))
    return result


def _assess(
    predictor: Predictor,
    path: Path,
    name: str,
    store: CaseStore,
    roi: Roi | None,
    report: Callable[[str, float], None],
) -> RankedScan:
    from ..errors import Cancelled, MAESegmentError
    from ..images.reading import read_volume
    from ..inference.uncertainty import uncertainty_of

    try:
        volume = read_volume(path)
        known = store.find(volume) if store.folder.is_dir() else None
        if known is not None:
            return RankedScan(path, name, stored_as=known.id)
        return RankedScan(path, name, uncertainty_of(predictor, volume, roi, report))
    except Cancelled:
        raise
    except MAESegmentError as error:
        return RankedScan(path, name, problem=error.message)


def in_order(scans: Sequence[RankedScan]) -> list[RankedScan]:
    """The most useful to correct first; last those that were not assessed."""
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
    """Scans that were assessed, in order."""
    headings = ("", "scan", "uncertainty", "slice to look at", "not found")
    title = f"Least certain first: {bundle.name} {bundle.version}"
    table = make_table(*headings, right=("", "uncertainty"), title=title)
    for number, scan in enumerate(scans, start=1):
        found = scan.uncertainty
        assert found is not None
        r, a, s = found.position_ras
        where = f"{'IJK'[found.slice_axis]} {found.slice_index} (RAS {r:.0f}, {a:.0f}, {s:.0f} mm)"
        table.add_row(str(number), scan.name, f"{found.entropy:.3f}", where, ", ".join(found.not_found))
    return table


def csv_rows(scans: Sequence[RankedScan]) -> Iterator[Sequence[object]]:
    """One row a scan, in order; `slice` is the index along `axis` (I, J or K), from 0."""
    for number, scan in enumerate(scans, start=1):
        found = scan.uncertainty
        path = csv_cell(str(scan.path))
        if found is None:
            yield ["", path, *[""] * (len(COLUMNS) - 4), scan.stored_as, csv_cell(scan.problem)]
            continue
        where = ("IJK"[found.slice_axis], found.slice_index, *(f"{x:.2f}" for x in found.position_ras))
        yield [number, path, f"{found.entropy:.6g}", *where, csv_cell("; ".join(found.not_found)), "", ""]
