"""Versions are added, selected and removed such that a name always means what the user chose."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from MAESegmentLib.bundle import Bundle, ModelStore, VersionTaken, export_bundle, import_bundle, open_bundle
from MAESegmentLib.cli.main import main
from MAESegmentLib.errors import BundleError, OutputError
from MAESegmentLib.storage.atomic_folder import lock_beside
from Testing.bundles import autoencoder_spec, save_tiny, tiny_spec

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished bundles outside of any store: shipped/tiny-mr 1.0.0, its child 1.1.0, and that one's child 1.2.0."""
    root = tmp_path_factory.mktemp("made")
    parent = save_tiny(root / "shipped" / "tiny-mr")
    for number, version in enumerate(("1.1.0", "1.2.0"), start=1):
        parent = save_tiny(root / version, tiny_spec(version=version, parent=parent.reference), seed=number)
    save_tiny(root / "other 1.1.0", tiny_spec(version="1.1.0"), seed=9)
    return root


@pytest.fixture
def store(made: Path, tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "Modelle ä", shipped_folder=made / "shipped")


def test_a_new_version_is_there_but_not_what_the_name_means(store: ModelStore, made: Path) -> None:
    added = store.add(made / "1.1.0")
    assert added.path == store.folder_for("tiny-mr", "1.1.0").resolve()
    assert [bundle.version for bundle in store.list()] == ["1.0.0", "1.1.0"]
    assert store.find("tiny-mr").version == "1.0.0"
    store.select(added)
    assert store.find("tiny-mr").version == "1.1.0"
    store.add(made / "1.2.0")
    assert store.find("tiny-mr").version == store.selected("tiny-mr").version == "1.1.0"
    store.select(store.find("tiny-mr@1.0.0"))
    assert ModelStore(store.user_folder, shipped_folder=store.shipped_folder).find("tiny").version == "1.0.0"


def test_a_name_that_nothing_had_means_its_first_version(store: ModelStore, tmp_path: Path) -> None:
    store.add(save_tiny(tmp_path / "mine", tiny_spec(name="mine")).path)
    assert store.find("mine").version == "1.0.0"
    assert store.selected("mine") is None


def test_what_is_there_already_is_not_added_again(store: ModelStore, made: Path) -> None:
    first = store.add(made / "1.1.0")
    inode = first.path.stat().st_ino
    assert store.add(made / "1.1.0") == first
    assert first.path.stat().st_ino == inode


def test_a_version_never_changes(store: ModelStore, made: Path) -> None:
    first = store.add(made / "1.1.0")
    with pytest.raises(VersionTaken, match=r"another model tiny-mr 1\.1\.0"):
        store.add(made / "other 1.1.0")
    assert open_bundle(first.path).content_hash == first.content_hash


def test_the_folder_of_a_damaged_version_is_taken(store: ModelStore, made: Path) -> None:
    folder = store.folder_for("tiny-mr", "1.1.0") / "configs"
    folder.mkdir(parents=True)
    (folder / "metadata.json").write_text("{}")
    with pytest.raises(VersionTaken):
        store.add(made / "1.1.0")
    assert (folder / "metadata.json").read_text() == "{}"


def test_a_damaged_bundle_is_not_added(store: ModelStore, made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "1.1.0", tmp_path / "copy")
    (tmp_path / "copy" / "LICENSE").write_text("changed")
    with pytest.raises(BundleError, match="LICENSE"):
        store.add(tmp_path / "copy")
    assert not store.user_folder.exists()


@pytest.mark.parametrize("content", ["", "[]", '{"tiny-mr": 3}', "\x00\xff", '{"tiny-mr"'])
def test_a_selection_that_says_nothing_is_ignored(store: ModelStore, made: Path, content: str) -> None:
    store.add(made / "1.1.0")
    file = store.user_folder / "selected.json"
    assert json.loads(file.read_text()) == {"tiny-mr": "1.0.0"}
    file.write_text(content, encoding="latin-1")
    assert store.selected("tiny-mr") is None
    assert store.find("tiny-mr").version == "1.1.0"
    store.select(store.find("tiny-mr@1.0.0"))
    assert store.find("tiny-mr").version == "1.0.0"


def test_only_a_model_of_the_store_can_be_selected(store: ModelStore, made: Path) -> None:
    with pytest.raises(BundleError, match="not among your models"):
        store.select(open_bundle(made / "1.1.0"))


def test_a_selected_autoencoder_does_not_hide_the_models_that_segment(store: ModelStore, tmp_path: Path) -> None:
    encoder = autoencoder_spec(name="tiny-mr", version="0.9.0")
    store.select(store.add(save_tiny(tmp_path / "mae", encoder).path))
    assert store.find("tiny-mr").kind == "autoencoder"
    assert store.find("tiny-mr", kind="segmentation").version == "1.0.0"


