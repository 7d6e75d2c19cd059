"""How a model's cleaning is chosen: by what each candidate did on cases that the training did not see."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from MAESegmentLib.bundle.usage.cleaning import KEY, Cleaning, cleaning_of
from MAESegmentLib.images.labels import Label
from MAESegmentLib.images.volume import LabelMap
from model_training.cleaning import CANDIDATES, COLUMNS, choose, scores_of, with_cleaning
from model_training.tables import read_rows, write_rows
from Testing.bundles import save_tiny, tiny_spec

ANTERIOR = tiny_spec().labels[0]


def rows_of(*cases: tuple[np.ndarray, np.ndarray], folder: Path) -> list[dict[str, str]]:
    """Of (reference, prediction) of each case, through the table that is kept."""
    rows: list[dict[str, Any]] = []
    for number, maps in enumerate(cases):
        reference, found = (LabelMap(array, np.diag([2.0, 2.0, 2.0, 1.0])) for array in maps)
        for recipe, figures in scores_of(reference, found, ANTERIOR):
            rows.append({"case": number, "label": ANTERIOR.name, "seen": 0, **recipe.to_dict(), **figures})
    write_rows(folder / "tried.csv", COLUMNS, rows)
    return [dict(row) for row in read_rows(folder / "tried.csv")]


def block(*extents: tuple[int, int]) -> np.ndarray:
    """Blocks of 6 x 6 voxels across, `extents` along the last axis."""
    array = np.zeros((10, 10, 60), np.uint8)
    for low, high in extents:
        array[2:8, 2:8, low:high] = 1
    return array


def test_mildest_of_the_best_is_chosen(tmp_path: Path) -> None:
    rows = rows_of((block((5, 25)), block((5, 25), (50, 52))), folder=tmp_path)  # an island of a tenth
    assert choose(rows, ANTERIOR.name) == Cleaning(smallest_share=0.25)


def test_nothing_is_removed_where_it_would_cost_a_real_part(tmp_path: Path) -> None:
    stray = (block((5, 25)), block((5, 25), (50, 52)))
    two_parts = (block((5, 25), (50, 52)), block((5, 25), (50, 52)))
    assert choose(rows_of(stray, two_parts, folder=tmp_path), ANTERIOR.name) == Cleaning()


def test_what_brings_nothing_is_left_out(tmp_path: Path) -> None:
    rows = rows_of((block((5, 25)), block((5, 24))), folder=tmp_path)
    assert choose(rows, ANTERIOR.name) == Cleaning()
    assert choose(rows, "of which there is no case") == Cleaning()


def test_two_parts_of_a_structure_outlast_every_candidate() -> None:
    for recipe in CANDIDATES:
        assert recipe.least_voxels(100, 1000.0) <= 50 or recipe.smallest_mm3


def test_new_version_has_the_recipe_the_figures_and_the_same_weights(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base", documents={"curves.png": b"png"})
    rows = rows_of((block((5, 25)), block((5, 25), (50, 52))), folder=tmp_path)
    names = [label.name for label in base.labels]
    for folder, hd95 in (("before", 40.0), ("after", 2.0)):
        (tmp_path / folder).mkdir()
        with (tmp_path / folder / "metrics.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows(
                [["case", "label", "dice", "hd95_mm"], *([case, name, 0.8, hd95] for case in "ab" for name in names)]
            )
    figure = {"mean": 0.8, "std": 0.1, "lowest": 0.7, "n": 2}
    entry = {**dict.fromkeys(("dice", "hd95_mm", "surface_dice", "absolute_volume_error_ml"), figure)}
    labels = [{"label": name, "missing_in_prediction": [], **entry} for name in names]
    summary = {"split": "validation", "data": "d", "mean_dice": 0.8, "surface_tolerance_mm": 1.0, "labels": labels}
    (tmp_path / "after" / "summary.json").write_text(json.dumps(summary))
    chosen = {label: Cleaning() for label in base.labels} | {ANTERIOR: choose(rows, ANTERIOR.name)}
    evaluations = (tmp_path / "before", tmp_path / "after")
    made = with_cleaning(base, chosen, rows, "1.0.1", tmp_path / "made", evaluations)
    assert cleaning_of(made.spec.inference) == {ANTERIOR.value: Cleaning(smallest_share=0.25)}
    assert replace(made.spec, inference={}, version="1.0.0").labels == base.labels
    assert (made.parent, made.spec.changelog.split(",")[0]) == (base.reference, "Removes stray pieces from its results")
    weights = "models/model.pt"
    assert (made.path / weights).read_bytes() == (base.path / weights).read_bytes()
    for part in ("## Cleaning", "pieces from 25 % of the largest", "40.00 -> 2.00", "**0.800**"):
        assert part in made.card
    assert KEY not in base.spec.inference
    assert Label(1, ANTERIOR.name).name in made.card


def test_shipped_models_remove_what_was_chosen(pytestconfig: pytest.Config) -> None:
    from MAESegmentLib.bundle import open_bundle

    for name in ("headneck-ct", "hippocampus-mr"):
        bundle = open_bundle(pytestconfig.rootpath / "Resources" / "Models" / name)
        recipes = cleaning_of(bundle.spec.inference)
        tried = read_rows(pytestconfig.rootpath / f"model_training/benchmarks/results/cleaning_{name}.csv")
        assert {row["label"] for row in tried} == {label.name for label in bundle.labels}
        for label in bundle.labels:
            assert recipes.get(label.value, Cleaning()) == choose(tried, label.name)
        for recipe in recipes.values():
            assert recipe.describe() in bundle.card
