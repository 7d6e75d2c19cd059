"""Tables and plots of README.md and README_volumes.md, from the CSV files alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median

from MAESegmentLib.storage.atomic_file import write_file

from ..tables import Row, read_rows, table, table_of, update_page
from .plots import MODES, OURS, finetuning_plot, memory_plot, network_plot, pretraining_plot, stages_plot

HERE = Path(__file__).parent
RESULTS = HERE / "results"
README, VOLUMES = HERE / "README.md", HERE / "README_volumes.md"
#: Groups of scans that a model must let through, and tell apart.
KNOWN, STRANGE = "known", "strange"
_GOALS = {KNOWN: "at most 5 % flagged", STRANGE: "at least 90 % flagged, AUC 0.97"}
_STAGES = ("load", "prepare", "network", "blend and restore", "check", "write")
#: Above this many processes that want a core beside the benchmark's own threads, its figures are marked.
BUSY = 0.5
Rows = Sequence[Mapping[str, str]]


def write_report() -> None:
    """Bring the pages and the plots up to date; what has not been measured keeps its place empty."""
    for name, plot in PLOTS.items():
        if rows := read_rows(RESULTS / f"{name}.csv"):
            write_file(RESULTS / f"{name}.png", plot(rows))
    for page in (README, VOLUMES):
        update_page(page, blocks(page))


def blocks(page: Path) -> dict[str, str]:
    """The tables of a page, by the names of their marks."""
    made = {}
    for name, (source, make) in TABLES[page].items():
        rows = read_rows(RESULTS / f"{source}.csv")
        made[name] = make(rows) if rows else "Not measured yet."
    return made


def is_busy(row: Mapping[str, str]) -> bool:
    """Whether other work wanted the cores while the row was measured, given the load average."""
    return float(row["load"]) > int(row["threads"]) + BUSY


def network_table(rows: Rows) -> str:
    """Seconds, and how many times faster ours is, of every block."""
    measured = [row for row in rows if not row["skipped"]]
    skipped = {(row["case"], row["contender"]): row["skipped"] for row in rows if row["skipped"]}

    def case(row: Mapping[str, str]) -> str:
        device = f", {row['device']}" if row["device"] != "cpu" else ""
        return f"{row['case']}, {row['batch']} x {row['crop']}{device}"

    def of_others(cell: Callable[[Mapping[str, str]], str]) -> Callable[[Mapping[str, str]], str]:
        return lambda row: "" if row["contender"] == OURS else cell(row)

    text = table_of(
        measured,
        {
            "case": case,
            "precision": lambda row: f"{row['precision']}, {row['threads']} thread(s)",
            "mode": lambda row: MODES[row["mode"]],
            "network": "contender",
            "seconds (quartiles)": lambda row: _spread(row, "median_s", "q1_s", "q3_s", digits=3),
            "ours is faster by (quartiles)": of_others(
                lambda row: _ratio(row, "ours_faster", cut=True) + (" (busy)" if is_busy(row) else "")
            ),
            "in processor time": of_others(lambda row: f"{float(row['ours_faster_processor']):.2f}"),
            "rounds": "rounds",
        },
    )
    notes = [f"Machine: {_each(rows, 'machine')}."]
    notes += [f"{contender} on {case}: not run, {reason}." for (case, contender), reason in skipped.items()]
    if not any(row["device"] == "cuda" for row in rows):
        notes.append("GPU: not run, the machine had none (`--device cuda`).")
    return text + "\n\n" + "\n".join(f"* {note}" for note in notes)


def pretraining_table(rows: Rows) -> str:
    """Seconds and memory of a step, and how many times faster visible units alone are, by mask ratio."""

    def key(row: Mapping[str, str]) -> tuple[str, float, str, str]:
        return row["case"], float(row["ratio"]), row["precision"], row["threads"]

    dense = {key(row): row for row in rows if row["encoding"] == "dense"}
    text = table_of(
        sorted((row for row in rows if row["encoding"] == "visible"), key=key),
        {
            "case": lambda row: f"{row['case']}, {row['precision']}, {row['threads']} thread(s)",
            "mask ratio": lambda row: f"{float(row['ratio']):g}",
            "dense, s a step": lambda row: dense[key(row)]["median_s"],
            "visible, s a step": "median_s",
            "visible is faster by (quartiles)": lambda row: _ratio(row, "faster") + (" (busy)" if is_busy(row) else ""),
            "in processor time": lambda row: f"{float(row['faster_processor']):.2f}",
            "dense, MiB": lambda row: dense[key(row)]["peak_mib"],
            "visible, MiB": "peak_mib",
            "rounds": "rounds",
        },
    )
    return f"{text}\n\n* Machine: {_each(rows, 'machine')}."


def finetuning_table(rows: Rows) -> str:
    """What a step costs and how soon Dice was near its end, a line per run."""
    text = table_of(
        rows,
        {
            "training cases": lambda row: f"{row['cases']}, {row['threads']} thread(s)",
            "steps": "steps",
            "s a step, all in all": lambda row: row["second_per_step"] + (" (busy)" if is_busy(row) else ""),
            "making its patches, s": lambda row: f"{row['make_s']} (processor {row['make_processor_s']})",
            "step alone, s": lambda row: f"{row['step_s']} (processor {row['step_processor_s']})",
            "share of making patches": lambda row: f"{100 * float(row['loading_share']):.1f} %",
            "share waited for patches": lambda row: f"{100 * float(row['waiting_share']):.1f} %",
            "final Dice": "final_dice",
            "95 % of it after": lambda row: f"{row['near_step']} steps, {row['near_seconds']} s",
        },
    )
    steps = ", ".join(f"{row['step']}: {row['dice']}" for row in read_rows(RESULTS / "finetuning_curve.csv"))
    return f"{text}\n\n* Dice by step: {steps}.\n* Machine: {_each(rows, 'machine')}."


def familiarity_table(rows: Rows) -> str:
    """A line per model and group; a goal that is missed is marked."""

    def goal(row: Mapping[str, str]) -> str:
        met = meets_goal(row)
        return "" if met is None else _GOALS[row["kind"]] + ("" if met else ": **missed**")

    return table_of(
        rows,
        {
            **{name: name for name in ("model", "group", "scans")},
            "flagged": lambda row: f"{100 * float(row['flagged']):.0f} %",
            "AUC": "auc",
            "grey values": "grey_values",
            "extent": "extent",
            "stages, finest first": lambda row: ", ".join(v for n, v in row.items() if n.startswith("stage") and v),
            "goal": goal,
        },
    )


def few_table(rows: Rows) -> str:
    """A line per model and number of training scans."""
    flagged = {f"{kind}, flagged": partial(_share, name=kind) for kind in (KNOWN, STRANGE)}
    return table_of(rows, {"model": "model", "training scans": "training_scans", **flagged})


def meets_goal(row: Mapping[str, str]) -> bool | None:
    """Whether the known are let through and the strange told apart; None where there is no goal."""
    flagged = float(row["flagged"])
    if row["kind"] == KNOWN:
        return flagged <= 0.05
    return flagged >= 0.9 and float(row["auc"]) >= 0.97 if row["kind"] == STRANGE else None


def volumes_table(rows: Rows) -> str:
    """Seconds of each scan and contender, and whether they label alike."""

    def compared(cell: str | Callable[[Mapping[str, str]], str]) -> Callable[[Mapping[str, str]], str]:
        return lambda row: "" if row["contender"] == OURS else row[cell] if isinstance(cell, str) else cell(row)

    columns = {
        "scan": lambda row: f"{row['scan']}, {row['voxels']} on {row['network_grid']}{_on_gpu(row)}",
        "contender": lambda row: row["contender"],
        "processor seconds": lambda row: (
            f"{float(row['processor_s']):.2f} ({row['processor_q1'][:5]} - {row['processor_q3'][:5]})"
        ),
        "times the seconds of ours": compared(lambda row: _ratio(row, "ours_faster", cut=True)),
        "least Dice with ours": compared("least_dice_with_ours"),
        "voxels that differ": compared("voxels_that_differ"),
    }
    return _with_machines(table_of(rows, columns), rows)


def stages_table(rows: Rows) -> str:
    """Median processor seconds of each stage."""
    lines = [
        [row["scan"] + _on_gpu(row), row["contender"], *(row.get(f"{name} (s)", "") for name in _STAGES)]
        for row in rows
    ]
    return table(["scan", "contender", *_STAGES], lines)


def _on_gpu(row: Mapping[str, str]) -> str:
    return "" if row["device"] == "cpu" else f"; {row['device']}, {row['precision']}, seconds on the clock"


def worker_table(rows: Rows) -> str:
    """How soon things start."""
    columns = {
        "what": lambda row: row["what"],
        "wall seconds: median (quartiles)": lambda row: f"{float(row['median_s']):.3f} ({row['q1_s']} - {row['q3_s']})",
        "least": lambda row: row["least_s"],
        "wanted": lambda row: row["limit_s"] or "-",
        "repeats": lambda row: row["repeats"],
    }
    return _with_machines(table_of(rows, columns), rows)


def runtimes_table(rows: Rows) -> str:
    """How fast each runtime is."""
    columns = {
        "model": lambda row: row["model"],
        "runtime": lambda row: row["way"],
        "a window, s": lambda row: row["window_s"],
        "faster by": lambda row: f"**{row['faster']}**",
        "rounds": lambda row: row["rounds"],
    }
    return _with_machines(table_of(rows, columns), rows)


def runtimes_scans_table(rows: Rows) -> str:
    """Whole scans by each runtime, and whether it labels as PyTorch does in fp32."""
    lines = []
    for model, way in dict.fromkeys((row["model"], row["way"]) for row in rows):
        of = [row for row in rows if (row["model"], row["way"]) == (model, way)]
        values = {name: [float(row[name]) for row in of] for name in ("seconds", "faster", "dice", "differing")}
        seconds, faster = median(values["seconds"]), median(values["faster"])
        dice, differing = (sum(values[name]) / len(of) for name in ("dice", "differing"))
        least = min(float(row["least_dice"]) for row in of)
        of_scan = [model, way, str(len(of)), f"{seconds:.3f}", f"**{faster:.2f}**"]
        lines.append([*of_scan, f"{dice:.5f}", f"{least:.5f}", f"{differing:.1e}"])
    return table(
        ["model", "runtime", "scans", "a scan, s", "faster by", "mean Dice", "least Dice", "voxels that differ"], lines
    )


def browser_table(rows: Rows) -> str:
    """How long the browser's views hang."""
    columns = {
        "step": "step",
        "longest stall in it, s: median": "stall_median_s",
        "worst": "stall_longest_s",
        "until it is done, s: median": "step_median_s",
        "repeats": "repeats",
    }
    return _with_machines(table_of(rows, columns), rows)


