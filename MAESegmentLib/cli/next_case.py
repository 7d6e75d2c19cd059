"""`maesegment cases next`: which of many scans to correct first, and which slice of it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..text import csv_cell, visible
from . import options
from .terminal import ProgressBar, check_csv, figure, make_console, make_table, write_csv

if TYPE_CHECKING:
    from rich.table import Table

    from ..cases.store import CaseStore
    from ..images.roi import Roi
    from ..inference.predictor import Predictor
    from ..inference.ranking import RankedScan

#: Exit code when some scan could not be assessed.
INCOMPLETE = 1
COLUMNS = (
    *("rank", "scan", "entropy", "axis", "slice"),
    *("r_mm", "a_mm", "s_mm", "not_found", "stored_as", "problem"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "scans", nargs="+", type=Path, metavar="FOLDER|FILE", help="folders of scans, image files, DICOM folders"
    )
    options.add_model(parser, required=True)
    options.add_store(parser, "leave out scans that are already cases in this folder (default: the model's cases)")
    options.add_roi(parser, "consider only this box in every scan")
    options.add_out(parser, "CSV", "also write the table as CSV")
    options.add_device(parser)


def run(arguments: argparse.Namespace) -> int:
    from ..bundle import ModelStore
    from ..images.scans import find_scans
    from ..inference.predictor import Predictor
    from ..inference.ranking import in_order
    from .case_stores import choose_store

    roi = options.chosen_roi(arguments)
    if arguments.out:
        check_csv(arguments.out)
    bundle = ModelStore().find(arguments.model, kind="segmentation")
    store = choose_store(arguments.store, arguments.model)[0]
    scans = options.scans_in(arguments.scans, find_scans)
    names = dict(zip(scans, short_names(scans), strict=True))
    ranked = in_order(assess(Predictor(bundle, options.inference_settings(arguments, bundle)), names, store, roi))
    console = make_console()
    if ranked[0].uncertainty:
        console.print(table_of(ranked, names, title=f"Least certain first: {bundle.name} {bundle.version}"))
        console.print(f"Correct {names[ranked[0].path]} first.", soft_wrap=True)
    for scan in ranked:
        if scan.stored_as or scan.error:
            why = scan.error.message if scan.error else f"it is {scan.stored_as} already."
            console.print(f"left out: {names[scan.path]}: {why}", soft_wrap=True)
    if arguments.out:
        write_csv(arguments.out, COLUMNS, csv_rows(ranked))
        console.print(f"Written: {arguments.out}", soft_wrap=True)
    return INCOMPLETE if any(scan.error for scan in ranked) else 0


def assess(predictor: Predictor, names: Mapping[Path, str], store: CaseStore, roi: Roi | None) -> list[RankedScan]:
    """How uncertain the model is about each scan that is not in the store; a bad one carries the reason."""
    from ..errors import Cancelled, MAESegmentError
    from ..images.reading import read_volume
    from ..inference.ranking import RankedScan
    from ..inference.uncertainty import uncertainty_of

    result = []
    with ProgressBar("", len(names)) as bar:
        for number, (path, name) in enumerate(names.items()):
            bar.update(number, visible(name))

            def report(stage: str, fraction: float, done: int = number) -> None:
                if stage == "segment":
                    bar.update(done + fraction)

            try:
                volume = read_volume(path)
                known = store.find(volume) if store.folder.is_dir() else None
                uncertainty = None if known else uncertainty_of(predictor, volume, roi, report)
            except Cancelled:
                raise
            except MAESegmentError as error:
                result.append(RankedScan(path, error=error))
            else:
                result.append(RankedScan(path, uncertainty, stored_as=known.id if known else ""))
    return result


def short_names(paths: Sequence[Path]) -> list[str]:
    """File names, with as many folders before them as it takes to tell them apart."""
    for depth in range(1, 5):
        names = ["/".join(path.absolute().parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def table_of(scans: Sequence[RankedScan], names: Mapping[Path, str], title: str) -> Table:
    """Those that were measured, in order."""
    headings = ("", "scan", "uncertainty", "slice to look at", "not found")
    table = make_table(*headings, right=("", "uncertainty"), title=title)
    for number, scan in enumerate(scans, start=1):
        if found := scan.uncertainty:
            r, a, s = found.position_ras
            where = f"{'IJK'[found.slice_axis]} {found.slice_index} (RAS {r:.0f}, {a:.0f}, {s:.0f} mm)"
            table.add_row(str(number), names[scan.path], figure(found.entropy), where, ", ".join(found.not_found))
    return table


def csv_rows(scans: Sequence[RankedScan]) -> Iterator[Sequence[object]]:
    """One row a scan, in order; `slice` is the index along `axis` (I, J or K), from 0."""
    for number, scan in enumerate(scans, start=1):
        found = scan.uncertainty
        path = csv_cell(str(scan.path))
        if found is None:
            problem = scan.error.message if scan.error else ""
            yield ["", path, *[""] * (len(COLUMNS) - 4), scan.stored_as, csv_cell(problem)]
            continue
        where = ("IJK"[found.slice_axis], found.slice_index, *(f"{x:.2f}" for x in found.position_ras))
        yield [number, path, f"{found.entropy:.6g}", *where, csv_cell("; ".join(found.not_found)), "", ""]
