"""The report of the data-efficiency study on made-up results, of which the truth is known."""

from __future__ import annotations

import csv
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from model_training.studies.data_efficiency.__main__ import HERE
from model_training.studies.data_efficiency.claims import Evidence, Verdict, claims, decide, findings
from model_training.studies.data_efficiency.comparisons import EQUAL, SAME_RECIPE, SCRATCH, Comparisons
from model_training.studies.data_efficiency.report import pictures, plots, tables, write_report
from model_training.studies.data_efficiency.result_files import (
    METRICS,
    RUNS,
    append_rows,
    merge,
)
from model_training.studies.data_efficiency.scores import Cell, Results, read_results
from model_training.studies.data_efficiency.statistics import Interval
from model_training.studies.data_efficiency.study import read_study
from model_training.studies.data_efficiency.tables import compute_table, primary_table, search_table, surface_table
from Testing.study_results import DATASET, SCALE, MadeUp, final_row, made_up_study, run_row, write_pretext

STUDY = made_up_study()
FEW = "Higher Dice from few labels than from scratch"
HERE_AT_2 = Cell(SCALE, DATASET, "2")


def verdict(results: Results, title: str) -> Verdict:
    comparisons = Comparisons(STUDY, results)
    (claim,) = [claim for claim in claims(comparisons) if claim.title == title]
    (finding,) = findings(comparisons, claim)
    return finding.verdict


def made_up(folder: Path, mae: float, **changed: object) -> Results:
    gains = {"scratch": 0.0, "mae": mae, "scratch-equal": 0.0, "random-mae-recipe": 0.0}
    return read_results(MadeUp(**{"gains": gains, **changed}).write(folder))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    made_up(folder, 0.03)
    write_pretext(folder)
    return folder


def test_a_known_gain_at_every_label_count_supports_the_claim(folder: Path) -> None:
    results = read_results(folder)
    assert verdict(results, FEW) is Verdict.SUPPORTED
    found = Comparisons(STUDY, results).difference(HERE_AT_2, "mae", "scratch")
    assert found is not None
    assert found.by_case.estimate == pytest.approx(0.03, abs=0.003)
    assert (found.seeds, found.cases) == (3, 16)


def test_no_gain_measured_well_does_not_support_it(tmp_path: Path) -> None:
    assert verdict(made_up(tmp_path, 0.0), FEW) is Verdict.NOT_SUPPORTED


def test_a_loss_does_not_support_it(tmp_path: Path) -> None:
    assert verdict(made_up(tmp_path, -0.03), FEW) is Verdict.NOT_SUPPORTED


def test_no_gain_measured_badly_leaves_it_undecided(tmp_path: Path) -> None:
    assert verdict(made_up(tmp_path, 0.0, noise=0.2, cases=6), FEW) is Verdict.UNDECIDED


def test_two_seeds_decide_nothing(tmp_path: Path) -> None:
    assert verdict(made_up(tmp_path, 0.05, seeds=(0, 1)), FEW) is Verdict.UNDECIDED


def test_a_label_count_that_was_not_run_keeps_a_claim_from_being_supported(tmp_path: Path) -> None:
    assert verdict(made_up(tmp_path, 0.05, labels=("2", "4")), FEW) is Verdict.UNDECIDED


def test_without_results_a_claim_is_not_run() -> None:
    assert verdict(Results([], []), FEW) is Verdict.NOT_RUN


def test_faster_learning_is_told_from_equal_learning(tmp_path: Path) -> None:
    title = "Faster convergence than from scratch"
    quick = {"mae": [(100, 0.99), (200, 1.0), (300, 1.0)]}
    assert verdict(made_up(tmp_path / "quick", 0.0, curves=quick), title) is Verdict.SUPPORTED
    assert verdict(made_up(tmp_path / "equal", 0.0, seed_noise=0.0), title) is Verdict.NOT_SUPPORTED


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ([(0.01, 0.02), (0.02, 0.03)], Verdict.SUPPORTED),
        ([(0.01, 0.02), (-0.01, 0.03)], Verdict.UNDECIDED),
        ([(-0.02, 0.005), (-0.01, 0.03)], Verdict.NOT_SUPPORTED),
        ([(-0.02, -0.01), (0.01, 0.03)], Verdict.UNDECIDED),
        ([(-0.01, 0.03), (-0.01, 0.03)], Verdict.UNDECIDED),
    ],
    ids=["all for", "one open", "one against, none for", "one for, one against", "all open"],
)
def test_verdicts_follow_the_rule(bounds: list[tuple[float, float]], expected: Verdict) -> None:
    cells = [Evidence("", (Interval(sum(pair) / 2, *pair),), seeds=3) for pair in bounds]
    assert decide(cells, margin=0.01) is expected


