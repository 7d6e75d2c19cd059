"""Tables and plots of README.md, from the CSV files alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from MAESegmentLib.training.loop.results import write_atomically

from ..tables import replace_blocks, table
from .familiarity_report import familiarity_table, few_table
from .measurements import RESULTS, is_busy, read_rows
from .plots import MODES, OURS, finetuning_plot, network_plot, pretraining_plot

README = Path(__file__).parent / "README.md"
Row = dict[str, str]
BUSY_MARK = " (busy)"


def write_report() -> None:
    """Bring README.md and the plots up to date; a benchmark that has not been run keeps its place empty."""
    names = ("network", "pretraining", "finetuning", "finetuning_curve", "familiarity", "familiarity_few")
    rows = {name: read_rows(RESULTS / f"{name}.csv") for name in names}
    if rows["network"]:
        write_atomically(RESULTS / "network.png", network_plot(rows["network"]))
    if rows["pretraining"]:
        write_atomically(RESULTS / "pretraining.png", pretraining_plot(rows["pretraining"]))
    if rows["finetuning"]:
        write_atomically(RESULTS / "finetuning.png", finetuning_plot(rows["finetuning_curve"], rows["finetuning"][-1]))
    blocks = {
        "network": network_table(rows["network"]),
        "pretraining": pretraining_table(rows["pretraining"]),
        "finetuning": finetuning_table(rows["finetuning"], rows["finetuning_curve"]),
        "familiarity": familiarity_table(rows["familiarity"]),
        "familiarity_few": few_table(rows["familiarity_few"]),
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
