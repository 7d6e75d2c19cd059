"""Tables and plots of README.md, from the CSV files alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from MAESegmentLib.training.results import png, write_atomically

from ..studies.marked_tables import replace_blocks, table
from .measurements import RESULTS, is_busy, read_rows

README = Path(__file__).parent / "README.md"
Row = dict[str, str]
#: Okabe and Ito's.
COLOURS = {"forward": "#0072B2", "train": "#D55E00"}
MODES = {"forward": "forward", "train": "forward + backward"}
BUSY_MARK = " (busy)"
OURS = "ours"


def write_report() -> None:
    """Bring README.md and the plots up to date; a benchmark that has not been run keeps its place empty."""
    rows = read_rows(RESULTS / "network.csv")
    if rows:
        write_atomically(RESULTS / "network.png", network_plot(rows))
    blocks = {
        "network": network_table(rows),
        "pretraining": pretraining_table(read_rows(RESULTS / "pretraining.csv")),
        "finetuning": finetuning_table(
            read_rows(RESULTS / "finetuning.csv"), read_rows(RESULTS / "finetuning_curve.csv")
        ),
    }
    text = replace_blocks(README.read_text(encoding="utf-8"), blocks)
    write_atomically(README, text.encode())


def network_table(rows: Sequence[Row]) -> str:
    """Seconds, and how many times faster ours is, of every block."""
    if not rows:
        return "Not measured yet."
    head = [
        "case",
        "precision",
        "mode",
        "network",
        "seconds (quartiles)",
        "ours is faster by (quartiles)",
        "in processor time",
        "rounds",
    ]
    lines = []
    skipped: dict[tuple[str, str], str] = {}
    for row in rows:
        if row["skipped"]:
            skipped[row["case"], row["contender"]] = row["skipped"]
            continue
        own = row["contender"] == OURS
        busy = BUSY_MARK if is_busy(float(row["load"]), int(row["threads"])) else ""
        ratio = f"**{float(row['ours_faster']):.2f}** ({row['ours_faster_q1'][:4]} - {row['ours_faster_q3'][:4]}){busy}"
        lines.append(
            [
                f"{row['case']}, {row['batch']} x {row['crop']}"
                + (f", {row['device']}" if row["device"] != "cpu" else ""),
                f"{row['precision']}, {row['threads']} thread(s)",
                MODES[row["mode"]],
                row["contender"],
                f"{float(row['median_s']):.3f} ({float(row['q1_s']):.3f} - {float(row['q3_s']):.3f})",
                "" if own else ratio,
                "" if own else f"{float(row['ours_faster_processor']):.2f}",
                row["rounds"],
            ]
        )
    text = table(head, lines)
    machines = "; ".join(dict.fromkeys(row["machine"] for row in rows))
    notes = [f"Machine: {machines}."]
    notes += [f"{contender} on {case}: not run, {reason}." for (case, contender), reason in skipped.items()]
    if not any(row["device"] == "cuda" for row in rows):
        notes.append("GPU: not run, the machine had none (`--device cuda`).")
    return text + "\n\n" + "\n".join(f"* {note}" for note in notes)


def network_plot(rows: Sequence[Row]) -> bytes:
    """How many times faster ours is than each other network, a panel per case, with quartiles."""
    from matplotlib.figure import Figure

    shown = [row for row in rows if not row["skipped"] and row["contender"] != OURS]
    cases = list(dict.fromkeys(row["case"] for row in shown))
    figure = Figure(figsize=(9.5, 0.6 + 0.26 * len(shown) + 0.5 * len(cases)), layout="constrained")
    heights = [sum(row["case"] == case for row in shown) for case in cases]
    panels = figure.subplots(len(cases), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for panel, case in zip(panels, cases, strict=True):
        own = [row for row in shown if row["case"] == case]
        for place, row in enumerate(own):
            value, low, high = (float(row[f"ours_faster{part}"]) for part in ("", "_q1", "_q3"))
            panel.barh(place, value, xerr=[[value - low], [high - value]], color=COLOURS[row["mode"]], height=0.7)
        names = [f"{r['contender']}, {r['precision']}, {MODES[r['mode']]}, {r['threads']} thr." for r in own]
        panel.set_yticks(range(len(own)), names, fontsize=7)
        panel.invert_yaxis()
        panel.axvline(1.0, color="black", linewidth=0.8)
        panel.set_title(case, fontsize=9)
        panel.grid(axis="x", color="0.9")
        panel.set_axisbelow(True)
    panels[-1].set_xlabel("times that our nnFormer is faster")
    return png(figure)


def pretraining_table(rows: Sequence[Row]) -> str:
    """Seconds and memory of a step, and how many times faster visible units alone are, by mask ratio."""
    if not rows:
        return "Not measured yet."
    head = ["case", "mask ratio", "dense, s a step", "visible, s a step", "visible is faster by (quartiles)"]
    head += ["in processor time", "dense, MiB", "visible, MiB", "rounds"]
    found = {(r["case"], float(r["ratio"]), r["precision"], r["threads"], r["encoding"]): r for r in rows}
    lines = []
    for (case, ratio, precision, threads, encoding), row in sorted(found.items()):
        if encoding != "visible":
            continue
        dense = found[case, ratio, precision, threads, "dense"]
        busy = BUSY_MARK if is_busy(float(row["load"]), int(threads)) else ""
        lines.append(
            [
                f"{case}, {precision}, {threads} thread(s)",
                f"{ratio:g}",
                dense["median_s"],
                row["median_s"],
                f"**{float(row['faster']):.2f}** ({float(row['faster_q1']):.2f} - {float(row['faster_q3']):.2f}){busy}",
                f"{float(row['faster_processor']):.2f}",
                dense["peak_mib"],
                row["peak_mib"],
                row["rounds"],
            ]
        )
    machines = "; ".join(dict.fromkeys(row["machine"] for row in rows))
    return table(head, lines) + f"\n\n* Machine: {machines}."


def finetuning_table(rows: Sequence[Row], curve: Sequence[Row]) -> str:
    """What a step costs and how soon Dice was near its end, a line per run."""
    if not rows:
        return "Not measured yet."
    head = ["training cases", "steps", "s a step, all in all", "making its patches, s", "step alone, s"]
    head += ["share of making patches", "share waited for patches", "final Dice", "95 % of it after"]
    lines = []
    for row in rows:
        busy = BUSY_MARK if is_busy(float(row["load"]), int(row["threads"])) else ""
        lines.append(
            [
                f"{row['cases']}, {row['threads']} thread(s)",
                row["steps"],
                row["second_per_step"] + busy,
                f"{row['make_s']} (processor {row['make_processor_s']})",
                f"{row['step_s']} (processor {row['step_processor_s']})",
                f"{100 * float(row['loading_share']):.1f} %",
                f"{100 * float(row['waiting_share']):.1f} %",
                row["final_dice"],
                f"{row['near_step']} steps, {row['near_seconds']} s",
            ]
        )
    steps = ", ".join(f"{row['step']}: {row['dice']}" for row in curve)
    machines = "; ".join(dict.fromkeys(row["machine"] for row in rows))
    return table(head, lines) + f"\n\n* Dice by step: {steps}.\n* Machine: {machines}."