def test_both_intervals_have_to_speak_for_a_claim() -> None:
    cell = Evidence("", (Interval(0.02, 0.01, 0.03), Interval(0.02, -0.01, 0.05)), seeds=3)
    assert cell.speaks(0.01) == "open"


def test_holms_family_is_every_primary_comparison_that_has_results(folder: Path) -> None:
    comparisons = Comparisons(STUDY, read_results(folder))
    controls = (SCRATCH, EQUAL, SAME_RECIPE)
    raw = [comparisons.difference(replace(HERE_AT_2, labels=n), "mae", c) for n in "248" for c in controls]
    smallest = min(found.p for found in raw if found)
    adjusted = [comparisons.adjusted_p(replace(HERE_AT_2, labels=n), c) for n in "248" for c in controls]
    assert min(p for p in adjusted if p is not None) == pytest.approx(min(1.0, 9 * smallest))


def test_rows_that_two_machines_sent_count_once(folder: Path, tmp_path: Path) -> None:
    for name in (RUNS, METRICS):
        head, *rows = (folder / name).read_text().splitlines(keepends=True)
        (tmp_path / name).write_text("".join([head, *rows, *rows]))
    once, twice = (Comparisons(STUDY, read_results(place)) for place in (folder, tmp_path))
    merge([folder, tmp_path], tmp_path / "merged")
    merged = Comparisons(STUDY, read_results(tmp_path / "merged"))
    for make in (primary_table, compute_table):
        assert make(once) == make(twice) == make(merged)


def test_a_case_that_one_arm_lacks_is_left_out_of_the_pairs(folder: Path) -> None:
    kept = [row for row in _rows(folder / METRICS) if not (_arm(row) == "mae" and row["case"] == "case_3")]
    found = Comparisons(STUDY, Results(_rows(folder / RUNS), kept)).difference(HERE_AT_2, "mae", "scratch")
    assert found is not None
    assert found.cases == 15


def test_a_seed_that_one_arm_lacks_is_left_out_of_the_pairs(folder: Path) -> None:
    runs = [row for row in _rows(folder / RUNS) if not (row["arm"] == "mae" and row["seed"] == "1")]
    found = Comparisons(STUDY, Results(runs, _rows(folder / METRICS))).difference(HERE_AT_2, "mae", "scratch")
    assert found is not None
    assert found.seeds == 2


def test_rows_of_a_run_that_has_not_ended_do_not_count(folder: Path) -> None:
    results = Results([], _rows(folder / METRICS))
    assert results.final(HERE_AT_2, "mae") is None


def test_a_structure_that_was_not_found_counts_as_zero_but_has_no_distance(tmp_path: Path) -> None:
    run = f"{SCALE}/{DATASET}/scratch/n2/s0"
    lost = {**final_row(run, "case_0", "front", 0.0), "hd95_mm": "", "surface_dice": ""}
    absent = {**lost, "case": "case_1", "dice": ""}
    append_rows(tmp_path / METRICS, [lost, absent, final_row(run, "case_2", "front", 0.8)])
    append_rows(tmp_path / RUNS, [run_row(run)])
    results = read_results(tmp_path)
    means = {}
    for measure in ("dice", "hd95_mm", "surface_dice"):
        interval = Comparisons(STUDY, results).mean(HERE_AT_2, "scratch", measure)
        assert interval is not None
        means[measure] = interval.estimate
    assert means == pytest.approx({"dice": 0.4, "hd95_mm": 1.2, "surface_dice": 0.4})
    assert "| 1 of 2 |" in surface_table(Comparisons(STUDY, results), STUDY.arms)


