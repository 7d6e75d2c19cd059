"""The tables of the commands in a terminal of 80 columns, with names as long as users give them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.table import Table

from MAESegmentLib.bundle import ModelStore
from MAESegmentLib.cases.store import CaseStore
from MAESegmentLib.cli.case_stores import case_table
from MAESegmentLib.cli.evaluate import difference_table, summary_table
from MAESegmentLib.cli.models import label_table, list_table
from MAESegmentLib.cli.next_case import table_of
from MAESegmentLib.cli.terminal import make_console, print_markdown, training_display
from MAESegmentLib.evaluation.metrics import Score, Status
from MAESegmentLib.evaluation.report import remarks, summarise
from MAESegmentLib.images.labels import Label
from MAESegmentLib.inference.ranking import RankedScan
from MAESegmentLib.inference.uncertainty import Uncertainty
from MAESegmentLib.training.run_context import Progress
from Testing.fake_logic import case_record

LABELS = tuple(Label(n, name) for n, name in enumerate(("Brainstem", "LeftParotid", "optic chiasm", "Mandible"), 1))
MODEL = {"name": "headneck-ct", "version": "1.2.0", "hash": "0"}


def _models(folder: Path) -> Table:
    store = ModelStore(folder)
    return list_table(store.list(), store)


def _cases(folder: Path) -> Table:
    record = case_record(12, role="check", volumes_ml={"LeftParotid": 25.4}, unknown=("optic chiasm",), model=MODEL)
    return case_table(CaseStore(folder), [record])


def _summary(_folder: Path) -> Table:
    scores = [
        Score(f"case{n}", label.name, Status.OK, 0.8 + n / 90, 1.5 + 40 * n, 0.9, 12.5 - n, 30.0)
        for label in LABELS
        for n in (1, 2)
    ]
    return summary_table(summarise(scores), title="runs/headneck-ct/finetune/model on 2 cases", tolerance_mm=1.0)


def _difference(_folder: Path) -> Table:
    paired = {label.name: {"a": (0.81, 0.83), "b": (0.7, 0.69)} for label in LABELS}
    return difference_table(paired, "headneck-ct@1.1.1", "headneck-ct-of-our-clinic@1.12.0")


def _ranked(_folder: Path) -> Table:
    path = Path("2026-10-01 planning_ct_of_the_head_and_neck.nii.gz")
    found = Uncertainty(0.123456, 2, 113, (-31.0, -102.0, -118.0), {}, ("optic chiasm", "LeftParotid"))
    return table_of([RankedScan(path, found)], {path: path.name}, title="Least certain first: headneck-ct 1.1.1")


TABLES: dict[Callable[[Path], Table], tuple[str, ...]] = {
    _models: ("headneck-ct", "hippocampus-mr", "RightParotid,", "Mandible", "MAESegment"),
    _cases: ("case-0012", "validation", "■ LeftParotid 25.40", "optic", "chiasm", "headneck-ct", "1.2.0"),
    _summary: ("runs/headneck-ct/finetune/model on 2 cases", "61.50±28.28", "LeftParotid", "missing"),
    _difference: ("A = headneck-ct@1.1.1, B = headneck-ct-of-our-clinic@1.12.0", "1 of 2", "LeftParotid"),
    _ranked: ("Least certain first: headneck-ct 1.1.1", "K 113", "LeftParotid"),
    lambda _folder: label_table(LABELS, {"dice_after": dict.fromkeys(("Mandible",), 0.9)}): ("■ Mandible", "0.900"),
}


@pytest.mark.parametrize("make", TABLES, ids=lambda make: make.__name__)
def test_a_table_fits_80_columns_and_breaks_no_word(make, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    make_console().print(make(tmp_path))
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert [text for text in TABLES[make] if text not in shown] == [], shown
    assert not [line for line in shown.splitlines() if line.rstrip().endswith("■")], shown


def test_what_a_model_does_not_know_is_one_remark_and_no_row(capsys: pytest.CaptureFixture[str]) -> None:
    scores = [Score("a", label.name, Status.NOT_KNOWN, None, None, None, None, None) for label in LABELS[1:]]
    summaries = summarise([Score("a", "Brainstem", Status.OK, 0.8, 1.5, 0.9, 1.0, 30.0), *scores])
    make_console().print(summary_table(summaries, title="few of many", tolerance_mm=1.0))
    assert "LeftParotid" not in capsys.readouterr().out
    assert remarks(summaries) == [
        "Not structures of this model, and not evaluated: LeftParotid, optic chiasm, Mandible."
    ]


def test_tables_of_a_model_card_lose_no_end_of_a_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    figures = ["0.522 \u00b1 0.064", "0.447 \u00b1 0.030", "20.95 \u00b1 1.85", "0.372 \u00b1 0.070", "5.03", "8", "0"]
    rows = [["structure", *"ABCDEFG"], ["-"] * 8, ["left hippocampus", *figures]]
    print_markdown("\n".join(f"| {' | '.join(row)} |" for row in rows))
    out = capsys.readouterr().out
    assert "hippocampus" in out
    assert "\u2026" not in out
    assert max(map(len, out.splitlines())) <= 80


def test_the_progress_of_a_training_says_when_it_ends(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_000_000.0)
    with training_display(is_shown=True) as display:
        display(Progress("train", 0.5, 5400.0, 7, metrics={"loss": 0.25}))
    clock = time.strftime("%H:%M", time.localtime(1_005_400.0))
    assert f"Training 50 % step 7, loss 0.250, 1 h 30 min left, until {clock}" in capsys.readouterr().err