def memory_table(rows: Rows) -> str:
    """A line per scan and way of keeping sums, a column per number of classes."""
    classes = sorted({int(row["classes"]) for row in rows})
    lines = []
    for voxels, sums in dict.fromkeys((row["voxels"], row["sums"]) for row in rows):
        own = {int(row["classes"]): row for row in rows if (row["voxels"], row["sums"]) == (voxels, sums)}
        grid = next(iter(own.values()))["network_grid"]
        cells = [f"{float(own[k]['peak_gib']):.2f} ({own[k]['processor_s']} s)" if k in own else "" for k in classes]
        lines.append([f"{voxels} on {grid}", sums, *cells])
    return table(["scan", "sums of scores", *(f"{k} classes" for k in classes)], lines)


def batch_table(rows: Rows) -> str:
    """What a scan costs beside the network."""
    return _with_machines(table_of(rows, {"what": "what", "processor milliseconds a scan": "ms_per_scan"}), rows)


def _ratio(row: Mapping[str, str], name: str, *, cut: bool = False) -> str:
    low, high = (row[f"{name}_{part}"] for part in ("q1", "q3"))
    quartiles = (low[:4], high[:4]) if cut else (f"{float(low):.2f}", f"{float(high):.2f}")
    return f"**{float(row[name]):.2f}** ({quartiles[0]} - {quartiles[1]})"