def test_removing_the_selected_version_selects_its_parent(store: ModelStore, made: Path) -> None:
    store.add(made / "1.1.0")
    store.remove(store.add(made / "1.2.0"))
    assert store.find("tiny-mr").version == "1.0.0", "another version leaves the selection"
    last = store.add(made / "1.2.0")
    store.select(last)
    store.remove(last)
    assert [bundle.version for bundle in store.list()] == ["1.0.0", "1.1.0"]
    assert store.find("tiny-mr").version == "1.1.0"
    assert not last.path.exists()
    assert not [*store.user_folder.rglob(".*.removed*")]
    store.remove(store.find("tiny-mr"))
    assert store.find("tiny-mr").version == "1.0.0"
    assert not (store.user_folder / "tiny-mr").exists()


def test_what_others_depend_on_cannot_be_removed(store: ModelStore, made: Path, tmp_path: Path) -> None:
    middle = store.add(made / "1.1.0")
    store.add(made / "1.2.0")
    foreign = save_tiny(tmp_path / "foreign")
    for bundle, reason in (
        (middle, "made from it: tiny-mr@1.2.0"),
        (store.find("tiny-mr@1.0.0"), "comes with MAESegment"),
        (foreign, "not among your models"),
    ):
        assert reason in store.removable(bundle)
        with pytest.raises(BundleError, match=reason):
            store.remove(bundle)
        assert open_bundle(bundle.path).content_hash == bundle.content_hash
    assert store.removable(store.find("tiny-mr@1.2.0")) == ""


def test_nothing_changes_where_nothing_can_be_written(store: ModelStore, made: Path) -> None:
    """A file where the folder should be; permissions would not stop root."""
    store.user_folder.write_text("")
    with pytest.raises(OutputError, match="cannot be made"):
        store.add(made / "1.1.0")
    with pytest.raises(OutputError):
        store.select(store.find("tiny-mr"))


def test_the_next_version(store: ModelStore, made: Path) -> None:
    store.add(made / "1.2.0")
    assert store.next_version("tiny-mr") == "1.3.0"
    assert store.next_version("tiny-mr", major=True) == "2.0.0"
    assert store.next_version("new") == store.next_version("new", major=True) == "1.0.0"


def test_the_family_is_named_after_the_first_model_that_segments(store: ModelStore, made: Path, tmp_path: Path) -> None:
    encoder = store.add(save_tiny(tmp_path / "mae", autoencoder_spec()).path)
    mine = store.add(save_tiny(tmp_path / "mine", tiny_spec(name="mine", parent=encoder.reference)).path)
    yours = store.add(save_tiny(tmp_path / "yours", tiny_spec(name="yours", parent=mine.reference)).path)
    orphan = save_tiny(tmp_path / "orphan", tiny_spec(name="orphan", parent=open_bundle(made / "1.2.0").reference))
    assert store.root_of(encoder) == "tiny-mae"
    assert store.root_of(mine) == store.root_of(yours) == "mine"
    assert store.root_of(orphan) == "tiny-mr"


@pytest.mark.parametrize("chosen", [True, False], ids=["selected before", "meant as the highest"])
@pytest.mark.parametrize("order", [("1.1.0", "1.2.0"), ("1.2.0", "1.1.0")], ids=["newer", "older"])
def test_an_imported_version_is_never_what_the_name_means_by_itself(
    store: ModelStore, made: Path, tmp_path: Path, order: tuple[str, str], chosen: bool
) -> None:
    store = ModelStore(store.user_folder, shipped_folder=tmp_path / "none")
    own, foreign = order
    first = import_bundle(export_bundle(open_bundle(made / own), tmp_path / "own.zip"), store)
    assert store.find("tiny-mr").version == own
    if chosen:
        store.select(first)
    import_bundle(export_bundle(open_bundle(made / foreign), tmp_path / "foreign.zip"), store)
    assert store.find("tiny-mr").version == own
    store.select(store.find(f"tiny-mr@{foreign}"))
    assert store.find("tiny-mr").version == foreign


def test_the_next_writer_clears_what_a_killed_one_left(store: ModelStore, made: Path) -> None:
    """Whether its writer lives is what counts, never the time: a clock an hour off deletes nothing."""
    alive, dead = store.user_folder / ".import.new-1", store.user_folder / ".import.new-2"
    in_family = store.user_folder / "tiny-mr" / ".1.3.0.new-abc"
    under_lock = [store.user_folder / "tiny-mr" / ".1.4.0.removed-1", store.user_folder / ".adding-1.part"]
    private = store.user_folder / ".git"
    folders = (alive, dead, in_family, private, *under_lock)
    for folder in folders:
        (folder / "models").mkdir(parents=True)
    long_ago = time.time() - 7200
    for path in (alive, alive / "models"):
        os.utime(path, (long_ago, long_ago))
    lock_beside(dead).path.touch()
    lock_beside(in_family.with_name(".1.4.0.new-abc")).path.touch()
    lock = lock_beside(alive)
    lock.acquire()
    store.add(made / "1.1.0")
    assert [path for path in folders if path.exists()] == [alive, private]
    assert [*store.user_folder.rglob("*.new-*.lock")] == [lock.path]
    lock.release()
    store.add(made / "1.2.0")
    assert [path for path in folders if path.exists()] == [private]
    assert not [*store.user_folder.rglob("*.new-*.lock")]


