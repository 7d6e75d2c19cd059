"""Tables and plot of README_volumes.md, from the CSV files of the benchmarks it names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from MAESegmentLib.training.results import png, write_atomically

from ..studies.marked_tables import replace_blocks, table
from .measurements import RESULTS, read_rows

README = Path(__file__).parent / "README_volumes.md"
Row = dict[str, str]
_STAGES = ("load", "prepare", "network", "blend and restore", "check", "write")
#: Okabe and Ito's.
_COLOURS = ("#56B4E9", "#009E73", "#0072B2", "#E69F00", "#CC79A7", "#D55E00")
_EMPTY = "Not measured yet."


def write_report() -> None:
    """Bring README and plot up to date; what has not been measured keeps its place empty."""
    rows = read_rows(RESULTS / "volumes.csv")
    if rows:
        write_atomically(RESULTS / "volumes.png", stages_plot(rows))
    write_atomically(README, updated(README.read_text(encoding="utf-8")).encode())


def updated(text: str) -> str:
    """`text` of the README with its tables as the CSV files have them."""
    names = ("volumes", "worker", "browser", "memory", "overlap", "batch")
    rows = {name: read_rows(RESULTS / f"{name}.csv") for name in names}
    blocks = {
        "volumes": volumes_table(rows["volumes"]),
        "stages": stages_table(rows["volumes"]),
        "worker": worker_table(rows["worker"]),
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


def stages_plot(rows: Sequence[Row]) -> bytes:
    """Stacked stages of every contender, a panel per scan."""
    from matplotlib.figure import Figure

    scans = list(dict.fromkeys(row["scan"] for row in rows))
    figure = Figure(figsize=(9.5, 0.8 + 1.5 * len(scans)), layout="constrained")
    for panel, scan in zip(figure.subplots(len(scans), 1, squeeze=False)[:, 0], scans, strict=True):
        own = [row for row in rows if row["scan"] == scan]
        left = [0.0] * len(own)
        for stage, colour in zip(_STAGES, _COLOURS, strict=True):
            widths = [float(_stage(row, stage) or 0) for row in own]
            panel.barh(range(len(own)), widths, left=left, color=colour, label=stage)
            left = [a + b for a, b in zip(left, widths, strict=True)]
        panel.set_yticks(range(len(own)), [row["contender"] for row in own], fontsize=8)
        panel.invert_yaxis()
        panel.set_title(f"{scan}: {own[0]['voxels']} voxels, network grid {own[0]['network_grid']}", fontsize=9)
    figure.supxlabel("processor seconds, one thread", fontsize=9)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=6, fontsize=8)
    return png(figure)


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