def _spread(row: Mapping[str, str], *names: str, digits: int) -> str:
    middle, low, high = (f"{float(row[name]):.{digits}f}" for name in names)
    return f"{middle} ({low} - {high})"


def _share(row: Mapping[str, str], *, name: str) -> str:
    return f"{100 * float(row[name]):.0f} %"


def _each(rows: Rows, column: str) -> str:
    return "; ".join(dict.fromkeys(row[column] for row in rows))


def _with_machines(text: str, rows: Rows) -> str:
    found = dict.fromkeys(f"{row['machine']}, {row['cores']} cores, load {row['load']}" for row in rows)
    return text + "\n\n" + "\n".join(f"* Machine: {one}." for one in found)


def _finetuning_plot(rows: list[Row]) -> bytes:
    return finetuning_plot(read_rows(RESULTS / "finetuning_curve.csv"), rows[-1])


PLOTS: dict[str, Callable[[list[Row]], bytes]] = {
    "network": network_plot,
    "pretraining": pretraining_plot,
    "finetuning": _finetuning_plot,
    "volumes": partial(stages_plot, stages=_STAGES),
    "memory": memory_plot,
}


#: Page -> mark -> result file and table.
def updates_table(rows: Rows) -> str:
    """Mean Dice over the scans, each structure counted once a scan, of every task and method."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    structures = list(dict.fromkeys(row["structure"] for row in rows))
    lines = []
    for task in sorted({row["task"] for row in rows}):
        for method in methods:
            of = [row for row in rows if (row["task"], row["method"]) == (task, method)]
            if of:
                scores = [[float(row["dice"]) for row in of if row["structure"] == name] for name in structures]
                means = [f"{sum(found) / len(found):.3f}" if found else "" for found in scores]
                mean = sum(float(row["dice"]) for row in of) / len(of)
                scans = len({row["scan"] for row in of})
                lines.append([task, method, str(scans), f"{mean:.3f}", *means])
    return table(["drawn", "the rest by", "scans", "mean", *structures], lines)


TABLES: dict[Path, dict[str, tuple[str, Callable[[list[Row]], str]]]] = {
    README: {
        "network": ("network", network_table),
        "pretraining": ("pretraining", pretraining_table),
        "finetuning": ("finetuning", finetuning_table),
        "familiarity": ("familiarity", familiarity_table),
        "familiarity_few": ("familiarity_few", few_table),
        "updates": ("updates", updates_table),
    },
    VOLUMES: {
        "volumes": ("volumes", volumes_table),
        "stages": ("volumes", stages_table),
        "worker": ("worker", worker_table),
        "runtimes": ("runtimes", runtimes_table),
        "runtimes_scans": ("runtimes_scans", runtimes_scans_table),
        "browser": ("browser", browser_table),
        "memory": ("memory", memory_table),
        "batch": ("batch", batch_table),
    },
}
