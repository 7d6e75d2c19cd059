"""Every table and plot of README.md, from the result files and study.toml alone; its words stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from MAESegmentLib.storage.atomic_file import write_file

from ...tables import update_page
from .claims import claims_text
from .comparisons import EQUAL, MAE, SCRATCH, Comparisons
from .plots import plot_curves, plot_dice, plot_differences
from .scores import place, read_results
from .study import Plan, Study
from .tables import (
    NOTHING,
    arms_of,
    compute_table,
    convergence_table,
    coverage_table,
    dice_table,
    difference_table,
    machines_table,
    pretraining_table,
    primary_table,
    search_table,
    spread_table,
    structures_table,
    surface_table,
)


def reconstruction_name(plan: Plan) -> str:
    """Of the file, in the folder of README.md."""
    return f"reconstructions_{plan.scale}_{plan.dataset}.png"


def worst_cases_name(plan: Plan) -> str:
    """Of the file, in the folder of README.md."""
    return f"worst_cases_{plan.scale}_{plan.dataset}.png"


def write_report(study: Study, results: Path, folder: Path) -> None:
    """Refresh the marked parts of `folder`/README.md (made of the marks alone if it is missing) and the plots there.

    A plot that nothing has been run for is removed.
    """
    comparisons = Comparisons(study, read_results(results))
    made = plots(comparisons)
    blocks = tables(comparisons)
    for name, (title, image) in made.items():
        path = folder / f"{name}.png"
        if image is None:
            path.unlink(missing_ok=True)
        else:
            write_file(path, image)
        blocks[f"plot {name}"] = NOTHING if image is None else f"![{title}]({path.name})"
    blocks |= pictures(study, folder)
    update_page(folder / "README.md", blocks)


def tables(comparisons: Comparisons) -> dict[str, str]:
    """By the names of their marks."""
    primary = arms_of(comparisons, "primary")
    return {
        "claims": claims_text(comparisons),
        "coverage": coverage_table(comparisons),
        "primary": primary_table(comparisons),
        "dice": _per_plan(comparisons, lambda plan: dice_table(comparisons, plan, primary)),
        "structures": _per_plan(comparisons, lambda plan: structures_table(comparisons, plan, primary)),
        "convergence": convergence_table(comparisons),
        "surfaces": surface_table(comparisons, primary),
        "seeds": spread_table(comparisons),
        "transfer": difference_table(comparisons, primary, SCRATCH, "primary"),
        "schedule": difference_table(comparisons, arms_of(comparisons, "schedule"), EQUAL, "schedule"),
        "pretexts": difference_table(comparisons, arms_of(comparisons, "pretext", beside=[SCRATCH]), MAE, "pretext"),
        "networks": difference_table(comparisons, arms_of(comparisons, "network", beside=[MAE]), SCRATCH, "network"),
        "ablations": difference_table(comparisons, arms_of(comparisons, "ablation"), MAE, "ablation"),
        "search": search_table(comparisons),
        "compute": compute_table(comparisons),
        "pretrainings": pretraining_table(comparisons),
        "machines": machines_table(comparisons),
    }


def pictures(study: Study, folder: Path) -> dict[str, str]:
    """Pictures that were made where data and weights are; shown where they lie in `folder`."""
    blocks = {}
    for kind, title, name_of in (
        ("reconstructions", "original, masked, reconstructed", reconstruction_name),
        ("worst cases", "the worst cases", worst_cases_name),
    ):
        there = [plan for plan in study.plans if (folder / name_of(plan)).exists()]
        shown = [f"{place(plan)}:\n\n![{place(plan)}: {title}]({name_of(plan)})" for plan in there]
        blocks[f"pictures {kind}"] = "\n\n".join(shown) or "No picture has been made yet."
    return blocks


def _per_plan(comparisons: Comparisons, make: Callable[[Plan], str]) -> str:
    """A table under the name of each data set that has results."""
    found = [plan for plan in comparisons.study.plans if comparisons.cells(plan)]
    return "\n\n".join(f"{place(plan)}:\n\n{make(plan)}" for plan in found) or NOTHING


def plots(comparisons: Comparisons) -> dict[str, tuple[str, bytes | None]]:
    """Title and image by the name of the file."""
    arms = {group: arms_of(comparisons, group, beside=[SCRATCH, MAE]) for group in ("pretext", "network")}
    arms["primary"] = arms_of(comparisons, "primary")
    dice = {group: plot_dice(comparisons, shown, group) for group, shown in arms.items()}
    return {
        "dice": ("Dice over the number of labels", dice["primary"]),
        "differences": ("Differences between MAE and its controls", plot_differences(comparisons)),
        "curves": ("Dice along training", plot_curves(comparisons, arms["primary"])),
        "pretexts": ("Dice over the number of labels, by pretext", dice["pretext"]),
        "networks": ("Dice over the number of labels, by network", dice["network"]),
    }