# Several programs at once --------------------------------------------------------------------------------------------

ADD = """
import sys
from pathlib import Path
from MAESegmentLib.bundle import ModelStore, VersionTaken
store = ModelStore(sys.argv[1], shipped_folder=sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for folder in sys.argv[3:]:
    try:
        print(store.add(folder).content_hash, flush=True)
    except VersionTaken:
        print("taken", flush=True)
"""


def added_at_once(store: ModelStore, orders: list[list[Path]]) -> list[list[str]]:
    """What one process for each of `orders` says while all of them add their bundles at the same time."""
    fixed = [sys.executable, "-c", ADD, str(store.user_folder), str(store.shipped_folder)]
    started = [
        subprocess.Popen([*fixed, *map(str, order)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for order in orders
    ]
    assert [process.stdout.readline() for process in started] == ["ready\n"] * len(started)
    for process in started:
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=120)[0].split() for process in started]
    assert [process.returncode for process in started] == [0] * len(started)
    return said


def intact(store: ModelStore) -> list[Bundle]:
    bundles, problems = store.scan()
    assert problems == []
    return [open_bundle(bundle.path) for bundle in bundles]


def test_two_programs_add_models_at_once(store: ModelStore, made: Path) -> None:
    """The same ones both have added; of two of one version, one is refused."""
    first, second = added_at_once(store, [[made / "1.2.0"]] * 2)
    assert first == second == [open_bundle(made / "1.2.0").content_hash]
    said = [one for (one,) in added_at_once(store, [[made / "1.1.0"], [made / "other 1.1.0"]])]
    assert "taken" in said
    bundles = intact(store)
    assert [bundle.version for bundle in bundles] == ["1.0.0", "1.1.0", "1.2.0"]
    assert bundles[1].content_hash in said
    assert store.find("tiny-mr").version == "1.0.0"


# As a user types it ------------------------------------------------------------------------------------------------


@pytest.fixture
def shell(store: ModelStore, made: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    """The store that the `maesegment` command finds, with 1.0.0, its child 1.1.0 and that one's child 1.2.0."""
    monkeypatch.setenv("MAESEGMENT_MODELS", str(store.user_folder))
    monkeypatch.setenv("COLUMNS", "160")
    own = ModelStore()
    for folder in (made / "shipped" / "tiny-mr", made / "1.1.0", made / "1.2.0"):
        own.add(folder)
    return own


def listed(capsys: pytest.CaptureFixture[str]) -> list[list[object]]:
    """Indentation, version and mark of every line of `models list` about our model."""
    assert main(["models", "list"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("tiny-mr")]
    edge = min(len(line) - len(line.lstrip()) for line in lines)
    return [[len(line) - len(line.lstrip()) - edge, line.split()[1], "●" if "●" in line else ""] for line in lines]


@pytest.mark.usefixtures("shell")
def test_use_chooses_a_version_and_says_the_way_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(capsys) == [[0, "1.0.0", "●"], [2, "1.1.0", ""], [4, "1.2.0", ""]]
    assert main(["models", "use", "tiny-mr@1.2.0"]) == 0
    out = capsys.readouterr().out
    assert "now means version 1.2.0" in out
    assert "models use tiny-mr@1.0.0" in out
    assert [line[2] for line in listed(capsys)] == ["", "", "●"]
    assert main(["models", "list", "--json"]) == 0
    said = {m["version"]: m["used"] for m in json.loads(capsys.readouterr().out) if m["name"] == "tiny-mr"}
    assert said == {"1.0.0": False, "1.1.0": False, "1.2.0": True}
    assert main(["models", "use", "tiny-mr"]) == 2
    assert "1.0.0, 1.1.0, 1.2.0" in capsys.readouterr().err


def test_remove_asks_and_says_what_is_used_now(
    shell: ModelStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.select(shell.find("tiny-mr@1.2.0"))
    assert main(["models", "remove", "tiny-mr@1.2.0"]) == 2
    assert "--yes" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _question: "n")
    assert main(["models", "remove", "tiny-mr@1.2.0"]) == 130
    assert shell.find("tiny-mr").version == "1.2.0"
    monkeypatch.setattr("builtins.input", lambda _question: "y")
    assert main(["models", "remove", "tiny-mr@1.2.0"]) == 0
    assert "means version 1.1.0" in capsys.readouterr().out
    assert [bundle.version for bundle in shell.list() if bundle.name == "tiny-mr"] == ["1.0.0", "1.1.0"]


def test_a_damaged_version_can_be_removed(shell: ModelStore) -> None:
    (shell.folder_for("tiny-mr", "1.2.0") / "LICENSE").write_text("changed")
    assert main(["models", "remove", "tiny-mr@1.2.0", "-y"]) == 0
    assert not shell.folder_for("tiny-mr", "1.2.0").exists()
