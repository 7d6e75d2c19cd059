"""The tables of ../scaling.md, from the CSV files alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from MAESegmentLib.training.loop.results import write_atomically

from ..tables import replace_blocks, table
from .measurements import RESULTS, is_busy, read_rows

PAGE = Path(__file__).parents[1] / "scaling.md"
Row = dict[str, str]
_BUSY = " (busy)"


def write_report() -> None:
    """Bring scaling.md up to date."""
    blocks = {
        "archive": archive_table(read_rows(RESULTS / "archive.csv")),
        "measured": measured_table(read_rows(RESULTS / "scaling_measured.csv")),
        "predicted": predicted_table(read_rows(RESULTS / "scaling.csv")),
    }
    write_atomically(PAGE, replace_blocks(PAGE.read_text(encoding="utf-8"), blocks).encode())


def archive_table(rows: Sequence[Row]) -> str:
    """Cost of a volume in archives of several sizes."""
    if not rows:
        return "Not measured yet."
    head = [
        "what",
        "volumes",
        "ms a volume (quartiles)",
        "processor ms",
        "rounds",
        "process memory",
        "index file",
        "skipped",
    ]
    lines = [
        [
            row["what"],
            f"{int(row['volumes']):,}",
            f"{row['ms_per_volume']} ({row['q1_ms']} - {row['q3_ms']}){_busy(row)}",
            row["processor_ms"],
            row["rounds"],
            f"{row['memory_mb']} MB" if row["what"] == "stream" else "",
            f"{row['index_mb']} MB" if row["what"] == "search" else "",
            row["skipped"] if row["what"] == "stream" else "",
        ]
        for row in sorted(rows, key=lambda row: (row["what"] == "stream", row["what"], int(row["volumes"])))
    ]
    return f"{table(head, lines)}\n\nMachine: {_machines(rows)}, one thread."


def measured_table(rows: Sequence[Row]) -> str:
    """What the predictions rest on."""
    if not rows:
        return "Not measured yet."
    lines = [[row["name"], f"{float(row['value']):.4g}", f"{row['how']}{_busy(row)}"] for row in rows]
    return f"{table(['what', 'value', 'how'], lines)}\n\nMachine: {_machines(rows)}."


def predicted_table(rows: Sequence[Row]) -> str:
    """What so many GPUs would give."""
    if not rows:
        return "Not computed yet."
    names = {
        "volumes": "volumes",
        "patches_per_volume": "patches a reading",
        "gpus": "GPUs",
        "steps_per_pass": "steps a pass",
        "minutes_per_pass": "minutes a pass",
        "volumes_per_second": "volumes a second",
        "efficiency": "efficiency",
        "gpu_busy": "GPU busy",
        "compute_ms": "computing, ms",
        "exchange_ms": "waiting for gradients, ms",
        "data_ms": "reading, ms",
        "agree_ms": "agreeing, ms",
        "cores_needed": "cores a GPU needs to read",
        "limit": "held up by",
    }
    return table(list(names.values()), [[row[name] for name in names] for row in rows])


def _busy(row: Row) -> str:
    return _BUSY if is_busy(float(row["load"]), 1) else ""


def _machines(rows: Sequence[Row]) -> str:
    return "; ".join(dict.fromkeys(row["machine"] for row in rows))
