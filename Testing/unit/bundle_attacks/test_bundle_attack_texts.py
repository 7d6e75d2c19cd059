"""Texts in a stranger's model deceive no reader and control no terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from MAESegmentLib.bundle import ModelStore, import_bundle
from MAESegmentLib.bundle.plain_text import name_problem, text_problem
from MAESegmentLib.bundle.spec import check_label_names
from MAESegmentLib.cli.main import main
from MAESegmentLib.errors import ConfigurationError
from MAESegmentLib.images.labels import Label
from MAESegmentLib.text import visible
from Testing.bundles import LABELS, save_tiny, tiny_spec
from Testing.hostile_bundles import (
    Entries,
    Refused,
    forged,
    write_zip,
)

ESC = "\x1b[2J"
MIRRORED = "\u202egnp.exe"


@pytest.mark.parametrize("text", [ESC, "\x9b2J", "a\x00b", MIRRORED, "\u2066x", "\ud800", "\u2028", "\U000e0041", "\r"])
@pytest.mark.parametrize(
    "where",
    [
        "description",
        "maesegment.licence",
        "maesegment.labels.0.name",
        "maesegment.labels.0.terminology.type.meaning",
        "maesegment.training.notes",
    ],
)
def test_text_that_controls_whoever_shows_it_is_refused(refused: Refused, text: str, where: str) -> None:
    refused("characters", change={where: f"x{text}"})


@pytest.mark.parametrize("name", ["\u200b", " \u200d ", "\u2060\u00ad", "\u2800", "\u3164", "\ufe0f", "\u0301"])
def test_a_name_that_shows_nothing_is_refused(refused: Refused, name: str) -> None:
    refused("shows nothing", change={"maesegment.labels.0.name": name})
    with pytest.raises(ConfigurationError, match="shows nothing"):
        check_label_names([name])


def test_names_in_any_script_are_plain_text() -> None:
    for name in (
        "海馬",
        "α",
        "Niño",
        "دماغ",
        "ढाँचा",
        "👩‍⚕️",
        "می\u200cخواهم",
        "क्\u200dष",
        "left (L) <5 mm> & more",
        "[/red]",
        "50 % of @home",
        "a$b",
    ):
        assert name_problem(name) == ""
        assert visible(name) == name


def test_markup_in_a_model_is_shown_and_not_obeyed(store: ModelStore, capsys: pytest.CaptureFixture[str]) -> None:
    markup = "[/red][bold]x[/bold] <b onclick='x'>y</b> =cmd|'/c calc'!A1"
    labels = (Label(1, markup), LABELS[1])
    spec = tiny_spec(labels=labels, description=markup, licence=markup, modality=markup, training={"cases": [markup]})
    save_tiny(store.folder_for("tiny-mr", "1.0.0"), spec)
    for command in (["list"], ["show", "tiny-mr"]):
        assert main(["models", *command]) == 0
        out = "".join(capsys.readouterr().out.split())
        assert "[/red][bold]x[/bold]" in out


def test_a_card_is_shown_as_plain_text(
    entries: Entries, store: ModelStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = f"# Card {ESC}\x9b {MIRRORED}\n\n\xff".encode("latin-1", errors="ignore") + b"\xff\xfe"
    bad = forged(entries, {"docs/README.md": card, "LICENSE": b"\xff\xfe\x1b[2J"})
    imported = import_bundle(write_zip(tmp_path / "m.zip", bad), store)
    assert not text_problem(imported.card)
    assert main(["models", "show", "tiny-mr", "--card"]) == 0
    assert "\x1b[2J" not in capsys.readouterr().out
