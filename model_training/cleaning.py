"""Choose how a model cleans its results, structure by structure, on cases outside `validation`: a new patch version.

    python -m model_training.cleaning MODEL --data DATA [--split pool] --tried CSV --version 1.1.2 --out DIR
    python -m model_training.cleaning MODEL --tried CSV --version 1.1.2 --out DIR --before EVALUATION --after EVALUATION
        [--pictures DATA]

The first call segments the cases and writes what each candidate does to Dice and HD95 to CSV; where it is there, it is
read. Cases that the model has learnt from are left out, unless it has learnt from all. The second call adds figures of
`maesegment evaluate --no-clean` and of `maesegment evaluate` to the model card. Weights stay as they are.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from MAESegmentLib.bundle import Bundle, ModelStore, open_bundle
from MAESegmentLib.bundle.usage.cleaning import KEY, Cleaning
from MAESegmentLib.cases.case import Case
from MAESegmentLib.cases.checks import read_image, read_reference
from MAESegmentLib.cases.dataset import CaseDataset, load_dataset
from MAESegmentLib.evaluation.cases import match_labels
from MAESegmentLib.evaluation.metrics import Score, Status, evaluate_label_maps
from MAESegmentLib.images.hashing import VoxelHashes
from MAESegmentLib.images.labels import Label
from MAESegmentLib.images.volume import LabelMap
from MAESegmentLib.images.volumetry import voxel_ml
from MAESegmentLib.inference.islands import clean
from MAESegmentLib.inference.predictor import Predictor
from MAESegmentLib.inference.settings import InferenceSettings
from model_training import familiarity, publish
from model_training.tables import read_rows, table, write_rows

#: From the mildest. None keeps the largest piece alone: of two real parts of a structure, both must stay.
CANDIDATES = (
    Cleaning(),
    *(Cleaning(smallest_share=share) for share in (0.01, 0.02, 0.05, 0.1, 0.25, 0.5)),
    *(Cleaning(smallest_mm3=mm3) for mm3 in (50.0, 100.0, 250.0, 500.0, 1000.0)),
    Cleaning(close_holes=True),
)
COLUMNS = ("case", "label", "smallest_share", "smallest_mm3", "close_holes", "dice", "hd95_mm", "seen")
#: What a candidate may cost: of the mean Dice, and of the Dice of any case; and the least of HD95 that it must bring.
MEAN_LOSS, WORST_LOSS, LEAST_GAIN_MM = 0.0002, 0.01, 0.05
SECTION = "## Cleaning"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="name, name@version or folder")
    parser.add_argument("--data", type=Path, help="data set, needed while CSV is not there")
    parser.add_argument("--split", default="pool", help="of the cases to choose on (default: %(default)s)")
    parser.add_argument("--tried", type=Path, required=True, metavar="CSV", help="what each candidate did")
    parser.add_argument("--version", required=True, help="of the model that is written")
    parser.add_argument("--out", type=Path, required=True, help="folder of the model that is written")
    parser.add_argument("--before", type=Path, help="folder of `maesegment evaluate --no-clean`")
    parser.add_argument("--after", type=Path, help="folder of `maesegment evaluate` with the version chosen")
    parser.add_argument(
        "--pictures", type=Path, metavar="DATA", help="draw the worst cases of `--after` again, cleaned"
    )
    arguments = parser.parse_args()
    if arguments.pictures and not arguments.after:
        parser.error("--pictures needs --after")
    torch.set_num_threads(1)
    path = Path(arguments.model)
    bundle = open_bundle(path) if path.is_dir() else ModelStore().find(arguments.model)
    if not arguments.tried.exists():
        dataset = load_dataset(arguments.data)
        labels = [Label(value, name) for name, value in dataset.labels.items()]
        write_rows(arguments.tried, COLUMNS, try_candidates(bundle, dataset.select(arguments.split), labels))
    rows = read_rows(arguments.tried)
    chosen = {label: choose(rows, label.name) for label in bundle.labels}
    evaluations = (arguments.before, arguments.after) if arguments.after else None
    with TemporaryDirectory() as folder:
        out = Path(folder) / "model" if arguments.pictures else arguments.out
        written = with_cleaning(bundle, chosen, rows, arguments.version, out, evaluations)
        if arguments.pictures:
            written = drawn_again(written, arguments.after, load_dataset(arguments.pictures), arguments.out)
    for label, recipe in chosen.items():
        print(f"{label.name}: {recipe.describe()}")
    print(f"{written.name} {written.version}: {written.path}")


def try_candidates(bundle: Bundle, cases: Sequence[Case], labels: Sequence[Label]) -> list[dict[str, Any]]:
    """A row for each case, structure of its reference, and candidate."""
    predictor = Predictor(bundle, InferenceSettings.of_model(bundle.spec.inference, clean=False))
    learnt = [str(case.get("image")) for case in bundle.spec.training.get("cases", ())]
    seen = {case.id: bool(VoxelHashes(read_image(case).array).among(learnt)) for case in cases}
    kept = [case for case in cases if not seen[case.id]] or cases
    values, _unknown = match_labels(bundle.labels, labels)
    known = {label.name: label.value for label in labels}
    rows = []
    for number, case in enumerate(kept):
        print(f"{number + 1} of {len(kept)}: {case.id}", flush=True)
        found = predictor.predict(read_image(case)).label_map.with_values(values)
        reference = read_reference(case, known)
        for label in labels:
            if label.value in values.values() and label.name not in case.unknown:
                scores = scores_of(reference, found, label)
                rows += [
                    {"case": case.id, "label": label.name, "seen": int(seen[case.id]), **recipe.to_dict(), **figures}
                    for recipe, figures in scores
                ]
    return rows


def scores_of(reference: LabelMap, found: LabelMap, label: Label) -> Iterator[tuple[Cleaning, dict[str, float]]]:
    """Each candidate that changes `label`, the first for what was there before, with Dice and HD95 if both have it."""
    measured: dict[int, Score] = {}
    before: int | None = None
    for recipe in CANDIDATES:
        array = np.where(found.array == label.value, found.array, 0)
        clean(array, {label.value: recipe}, voxel_ml(found))
        size = int(np.count_nonzero(array))  # grows with every piece that stays, and with every hole that is closed
        if size not in measured:
            measured[size] = evaluate_label_maps(reference, LabelMap(array, found.ijk_to_ras), [label])[0]
        score = measured[size]
        if score.status is Status.OK and size != before:
            before = size if before is None else before
            yield recipe, {"dice": round(float(score.dice or 0), 6), "hd95_mm": round(float(score.hd95_mm or 0), 4)}


def choose(rows: Sequence[Mapping[str, str]], label: str) -> Cleaning:
    """The candidate with the lowest mean HD95 that costs no Dice; of those about as good, the mildest."""
    tried = figures_by_candidate(rows, label)
    if not tried:
        return Cleaning()
    before = tried[Cleaning()]
    fit = {
        recipe: fmean(hd95 for _dice, hd95 in after.values())
        for recipe, after in tried.items()
        if fmean(after[case][0] - before[case][0] for case in before) >= -MEAN_LOSS
        and min(after[case][0] - before[case][0] for case in before) >= -WORST_LOSS
    }
    bar = fit[Cleaning()]
    best = min(fit.values())
    near = best + max(LEAST_GAIN_MM, 0.02 * (bar - best))
    return next(recipe for recipe in CANDIDATES if recipe in fit and fit[recipe] <= near)


def figures_by_candidate(
    rows: Sequence[Mapping[str, str]], label: str
) -> dict[Cleaning, dict[str, tuple[float, float]]]:
    """Candidate -> case -> Dice and HD95. A candidate without a row changed nothing."""
    tried: dict[Cleaning, dict[str, tuple[float, float]]] = defaultdict(dict)
    for row in rows:
        if row["label"] == label:
            share, mm3, closes = float(row["smallest_share"]), float(row["smallest_mm3"]), row["close_holes"] == "True"
            tried[Cleaning(mm3, share, closes)][row["case"]] = float(row["dice"]), float(row["hd95_mm"])
    return {recipe: {**tried[Cleaning()], **tried[recipe]} for recipe in CANDIDATES} if tried else {}


def with_cleaning(
    bundle: Bundle,
    chosen: Mapping[Label, Cleaning],
    rows: Sequence[Mapping[str, str]],
    version: str,
    out: Path,
    evaluations: tuple[Path, Path] | None = None,
) -> Bundle:
    """`bundle` as `version` in `out`, with what was chosen and, of (before, after), what it does on validation."""
    stored = {str(label.value): recipe.to_dict() for label, recipe in chosen.items() if recipe != Cleaning()}
    spec = replace(
        bundle.spec,
        version=version,
        parent=bundle.reference,
        changelog="Removes stray pieces from its results, structure by structure. Weights unchanged.",
        inference={**bundle.spec.inference, KEY: stored},
    )
    documents, card = {}, bundle.card
    if evaluations:
        summary = json.loads((evaluations[1] / "summary.json").read_text())
        spec = replace(spec, metrics={**spec.metrics, "validation": publish.shipped_metrics(summary)})
        documents["evaluation.csv"] = (evaluations[1] / "metrics.csv").read_bytes()
        card = familiarity.in_section(card, publish.FIGURES, publish.figures_text(summary))
    card = familiarity.in_section(card, SECTION, section_text(chosen, rows, evaluations))
    return familiarity.saved_again(bundle, spec, out, card, documents)


def drawn_again(bundle: Bundle, evaluation: Path, dataset: CaseDataset, out: Path) -> Bundle:
    """`bundle` in `out`, with the worst cases of `evaluation` as it segments them now."""
    scores = publish.dice_per_case(evaluation / "metrics.csv")
    shown = publish.worst_and_median(scores)
    picture = publish.draw_cases(Predictor(bundle), bundle, dataset, shown, scores)
    card = familiarity.in_section(bundle.card, publish.FAILS, publish.where_it_fails(shown, scores, pictured=True))
    return familiarity.saved_again(bundle, bundle.spec, out, card, {"cases.png": picture})


def section_text(
    chosen: Mapping[Label, Cleaning], rows: Sequence[Mapping[str, str]], evaluations: tuple[Path, Path] | None
) -> str:
    """What was chosen, on what, and what it does on validation."""
    cases = {row["case"]: row["seen"] == "1" for row in rows}
    seen = "all of which the training saw" if all(cases.values()) else "whose labels the training did not see"
    lines = [
        "Before a result is returned, stray pieces are removed from it (`--no-clean` leaves them). Chosen for each",
        f"structure on {len(cases)} cases outside `validation`, {seen}: the mildest candidate with about the lowest",
        f"mean HD95 whose mean Dice falls by no more than {MEAN_LOSS}, and that of no case by more than {WORST_LOSS}.",
        "",
        *table(("structure", "what stays", *_HEAD), [_tried(rows, *one) for one in chosen.items()]).splitlines(),
    ]
    if evaluations:
        before, after = (read_rows(folder / "metrics.csv") for folder in evaluations)
        measured = [_measured(label.name, before, after) for label in chosen]
        lines += [
            "",
            "Measured once on the validation split, before (the `evaluation.csv` of the parent) -> after:",
            "",
        ]
        lines += table(("structure", *_HEAD, "worst HD95"), measured).splitlines()
    else:
        lines += ["", "The figures on the validation split above were measured without it."]
    return "\n".join(lines) + "\n"


_HEAD = ("mean Dice", "mean HD95 (mm)", "median HD95 (mm)")


def _tried(rows: Sequence[Mapping[str, str]], label: Label, recipe: Cleaning) -> list[str]:
    tried = figures_by_candidate(rows, label.name)
    if not tried:
        return [label.name, recipe.describe(), "-", "-", "-"]
    return [label.name, recipe.describe(), *_changes(list(tried[Cleaning()].values()), list(tried[recipe].values()))]


def _measured(label: str, before: Sequence[Mapping[str, str]], after: Sequence[Mapping[str, str]]) -> list[str]:
    pairs = [
        [(float(row["dice"]), float(row["hd95_mm"])) for row in rows if row["label"] == label and row["hd95_mm"]]
        for rows in (before, after)
    ]
    worst = " -> ".join(f"{max(hd95 for _dice, hd95 in some):.1f}" for some in pairs)
    return [label, *_changes(*pairs), worst]


def _changes(before: Sequence[tuple[float, float]], after: Sequence[tuple[float, float]]) -> list[str]:
    both = [tuple(zip(*some, strict=True)) for some in (before, after)]
    return [
        " -> ".join(f"{fmean(dice):.4f}" for dice, _hd95 in both),
        " -> ".join(f"{fmean(hd95):.2f}" for _dice, hd95 in both),
        " -> ".join(f"{median(hd95):.2f}" for _dice, hd95 in both),
    ]


if __name__ == "__main__":
    main()
