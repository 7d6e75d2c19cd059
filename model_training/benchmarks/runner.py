"""What the benchmarks share: their command line, and result files in which a block measured again replaces its rows."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from ..tables import read_rows, write_rows
from .report import RESULTS, write_report
from .timing import load


def begin(doc: str | None, add: Callable[[argparse.ArgumentParser], object] = lambda _: None) -> argparse.Namespace:
    """Read the command line, with the options that `add` gives the parser; `--report` only makes the pages again."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    add(parser)
    parser.add_argument("--report", action="store_true", help="only make tables and plots again, from the CSV files")
    arguments = parser.parse_args()
    if arguments.report:
        write_report()
        raise SystemExit
    return arguments


def add_data(parser: argparse.ArgumentParser) -> None:
    """`--data`, the folder of the data sets."""
    default = Path(os.environ.get("MAESEGMENT_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=default, help="folder of the data sets (default: %(default)s)")


def add_device(parser: argparse.ArgumentParser, seconds: float) -> None:
    """`--device`, `--threads` and `--seconds`."""
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, help="default: one per core")
    parser.add_argument("--seconds", type=float, default=seconds, help="for each block (default: %(default)s)")


def record(name: str, rows: Sequence[Mapping[str, object]], block: Sequence[str], *, report: bool = True) -> None:
    """Write the rows to results/`name`.csv in place of their block, and make tables and plots again."""
    replace_rows(RESULTS / f"{name}.csv", rows, block)
    if report:
        write_report()


def replace_rows(path: Path, rows: Sequence[Mapping[str, object]], block: Sequence[str]) -> None:
    """Write `rows` in place of those that agree with one of them in all columns of `block`; the others stay."""
    new = [{name: str(value) for name, value in row.items()} for row in rows]
    measured = {tuple(row[name] for name in block) for row in new}
    kept = [row for row in read_rows(path) if tuple(row.get(name, "") for name in block) not in measured]
    columns = list(dict.fromkeys(name for row in [*new, *kept] for name in row))
    write_rows(path, columns, [{name: row.get(name, "") for name in columns} for row in [*kept, *new]])


def where(device: str = "cpu") -> dict[str, object]:
    """Columns that say on what machine, and beside how much other work, a row was measured."""
    return {"machine": machine(device), "load": f"{load():.1f}", "cores": os.cpu_count()}


def machine(device: str = "cpu") -> str:
    """GPU, or processor (its widest vector instructions that torch uses), and torch version."""
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    capability = torch.backends.cpu.get_cpu_capability()
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    amx = " + AMX" if capabilities.get("amx_bf16") else ""
    return f"{platform.machine()} {capability}{amx}, torch {torch.__version__}"
