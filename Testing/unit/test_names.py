"""Names of files, labels and cases: nothing is lost, nothing is taken for markup, a control sequence or a formula."""

from __future__ import annotations

import ast
import csv
import html
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from MAESegmentLib.app.texts.messages import tooltip
from MAESegmentLib.cli import terminal
from MAESegmentLib.cli.terminal import make_console, print_json, say
from MAESegmentLib.evaluation.metrics import Score, Status
from MAESegmentLib.evaluation.report import write_metrics_csv
from MAESegmentLib.images.archive import ArchivedScan, ArchiveIndex
from MAESegmentLib.images.labels import Label
from MAESegmentLib.images.volume import LabelMap, Volume
from MAESegmentLib.inference.batch import Batch, BatchPlan
from MAESegmentLib.inference.batch_table import DONE, VolumeRow, VolumeTable
from MAESegmentLib.inference.settings import Prediction
from MAESegmentLib.text import csv_cell, csv_text, plot_text, visible, visible_json
from MAESegmentLib.training.data.archive import Archive
from MAESegmentLib.training.data.streaming import SkippedScans
from MAESegmentLib.training.loop.distributed import SOLO
from MAESegmentLib.training.loop.runlog import RunLog, read_log
from MAESegmentLib.training.saving import dice_markdown, draw_curves
from Testing.datasets import save

FORMULA = "=+-@"
#: What was seen to go wrong, or is known to.
HARD = [
    "two  spaces",
    " lead and trail ",
    "tab\there",
    "line\nbreak\r\n",
    "[/red] [bold]x[/bold] :smile:",
    "\x1b[31mred\x1b[0m",
    "\x9b31m",
    "right\u202eto left",
    "=cmd|' /C calc'!A0",
    "'=quoted",
    "-1+1",
    '"quoted", and comma',
    "海馬 α 🧠",
    b"M\xfcller".decode("utf-8", "surrogateescape"),
]


@pytest.mark.parametrize("text", HARD)
def test_nothing_in_a_name_acts(text: str) -> None:
    shown = visible(text)
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in shown)
    assert shown.encode("utf-8")
    assert visible(shown) == shown


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf", "Zl", "Zp"])))
def test_what_can_be_shown_is_shown_as_it_is(text: str) -> None:
    assert visible(text) == text


@given(st.text())
def test_a_cell_is_one_line_no_formula_and_gives_back_the_name(text: str) -> None:
    cell = csv_cell(text)
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerow([cell, "1"])
    assert stream.getvalue().count("\n") == 1
    assert next(csv.reader([stream.getvalue()])) == [cell, "1"]
    assert not cell.startswith(tuple(FORMULA))
    assert csv_text(cell) == visible(text)


@given(st.text(alphabet=f"'{FORMULA}a", max_size=5), st.text(alphabet=f"'{FORMULA}a", max_size=5))
def test_two_names_are_two_cells(one: str, other: str) -> None:
    assert (csv_cell(one) == csv_cell(other)) == (one == other)


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"]))
    )
)
def test_json_for_programs_says_the_same_without_acting(value: dict[str, str]) -> None:
    text = visible_json(json.dumps(value, ensure_ascii=False))
    assert json.loads(text) == value
    assert visible(text) == text


@pytest.mark.parametrize("name", HARD)
def test_the_terminal_shows_a_name_as_it_is(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    console = make_console()
    console.width = 300
    table = Table(title=name)
    table.add_column(name)
    table.add_row(name)
    table.add_row(Text(name))
    console.print(table, style="bold")
    console.print(name, soft_wrap=True)
    say(name)
    print_json({"name": name})
    out = capsys.readouterr().out
    assert not set(out) & {"\x1b", "\x9b", "\u202e", "\r", "\udcfc"}
    assert out.count(visible(name, "\n\t").split()[-1]) >= 5


def test_a_terminal_of_another_encoding_is_no_reason_to_fail() -> None:
    words = ["evaluate", "--data", "海馬", "-o", "x", "-m", "m"]
    code = f"from MAESegmentLib.cli.main import main; raise SystemExit(main({words}))"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
    assert ended.returncode == 2
    assert rb"\u6d77\u99ac does not exist." in ended.stderr


def test_metrics_keep_names_and_compute_nothing(tmp_path: Path) -> None:
    scores = [Score(name, name, Status.OK, volume_error_ml=-0.5) for name in HARD]
    rows = list(csv.DictReader(write_metrics_csv(tmp_path / "m.csv", scores).read_text().splitlines()))
    assert [csv_text(row["case"]) for row in rows] == [visible(name) for name in HARD]
    assert {row["volume_error_ml"] for row in rows} == {"-0.5"}
    assert not any(row[column].startswith(tuple(FORMULA)) for row in rows for column in ("case", "label"))


def test_curves_of_labels_of_any_name_are_read_again(tmp_path: Path) -> None:
    log = RunLog(tmp_path, resume_step=0)
    log.validation(1, dict.fromkeys(("=1+1", "a,b", "left  lung"), 0.5))
    assert read_log(tmp_path / "validation.csv") == [{"step": 1.0, "=1+1": 0.5, "a,b": 0.5, "left  lung": 0.5}]


labels = st.lists(st.text(max_size=6).filter(lambda text: text.strip()), min_size=1, max_size=4).map(
    lambda names: [Label(value, name) for value, name in enumerate(names, start=1)]
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.text(max_size=20), min_size=1, max_size=3), labels=labels)
def test_a_row_of_any_names_is_read_as_it_was_written(tmp_path_factory, names: list[str], labels: list[Label]) -> None:
    folder = tmp_path_factory.mktemp("table")
    table = VolumeTable(folder, labels)
    ml = {label.value: float(label.value) for label in labels}
    for number, name in enumerate(names):
        row = VolumeRow(f"{number}", name, DONE, name, "s", "f", name, name, 1.0, name, 5, "cpu", 0, name, ml)
        table.put(row)
    rows = VolumeTable(folder, labels).rows()
    assert [rows[f"{number}"].volume for number in range(len(names))] == [visible(name) for name in names]
    assert all(row.ml == ml for row in rows.values())
    assert len((folder / "volumes.csv").read_text().split("\n")) == len(names) + 2


