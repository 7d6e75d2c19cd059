"""Plots of the benchmarks' results, as PNG; the tables beside them hold every figure."""

from __future__ import annotations

from collections.abc import Sequence

from MAESegmentLib.training.saving import png

Row = dict[str, str]
OURS = "ours"
MODES = {"forward": "forward", "train": "forward + backward"}
#: Okabe and Ito's.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MODE_COLOURS = dict(zip(MODES, COLOURS, strict=False))
#: What a step that encodes visible units only should gain at a mask ratio of 0.75.
_WANTED = (0.75, 2.5)
_SMALL = (6.5, 3.6)


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
            panel.barh(place, value, xerr=[[value - low], [high - value]], color=_MODE_COLOURS[row["mode"]], height=0.7)
        names = [f"{r['contender']}, {r['precision']}, {MODES[r['mode']]}, {_where(r)}" for r in own]
        panel.set_yticks(range(len(own)), names, fontsize=7)
        panel.invert_yaxis()
        panel.axvline(1.0, color="black", linewidth=0.8)
        panel.set_title(case, fontsize=9)
        panel.grid(axis="x", color="0.9")
        panel.set_axisbelow(True)
    panels[-1].set_xlabel("times that our nnFormer is faster (a bar may reach beyond)", fontsize=9)
    ratios = [float(row["ours_faster_q3"]) for row in shown]
    panels[-1].set_xlim(0, min(max(ratios) * 1.05, 8.0))
    return png(figure)


def _where(row: Row) -> str:
    return f"{row['threads']} thr." if row["device"] == "cpu" else row["device"]


def pretraining_plot(rows: Sequence[Row]) -> bytes:
    """How many times faster a step of visible units only is, over the mask ratio, a line per case."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SMALL, layout="constrained")
    panel = figure.subplots()
    visible = [row for row in rows if row["encoding"] == "visible"]
    for case, colour in zip(dict.fromkeys(row["case"] for row in visible), COLOURS, strict=False):
        own = sorted((row for row in visible if row["case"] == case), key=lambda row: float(row["ratio"]))
        value, low, high = ([float(row[f"faster{part}"]) for row in own] for part in ("", "_q1", "_q3"))
        spread = [[v - a for v, a in zip(value, low, strict=True)], [b - v for v, b in zip(value, high, strict=True)]]
        panel.errorbar([float(row["ratio"]) for row in own], value, spread, color=colour, marker="o", label=case)
    panel.plot(*_WANTED, "k+", markersize=12, label="wanted")
    panel.set(xlabel="mask ratio", ylabel="times faster than dense", ylim=(0, None))
    panel.grid(color="0.9")
    panel.legend(fontsize=8)
    return png(figure)


def finetuning_plot(curve: Sequence[Row], run: Row) -> bytes:
    """Dice on cases that were held out, over the time of a fine-tuning."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SMALL, layout="constrained")
    panel = figure.subplots()
    panel.plot([float(row["seconds"]) for row in curve], [float(row["dice"]) for row in curve], "o-", color=COLOURS[0])
    panel.axhline(0.95 * float(run["final_dice"]), color="0.5", linestyle="--", label="95 % of the final Dice")
    panel.axvline(float(run["near_seconds"]), color="0.5", linestyle=":")
    panel.set(xlabel="seconds, validation included", ylabel="mean Dice", xlim=(0, None), ylim=(0, 1))
    panel.grid(color="0.9")
    panel.legend(fontsize=8, loc="lower right")
    return png(figure)


def memory_plot(rows: Sequence[Row]) -> bytes:
    """Peak memory over the number of classes, a line per scan and way of keeping sums."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SMALL, layout="constrained")
    panel = figure.subplots()
    for voxels, colour in zip(dict.fromkeys(row["voxels"] for row in rows), COLOURS, strict=False):
        for sums, style in (("bounded", "o-"), ("all in memory", "o:")):
            own = [row for row in rows if (row["voxels"], row["sums"]) == (voxels, sums)]
            places = [int(row["classes"]) for row in own]
            panel.plot(places, [float(r["peak_gib"]) for r in own], style, color=colour, label=f"{voxels}, {sums}")
    panel.set(xlabel="classes", ylabel="peak, GiB", ylim=(0, None))
    panel.grid(color="0.9")
    panel.legend(fontsize=7)
    return png(figure)


def stages_plot(rows: Sequence[Row], stages: Sequence[str]) -> bytes:
    """Stacked stages of every contender on the processor, a panel per scan."""
    from matplotlib.figure import Figure

    rows = [row for row in rows if row["device"] == "cpu"]
    scans = list(dict.fromkeys(row["scan"] for row in rows))
    figure = Figure(figsize=(9.5, 0.8 + 1.5 * len(scans)), layout="constrained")
    for panel, scan in zip(figure.subplots(len(scans), 1, squeeze=False)[:, 0], scans, strict=True):
        own = [row for row in rows if row["scan"] == scan]
        left = [0.0] * len(own)
        for stage, colour in zip(stages, COLOURS, strict=False):
            widths = [float(row.get(f"{stage} (s)") or 0) for row in own]
            panel.barh(range(len(own)), widths, left=left, color=colour, label=stage)
            left = [a + b for a, b in zip(left, widths, strict=True)]
        panel.set_yticks(range(len(own)), [row["contender"] for row in own], fontsize=8)
        panel.invert_yaxis()
        panel.set_title(f"{scan}: {own[0]['voxels']} voxels, network grid {own[0]['network_grid']}", fontsize=9)
    figure.supxlabel("processor seconds, one thread", fontsize=9)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=6, fontsize=8)
    return png(figure)
