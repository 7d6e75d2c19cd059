"""The result files of the benchmarks: one CSV each, in which a block that is measured again replaces its old rows."""

from __future__ import annotations

import csv
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from MAESegmentLib.training.loop.results import write_atomically

RESULTS = Path(__file__).parent / "results"
#: Above this many processes that want a core beside the benchmark's own threads, its figures are marked.
BUSY = 0.5


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows as text; an absent file has none."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def replace_rows(path: Path, rows: Sequence[Mapping[str, object]], block: Sequence[str]) -> None:
    """Write `rows` in place of those that agree with one of them in all columns of `block`; the others stay."""
    new = [{name: str(value) for name, value in row.items()} for row in rows]
    measured = {tuple(row[name] for name in block) for row in new}
    kept = [row for row in read_rows(path) if tuple(row.get(name, "") for name in block) not in measured]
    columns = list(dict.fromkeys(name for row in [*new, *kept] for name in row))
    lines = [",".join(columns)] + [",".join(_quoted(row.get(name, "")) for name in columns) for row in [*kept, *new]]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, ("\n".join(lines) + "\n").encode())


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\n') else text


def machine() -> str:
    """Processor (its widest vector instructions that torch uses) and torch version."""
    capability = torch.backends.cpu.get_cpu_capability()
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    amx = " + AMX" if capabilities.get("amx_bf16") else ""
    return f"{platform.machine()} {capability}{amx}, torch {torch.__version__}"


def is_busy(load: float, threads: int) -> bool:
    """Whether other work wanted the cores while these figures were taken, given the load average."""
    return load > threads + BUSY
