"""Turn a fine-tuned run into a model that ships: figures of the evaluation, pictures of its worst cases, a full card.

    maesegment evaluate -m runs/NAME/finetune/model --data DATA --split validation --out runs/NAME/evaluation
    python -m model_training.publish runs/NAME/finetune/model --evaluation runs/NAME/evaluation --data DATA \
        --card model_training/recipes/NAME/card.md --out Resources/Models/NAME

Weights, labels and preprocessing stay as they are; the parent of the published model is the run's parent.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from MAESegmentLib.bundle import Bundle, open_bundle, save_bundle
from MAESegmentLib.cases.checks import read_reference
from MAESegmentLib.cases.dataset import CaseDataset, load_dataset
from MAESegmentLib.evaluation.cases import match_labels
from MAESegmentLib.images import LabelMap, read_volumes
from MAESegmentLib.images.labels import Label
from MAESegmentLib.inference.predictor import Predictor
from MAESegmentLib.inference.settings import InferenceSettings
from MAESegmentLib.preprocessing.grid import NetworkGrid
from MAESegmentLib.text import csv_text, plot_text
from MAESegmentLib.training.saving import png

PICTURED_WORST = 3
#: Of the model card.
FIGURES, FAILS = "## Figures", "## Where it fails"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--evaluation", type=Path, required=True, help="folder that `maesegment evaluate` wrote")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--card", type=Path, required=True, help="Markdown that the figures are appended to")
    parser.add_argument("--mirroring", action="store_true", help="the model averages over mirrored inputs by default")
    parser.add_argument(
        "--inference", type=json.loads, default={}, metavar="JSON", help='entries as {"locator": {"model": ...}}'
    )
    parser.add_argument("--no-pictures", action="store_true", help="the cases may be looked at, but not passed on")
    parser.add_argument("--document", type=Path, action="append", default=[], help="further file for docs/")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()

    bundle = open_bundle(arguments.model)
    summary = json.loads((arguments.evaluation / "summary.json").read_text())
    scores = dice_per_case(arguments.evaluation / "metrics.csv")
    shown = worst_and_median(scores)
    documents = {path.name: path.read_bytes() for path in arguments.document}
    documents["curves.png"] = (bundle.path / "docs" / "curves.png").read_bytes()
    documents["evaluation.csv"] = (arguments.evaluation / "metrics.csv").read_bytes()

    mirroring = {"mirroring": True} if arguments.mirroring else {}
    inference = {**bundle.spec.inference, **mirroring, **arguments.inference}
    metrics = {**bundle.spec.metrics, "validation": shipped_metrics(summary)}
    spec = replace(bundle.spec, inference=inference, metrics=metrics)
    predictor = Predictor(bundle, InferenceSettings.of_model(inference))
    if not arguments.no_pictures:
        documents["cases.png"] = draw_cases(predictor, bundle, load_dataset(arguments.data), shown, scores)
    autoencoder = bundle.load_autoencoder()
    published = save_bundle(
        arguments.out,
        spec,
        bundle.load_network().state_dict(),
        autoencoder_state=None if autoencoder is None else autoencoder.state_dict(),
        card=card_text(
            arguments.card.read_text(encoding="utf-8"), bundle, summary, shown, scores, not arguments.no_pictures
        ),
        licence_text=(bundle.path / "LICENSE").read_text(encoding="utf-8"),
        documents=documents,
    )
    print(f"{published.name} {published.version}: {published.path}, {published.size_bytes / 1e6:.1f} MB")


def dice_per_case(path: Path) -> dict[str, dict[str, float]]:
    """Case id -> label -> Dice, where there is one."""
    scores: dict[str, dict[str, float]] = defaultdict(dict)
    with path.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if row["dice"]:
                scores[csv_text(row["case"])][csv_text(row["label"])] = float(row["dice"])
    return dict(scores)


def worst_and_median(scores: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The cases that are pictured: those with the lowest mean Dice, and the median one."""
    ranked = sorted(scores, key=lambda case: float(np.mean(list(scores[case].values()))))
    return [*ranked[:PICTURED_WORST], ranked[len(ranked) // 2]]


def shipped_metrics(summary: Mapping[str, Any]) -> dict[str, Any]:
    """In the form that `finetune` writes, but measured on the scans' own grid by `maesegment evaluate`."""
    summary = {**summary, "labels": [label for label in summary["labels"] if label["dice"]["n"]]}
    dice = {label["label"]: label["dice"]["mean"] for label in summary["labels"]}
    return {
        "held_out": f"{summary['split']} split of {summary['data']}",
        "cases": max(label["dice"]["n"] for label in summary["labels"]),
        "grid": "scan",
        "indicative_only": False,
        "dice_before": None,
        "dice_after": dice,
        "mean_dice_before": None,
        "mean_dice_after": summary["mean_dice"],
        "hd95_mm": {label["label"]: label["hd95_mm"]["mean"] for label in summary["labels"]},
        "surface_dice": {label["label"]: label["surface_dice"]["mean"] for label in summary["labels"]},
        "surface_tolerance_mm": summary["surface_tolerance_mm"],
        "absolute_volume_error_ml": {
            label["label"]: label["absolute_volume_error_ml"]["mean"] for label in summary["labels"]
        },
    }


def card_text(
    introduction: str,
    bundle: Bundle,
    summary: Mapping[str, Any],
    shown: Sequence[str],
    scores: Mapping[str, Any],
    pictured: bool,
) -> str:
    return "\n".join(
        [
            introduction.rstrip(),
            "",
            FIGURES,
            figures_text(summary),
            FAILS,
            where_it_fails(shown, scores, pictured),
            "## Training",
            how_trained(bundle.spec.training),
            "",
            "![Curves](curves.png)",
            "",
        ]
    )


def where_it_fails(shown: Sequence[str], scores: Mapping[str, Mapping[str, float]], pictured: bool) -> str:
    """What stands below `FAILS`."""
    worst = ", ".join(f"{case} ({np.mean(list(scores[case].values())):.3f})" for case in shown[:-1])
    pictures = [
        "Below, these and, last, the median case, on the slices that show most of the reference: the reference in",
        "white, the model in colour.",
        "",
        "![Worst cases](cases.png)",
    ]
    return "\n".join([f"The cases with the lowest mean Dice: {worst}.", *(pictures if pictured else ()), ""])


def figures_text(summary: Mapping[str, Any]) -> str:
    """What stands below `FIGURES`."""
    rows = [
        f"| {label['label']} | {_spread(label['dice'], 3)} | {_number(label['dice']['lowest'], 3)} "
        f"| {_spread(label['hd95_mm'], 2)} | {_spread(label['surface_dice'], 3)} "
        f"| {_number(label['absolute_volume_error_ml']['mean'], 2)} | {label['dice']['n']} "
        f"| {len(label['missing_in_prediction'])} |"
        for label in summary["labels"]
        if label["dice"]["n"]
    ]
    return "\n".join(
        [
            f"Measured by `maesegment evaluate` on the {summary['split']} split, which no step of the training saw.",
            f"Mean Dice over the labels: **{summary['mean_dice']:.3f}**.",
            "",
            f"| structure | Dice | lowest | HD95 (mm) | surface Dice ({summary['surface_tolerance_mm']:g} mm) "
            "| absolute volume error (ml) | n | missed |",
            "|---|---|---|---|---|---|---|---|",
            *rows,
            "",
            "Mean ± standard deviation over the cases; every case is in `evaluation.csv`.",
            *annotated_slices_text(summary),
            "",
        ]
    )


def annotated_slices_text(summary: Mapping[str, Any]) -> list[str]:
    names = summary.get("annotated_slices", ())
    text = "judged between the first and the last axial slice of the reference only (`--annotated-slices`)."
    return [f"{', '.join(names)}: {text}"] if names else []


def how_trained(training: Mapping[str, Any]) -> str:
    minutes, batch = training["seconds"] / 60, training["settings"]["batch_size"]
    patches = f"{batch} patches" if batch > 1 else "one patch"
    return (
        f"{training['steps']} steps of {patches} on {len(training['cases'])} cases, {minutes:.0f} minutes "
        f"on {training['device']}. {' '.join(training['notes'])}"
    )


def draw_cases(
    predictor: Predictor,
    bundle: Bundle,
    dataset: CaseDataset,
    shown: Sequence[str],
    scores: Mapping[str, Mapping[str, float]],
) -> bytes:
    """PNG: a row per case, three planes, contours of reference (white) and prediction (colour)."""
    from matplotlib.figure import Figure

    labels = [Label(value, name) for name, value in dataset.labels.items()]
    values, _ = match_labels(bundle.labels, labels)
    colours = {values[label.value]: np.array(label.colour) / 255 for label in bundle.labels if label.value in values}
    by_id = {case.id: case for case in dataset.cases}
    figure = Figure(figsize=(10, 3.1 * len(shown)), facecolor="black", layout="constrained")
    axes = figure.subplots(len(shown), 3, squeeze=False)
    for row, name in zip(axes, shown, strict=True):
        volume = read_volumes(by_id[name].image)
        found = predictor.predict(volume).label_map.with_values(values)
        _draw_row(row, volume, read_reference(by_id[name], dataset.labels, dataset.ignore, volume), found, colours)
        mean = float(np.mean(list(scores[name].values())))
        row[0].set_ylabel(f"{plot_text(name)}\nmean Dice {mean:.3f}", color="white", fontsize=9)
    return png(figure)


def _draw_row(row: Any, volume: Any, reference: LabelMap, found: LabelMap, colours: Mapping[int, np.ndarray]) -> None:
    grid = NetworkGrid.fit(volume.grid, "RAS", (1, 1, 1))
    image = grid.to_canonical(volume.array)[0].astype(float)
    truth, guess = grid.to_canonical(reference.array), grid.to_canonical(found.array)
    low, high = np.percentile(image, [1, 99.5])
    if low < -500:  # HU: a soft-tissue window
        low, high = -160.0, 240.0
    spacing = grid.canonical_spacing
    for ax, axis in zip(row, (2, 1, 0), strict=True):
        index = int((truth > 0).sum(axis=tuple(a for a in range(3) if a != axis)).argmax())
        plane, wanted, got = (array.take(index, axis=axis).T for array in (image, truth, guess))
        across, up = (a for a in range(3) if a != axis)
        ax.imshow(plane, cmap="gray", vmin=low, vmax=high, origin="lower", aspect=spacing[up] / spacing[across])
        for value, colour in colours.items():
            for mask, shade, width in ((wanted == value, "white", 0.8), (got == value, colour, 1.2)):
                if mask.any() and min(mask.shape) > 1:
                    ax.contour(mask.astype(float), levels=[0.5], colors=[shade], linewidths=width)
        if axis != 0:
            ax.invert_xaxis()  # the patient's right on the left, as radiologists look at it
        ax.set(xticks=[], yticks=[])


def _spread(figure: Mapping[str, Any], digits: int) -> str:
    return "-" if figure["mean"] is None else f"{figure['mean']:.{digits}f} ± {figure['std']:.{digits}f}"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    main()
