"""Tables and plots of README_volumes.md, from the CSV files of the benchmarks it names."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from MAESegmentLib.training.loop.results import write_atomically

from ..tables import replace_blocks, table
from .measurements import RESULTS, read_rows
from .plots import memory_plot, overlap_plot, stages_plot

README = Path(__file__).parent / "README_volumes.md"
Row = dict[str, str]
_STAGES = ("load", "prepare", "network", "blend and restore", "check", "write")
_EMPTY = "Not measured yet."


def write_report() -> None:
    """Bring README and plot up to date; what has not been measured keeps its place empty."""
    plots = {"volumes": partial(stages_plot, stages=_STAGES), "memory": memory_plot, "overlap": overlap_plot}
    for name, plot in plots.items():
        if rows := read_rows(RESULTS / f"{name}.csv"):
            write_atomically(RESULTS / f"{name}.png", plot(rows))
    write_atomically(README, updated(README.read_text(encoding="utf-8")).encode())


def updated(text: str) -> str:
    """`text` of the README with its tables as the CSV files have them."""
    names = ("volumes", "worker", "waiting", "browser", "memory", "overlap", "batch")
    rows = {name: read_rows(RESULTS / f"{name}.csv") for name in names}
    blocks = {
        "volumes": volumes_table(rows["volumes"]),
        "stages": stages_table(rows["volumes"]),
        "worker": worker_table(rows["worker"]),
        "waiting": waiting_table(rows["waiting"]),
        "browser": browser_table(rows["browser"]),
        "memory": memory_table(rows["memory"]),
        "overlap": overlap_table(rows["overlap"]),
        "batch": batch_table(rows["batch"]),
    }
    return replace_blocks(text, blocks)


def volumes_table(rows: Sequence[Row]) -> str:
    if not rows:
        return _EMPTY
    head = ["scan", "contender", "processor seconds", "times the seconds of ours"]
    head += ["least Dice with ours", "voxels that differ"]
    lines = []
    for row in rows:
        ratio = f"**{float(row['ours_faster']):.2f}** ({row['ours_faster_q1'][:4]} - {row['ours_faster_q3'][:4]})"
        seconds = f"{float(row['processor_s']):.2f} ({row['processor_q1'][:5]} - {row['processor_q3'][:5]})"
        scan = f"{row['scan']}, {row['voxels']} on {row['network_grid']}"
        same = row["contender"] == "ours"
        agreement = ["", ""] if same else [row["least_dice_with_ours"], row["voxels_that_differ"]]
        lines.append([scan, row["contender"], seconds, "" if same else ratio, *agreement])
    return table(head, lines) + "\n\n" + _machines(rows)


def stages_table(rows: Sequence[Row]) -> str:
    """Median processor seconds of each stage."""
    if not rows:
        return _EMPTY
    lines = [[row["scan"], row["contender"], *(_stage(row, name) for name in _STAGES)] for row in rows]
    return table(["scan", "contender", *_STAGES], lines)


def worker_table(rows: Sequence[Row]) -> str:
    if not rows:
        return _EMPTY
    lines = [
        [
            row["what"],
            f"{float(row['median_s']):.3f} ({row['q1_s']} - {row['q3_s']})",
            row["least_s"],
            row["limit_s"] or "-",
            row["repeats"],
        ]
        for row in rows
    ]
    head = ["what", "wall seconds: median (quartiles)", "least", "wanted", "repeats"]
    return table(head, lines) + "\n\n" + _machines(rows)


def waiting_table(rows: Sequence[Row]) -> str:
    """Times and their ratios to those of OpenMP's default in the same rounds."""
    if not rows:
        return _EMPTY
    lines = [
        [
            row["model"],
            row["beside"],
            row["how"],
            f"{row['wall_s']} ({row['least_wall_s']})",
            f"**{row['wall_ratio']}** ({row['wall_ratio_q1']} - {row['wall_ratio_q3']})",
            f"{row['processor_s']} ({row['least_processor_s']})",
            f"**{row['processor_ratio']}**",
            f"{row['rounds']}, {row['load']}",
        ]
        for row in rows
    ]
    head = [
        "model",
        "busy processes added",
        "how threads wait",
        "wall s: median (least)",
        "of the default's (quartiles)",
    ]
    head += ["processor s: median (least)", "of the default's", "rounds, load"]
    return table(head, lines) + "\n\n" + _machines(rows)


def browser_table(rows: Sequence[Row]) -> str:
    if not rows:
        return _EMPTY
    columns = ("step", "stall_median_s", "stall_longest_s", "step_median_s", "repeats")
    head = ["step", "longest stall in it, s: median", "worst", "until it is done, s: median", "repeats"]
    return table(head, [[row[name] for name in columns] for row in rows]) + "\n\n" + _machines(rows)


def memory_table(rows: Sequence[Row]) -> str:
    """A line per scan and way of keeping sums, a column per number of classes."""
    if not rows:
        return _EMPTY
    classes = sorted({int(row["classes"]) for row in rows})
    lines = []
    for voxels, sums in dict.fromkeys((row["voxels"], row["sums"]) for row in rows):
        own = {int(row["classes"]): row for row in rows if (row["voxels"], row["sums"]) == (voxels, sums)}
        grid = next(iter(own.values()))["network_grid"]
        cells = [f"{float(own[k]['peak_gib']):.2f} ({own[k]['processor_s']} s)" if k in own else "" for k in classes]
        lines.append([f"{voxels} on {grid}", sums, *cells])
    return table(["scan", "sums of scores", *(f"{k} classes" for k in classes)], lines)


def overlap_table(rows: Sequence[Row]) -> str:
    if not rows:
        return _EMPTY
    head = [
        "model",
        "cases",
        "overlap",
        "mirroring",
        "mean Dice",
        "less that at 0.5 (quartiles of cases)",
        "windows",
    ]
    lines = []
    for row in rows:
        difference = f"{float(row['difference']):+.4f} ({row['difference_q1']} to {row['difference_q3']})"
        own = [row["model"], row["cases"], row["overlap"], row["mirroring"], row["dice"], difference, row["windows"]]
        lines.append(own)
    return table(head, lines)


def batch_table(rows: Sequence[Row]) -> str:
    if not rows:
        return _EMPTY
    lines = [[row["what"], row["ms_per_scan"]] for row in rows]
    return table(["what", "processor milliseconds a scan"], lines) + "\n\n" + _machines(rows)


def _stage(row: Row, name: str) -> str:
    return row.get(f"{name} (s)", "")


def _machines(rows: Sequence[Row]) -> str:
    found = dict.fromkeys(f"{row['machine']}, {row['cores']} cores, load {row['load']}" for row in rows)
    return "\n".join(f"* Machine: {one}." for one in found)
