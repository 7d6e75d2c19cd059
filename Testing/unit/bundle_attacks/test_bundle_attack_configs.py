"""What MONAI would evaluate in a model from a stranger is replaced, refused or named, and never runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from MAESegmentLib.bundle import ModelStore, export_bundle, import_bundle, open_bundle
from MAESegmentLib.bundle.monai_config import inference_file
from MAESegmentLib.bundle.plain_text import neutral
from MAESegmentLib.cli.doctor_checks import check_models
from MAESegmentLib.cli.main import main
from MAESegmentLib.errors import BundleError, ConfigurationError
from MAESegmentLib.images.labels import Label
from Testing.bundles import LABELS, autoencoder_spec, save_tiny, tiny_spec
from Testing.hostile_bundles import (
    Entries,
    Refused,
    entries_of,
    forged,
    write_folder,
    write_zip,
)

INFERENCE = "configs/inference.json"
ESC = "\x1b[2J"
MIRRORED = "\u202egnp.exe"


def poisoned_configs(canary: Path) -> dict[str, bytes]:
    """Each makes `monai.bundle run` touch the canary, or something like it."""
    touch = f"__import__('pathlib').Path({str(canary)!r}).touch()"
    configs: dict[str, Any] = {
        "expression": {"run": [f"${touch}"]},
        "target": {"x": {"_target_": "os.system", "command": f"touch {canary}"}, "run": ["$@x"]},
        "beside ours": {**json.loads(inference_file_of(tiny_spec())), "initialize": [f"${touch}"]},
        "no config": [],
    }
    return {name: json.dumps(config).encode() for name, config in configs.items()} | {"no JSON": b"\x00"}


def inference_file_of(spec: Any) -> bytes:
    own = {"kind": spec.kind, "channels": spec.channels, "inference": spec.inference}
    config = inference_file({"maesegment": own})
    assert config is not None
    return config


@pytest.mark.parametrize("kind", poisoned_configs(Path()))
@pytest.mark.parametrize("as_folder", [False, True], ids=["zip", "folder"])
def test_the_config_that_came_with_a_model_is_replaced(
    entries: Entries, store: ModelStore, tmp_path: Path, canary: Path, kind: str, as_folder: bool
) -> None:
    bad = forged(entries, {INFERENCE: poisoned_configs(canary)[kind]})
    source = write_folder(tmp_path / "bad", bad) if as_folder else write_zip(tmp_path / "bad.zip", bad)
    notes: list[str] = []
    imported = import_bundle(source, store, report=notes.append)
    assert (imported.path / INFERENCE).read_bytes() == inference_file_of(tiny_spec())
    assert len(notes) == 1
    assert "replaced" in notes[0]
    assert import_bundle(source, store, report=notes.append).content_hash == imported.content_hash
    open_bundle(imported.path).load_network()
    assert main(["models", "verify"]) == 0
    assert not canary.exists()


def test_an_autoencoder_keeps_no_config_that_it_does_not_need(store: ModelStore, tmp_path: Path, canary: Path) -> None:
    mae = entries_of(save_tiny(tmp_path / "mae", autoencoder_spec()))
    bad = forged(mae, {INFERENCE: poisoned_configs(canary)["expression"]})
    imported = import_bundle(write_zip(tmp_path / "bad.zip", bad), store)
    assert not (imported.path / INFERENCE).exists()
    assert open_bundle(imported.path).load_autoencoder() is not None


def test_verify_names_a_poisoned_model_that_was_imported_before_this_was_checked(
    entries: Entries, store: ModelStore, canary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = forged(entries, {INFERENCE: poisoned_configs(canary)["expression"]})
    folder = write_folder(store.folder_for("tiny-mr", "1.0.0"), bad)
    for command in (["models", "verify"], ["models", "verify", "tiny-mr"], ["models", "verify", str(folder)]):
        assert main(command) == 1
        out = capsys.readouterr().out
        assert "UNSAFE   tiny-mr" in out or f"UNSAFE   {folder}" in out
        assert "inference.json" in out
        assert "intact   tiny-mr" not in out
    assert any("inference.json" in finding.fact for finding in check_models(store)), "the doctor warns, too"
    with pytest.raises(BundleError, match=r"inference\.json"):
        export_bundle(open_bundle(folder), tmp_path / "out.zip")
    store.find("tiny-mr").load_network()
    assert not canary.exists()


@pytest.mark.parametrize(
    "text",
    ["$import antigravity", "$1", "%/etc/hosts.json", "%", "see @####x", "see %##x", "@::::x"],
)
@pytest.mark.parametrize("where", ["description", "training", "metrics", "key"])
def test_metadata_that_monai_would_evaluate_is_refused(refused: Refused, text: str, where: str) -> None:
    changes = {
        "description": {"description": text},
        "key": {"maesegment.training": {text: 1}},
    }
    change = changes.get(where, {f"maesegment.{where}": {"notes": [{"deep": text}]}})
    refused("MONAI would evaluate", change=change)


@pytest.mark.parametrize("name", ["$print(1)", "@bundle", "%network", "@bundle#x", "a\nb", "x" * 201, ESC, MIRRORED])
def test_a_channel_or_label_name_cannot_reach_into_the_config(refused: Refused, name: str) -> None:
    refused("channels|characters|MONAI", change={"maesegment.channels": [name]})
    with pytest.raises(ConfigurationError, match="channel name"):
        tiny_spec(channels=(name,))
    if not name.startswith("@"):
        with pytest.raises(ConfigurationError, match="label name"):
            tiny_spec(labels=(Label(1, name), LABELS[1]))


def test_notes_that_quote_anything_do_not_keep_a_training_from_being_saved(tmp_path: Path) -> None:
    notes = ["$left was dropped", "50 %## and @##", f"{ESC}{MIRRORED}\r\nend", "plain"]
    kept = save_tiny(tmp_path / "m", tiny_spec(training={"notes": notes})).metadata["maesegment"]["training"]["notes"]
    assert kept == [" $left was dropped", "50 % ## and @ ##", r"\x1b[2J\u202egnp.exe\r" "\nend", "plain"]
    assert [neutral(note) for note in kept] == kept