def test_the_search_is_told_from_the_runs_that_count(folder: Path) -> None:
    name = f"{SCALE}/{DATASET}/mae/n4/s0/lr0.003"
    runs = [*_rows(folder / RUNS), _text(run_row(name, measured_on="check", learning_rate=0.003))]
    metrics = [*_rows(folder / METRICS), _text(final_row(name, "pool_1", "front", 0.123))]
    with_search = Comparisons(STUDY, Results(runs, metrics))
    assert "**0.123**" in search_table(with_search)
    assert primary_table(with_search) == primary_table(Comparisons(STUDY, read_results(folder)))


def test_the_rate_that_three_seeds_confirm_beats_one_that_was_lucky_once(folder: Path) -> None:
    dice = {("0.001", 0): 0.5, ("0.003", 0): 0.9, ("0.003", 1): 0.1, ("0.002", 0): 0.6, ("0.002", 1): 0.7}
    runs, metrics = _rows(folder / RUNS), _rows(folder / METRICS)
    for (rate, seed), value in dice.items():
        name = f"{SCALE}/{DATASET}/mae/n4/s{seed}/lr{rate}"
        runs.append(_text(run_row(name, measured_on="check", learning_rate=float(rate), seed=seed)))
        metrics.append(_text(final_row(name, "pool_1", "front", value)))
    shown = search_table(Comparisons(STUDY, Results(runs, metrics)))
    assert "| 0.500 | **0.650** (0.600, 0.700) | 0.500 (0.900, 0.100) |" in shown


def test_report_is_the_same_bytes_when_it_is_made_again(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes((HERE / "README.md").read_bytes())
    made = []
    for _ in range(2):
        write_report(STUDY, folder, tmp_path)
        made.append({path.name: path.read_bytes() for path in sorted(tmp_path.iterdir())})
    assert made[0] == made[1]
    assert {"README.md", "dice.png", "curves.png", "differences.png"} <= set(made[0])
    text = made[0]["README.md"].decode()
    assert f"**{FEW}** (`mae` − `scratch`): **supported** on Hippocampus, T1 MR (small)." in text
    assert "![Dice along training](curves.png)" in text


def test_report_works_before_anything_has_been_run(tmp_path: Path) -> None:
    (tmp_path / "dice.png").write_bytes(b"of results that are gone")
    write_report(STUDY, tmp_path / "none", tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert f"**{FEW}** (`mae` − `scratch`): not run." in text
    assert "0 of 36" in text
    assert not list(tmp_path.glob("*.png"))


def test_report_works_with_arms_missing(tmp_path: Path) -> None:
    made_up(tmp_path, 0.0, gains={"mae": 0.01, "genesis": 0.02}, labels=("4",), seeds=(0,))
    comparisons = Comparisons(STUDY, read_results(tmp_path))
    made = tables(comparisons)
    assert "Models Genesis (`genesis`)" in made["pretexts"]
    assert made["primary"] == "No run of this has ended yet."
    assert plots(comparisons)["dice"][1] is not None
    assert plots(comparisons)["networks"][1] is None


def test_every_part_that_the_report_makes_has_its_place_in_the_readme() -> None:
    marks = re.findall(r"<!-- (?!end)(.+?) -->", (HERE / "README.md").read_text())
    comparisons = Comparisons(STUDY, Results([], []))
    made = [*tables(comparisons), *(f"plot {name}" for name in plots(comparisons)), *pictures(STUDY, HERE)]
    assert sorted(marks) == sorted(made)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _arm(row: dict[str, str]) -> str:
    return row["run"].split("/")[2]


def _text(row: dict[str, object]) -> dict[str, str]:
    return {key: str(value) for key, value in row.items()}


def test_the_tables_that_are_committed_are_those_of_the_results_that_are_committed(tmp_path: Path) -> None:
    for picture in HERE.glob("*.png"):
        shutil.copy(picture, tmp_path)
    shutil.copy(HERE / "README.md", tmp_path)
    write_report(read_study(HERE / "study.toml"), HERE / "results", tmp_path)
    assert (tmp_path / "README.md").read_text() == (HERE / "README.md").read_text()