class Empty:
    """Finds nothing in any scan."""

    def __init__(self) -> None:
        self.count = 0

    def predict(self, volume: Volume, **_how: object) -> Prediction:
        self.count += 1
        return Prediction(LabelMap(np.zeros(volume.grid.shape, np.uint8), volume.ijk_to_ras), 0.0, "cpu")


@pytest.mark.parametrize("name", [*HARD, "x" * 248, "é" * 120, "a/b c  d/e"])
def test_a_batch_of_files_of_any_name_ends_and_is_not_done_again(tmp_path: Path, name: str) -> None:
    scans = tmp_path / "scans"
    path = scans / f"{name.replace('/', os.sep)}.nii"
    path.parent.mkdir(parents=True, exist_ok=True)
    save(path.with_name("x.nii"), np.random.default_rng(0).random((4, 4, 4), np.float32), np.eye(4))
    path.with_name("x.nii").rename(path)
    out = tmp_path / "out"
    out.mkdir()
    predictor = Empty()
    for _ in range(2):
        found = ArchiveIndex(out / "index.jsonl").scans([scans])
        batch = Batch(BatchPlan(out, found), [Label(1, "x")])
        batch.run(predictor)
    assert predictor.count == 1
    (row,) = batch.rows().values()
    assert (row.status, row.reason) == (DONE, "")
    assert [file.name for file in out.rglob("*.seg.nrrd")] == [Path(batch._outputs[row.key]).name]


def test_scans_whose_names_are_one_file_on_some_systems_have_results_of_their_own(tmp_path: Path) -> None:
    names = ["Front", "front", "é", "e\u0301", "y" * 300, "y" * 301]
    scans = [ArchivedScan(name, tmp_path / f"{number}") for number, name in enumerate(names)]
    outputs = BatchPlan(tmp_path, scans).outputs().values()
    assert len({output.casefold() for output in outputs}) == len(names)
    assert all(len(os.fsencode(Path(output).name)) <= 255 for output in outputs)


def test_commands_print_through_the_terminal_module_alone() -> None:
    folder = Path(terminal.__file__).parent
    calls = {
        (file.name, call.func.id)
        for file in folder.glob("*.py")
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in ("print", "Console")
    }
    assert {name for name, _ in calls} <= {"terminal.py"}


def test_a_tooltip_shows_a_name_and_not_the_html_it_may_look_like() -> None:
    assert tooltip("two\nlines") == "two\nlines"
    shown = tooltip("<img src='file:///etc/passwd'> & <b>x</b>\nnext")
    assert not {"<img", "<b>"} & set(re.findall(r"<[a-z]+>?", shown))
    assert html.unescape(re.sub("<[^>]*>", "", shown)).startswith("<img src='file:///etc/passwd'> & <b>x</b>")


def test_no_label_of_the_panel_takes_its_text_for_html() -> None:
    plugin = Path(__file__).resolve().parents[2] / "MAESegment"
    code = "\n".join(file.read_text(encoding="utf-8") for file in (plugin / "MAESegmentPlugin").glob("*.py"))
    set_there = set(re.findall(r"(\w+Label)\.text = ", code))
    (window,) = plugin.glob("Resources/UI/*.ui")
    plain = {
        widget.get("name")
        for widget in ElementTree.parse(window).iter("widget")
        if any(one.get("name") == "textFormat" and "PlainText" in "".join(one.itertext()) for one in widget)
    }
    assert set_there
    assert set_there <= plain


@pytest.mark.parametrize("name", [*HARD, "$\\x$", "a $b$", "_hidden", "x|y"])
def test_curves_cards_and_previews_show_a_name_as_it_is(name: str, tmp_path: Path) -> None:
    log = RunLog(tmp_path, resume_step=0)
    log.training(1, {"loss": 1.0})
    log.validation(1, {name: 0.5})
    assert draw_curves(tmp_path).startswith(b"\x89PNG")
    assert plot_text(name).replace("\\$", "$").strip() == visible(name, "\n").strip()
    assert not plot_text(name).startswith("_")
    (_, _, heading, _, row) = dice_markdown("t", None, {name: 0.5}).split("\n")
    assert len(re.findall(r"(?<!\\)\|", row)) == heading.count("|")


def test_scans_of_any_name_are_noted_as_skipped_once_and_told_apart(tmp_path: Path) -> None:
    scans = tuple(ArchivedScan(name, tmp_path / f"{number}") for number, name in enumerate(HARD))
    archive = Archive(scans, held_out_share=0.5)
    assert len(archive.training) + len(archive.held_out) == len(HARD)
    assert archive.identity != Archive(scans[:-1]).identity
    for _ in range(2):
        skipped = SkippedScans(tmp_path, SOLO)
        skipped.note((name, "=cmd") for name in HARD)
        assert all(name in skipped for name in HARD)
    assert "another" not in skipped
    assert sorted(name for name, _ in skipped.merge()) == sorted(map(visible, HARD))
    assert not any(row.startswith(tuple(FORMULA)) for row in (tmp_path / "skipped.csv").read_text().splitlines())
