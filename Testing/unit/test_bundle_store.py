"""Models are found by name, prefix, version or folder, and know their ancestors."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from MAESegmentLib.bundle import Bundle, ModelStore, import_bundle, open_bundle
from MAESegmentLib.bundle.library import ModelLibrary
from MAESegmentLib.errors import BundleError, ConfigurationError
from MAESegmentLib.samples import SAMPLE_MODEL
from MAESegmentLib.storage.user_folders import default_shipped_folder
from Testing.bundles import autoencoder_spec, save_tiny, tiny_spec


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shipped `tiny-mr` 1.0.0 with children 1.1.0 and 1.10.0 and grandchild 1.2.0 (of 1.1.0), and two other models."""
    root = tmp_path_factory.mktemp("family")
    store = ModelStore(root / "user", shipped_folder=root / "shipped")

    def child(version: str, parent: Bundle) -> Bundle:
        spec = tiny_spec(version=version, parent=parent.reference)
        return save_tiny(store.folder_for("tiny-mr", version), spec)

    shipped = save_tiny(root / "shipped" / "tiny-mr")
    grandparent = child("1.1.0", shipped)
    child("1.10.0", shipped)
    child("1.2.0", grandparent)
    save_tiny(root / "shipped" / "tiny-ct", tiny_spec(name="tiny-ct", modality="CT"))
    save_tiny(store.folder_for("tiny-mr-mae", "1.0.0"), autoencoder_spec(name="tiny-mr-mae"))
    return root


@pytest.fixture
def store(family: Path) -> ModelStore:
    return ModelStore(family / "user", shipped_folder=family / "shipped")


def test_the_list_is_sorted_by_name_and_number(store: ModelStore) -> None:
    assert [f"{b.name}@{b.version}" for b in store.list()] == [
        "tiny-ct@1.0.0",
        "tiny-mr@1.0.0",
        "tiny-mr@1.1.0",
        "tiny-mr@1.2.0",
        "tiny-mr@1.10.0",
        "tiny-mr-mae@1.0.0",
    ]


@pytest.mark.parametrize(
    ("what", "kind", "found"),
    [
        ("tiny-mr", None, "tiny-mr@1.10.0"),
        ("tiny-mr@1.1.0", None, "tiny-mr@1.1.0"),
        ("tiny-c", None, "tiny-ct@1.0.0"),
        ("tiny-m", "segmentation", "tiny-mr@1.10.0"),
        ("{shipped}/tiny-ct", None, "tiny-ct@1.0.0"),
    ],
)
def test_a_model_is_found_by_name_beginning_version_or_folder(store: ModelStore, what: str, kind, found: str) -> None:
    bundle = store.find(what.format(shipped=store.shipped_folder), kind=kind)
    assert f"{bundle.name}@{bundle.version}" == found


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("tiny", "could mean any of tiny-ct, tiny-mr, tiny-mr-mae"),
        ("tiny-mr@3.0.0", r"no version 3\.0\.0.*\n.*1\.0\.0, 1\.1\.0, 1\.2\.0, 1\.10\.0"),
        *((name, r"no model called .*\n.*tiny-ct, tiny-mr, tiny-mr-mae") for name in ("liver", "", "@1.0.0")),
    ],
)
def test_what_is_not_found_lists_what_exists(store: ModelStore, what: str, said: str) -> None:
    with pytest.raises(BundleError) as caught:
        store.find(what)
    assert re.search(said, str(caught.value))


def test_versions_form_a_tree(store: ModelStore) -> None:
    root, grandchild = store.find("tiny-mr@1.0.0"), store.find("tiny-mr@1.2.0")
    assert [b.version for b in store.children(root)] == ["1.1.0", "1.10.0"]
    assert [b.version for b in store.ancestors(grandchild)] == ["1.1.0", "1.0.0"]
    assert store.ancestors(root) == []


def test_one_damaged_model_hides_no_other(family: Path, tmp_path: Path) -> None:
    user = tmp_path / "user"
    shutil.copytree(family / "user", user)
    (user / "tiny-mr" / "1.10.0" / "configs" / "metadata.json").write_text("{}")
    (user / ".left-over.part").mkdir()
    (user / "notes.txt").write_text("mine")
    store = ModelStore(user, shipped_folder=family / "shipped")
    bundles, problems = store.scan()
    assert len(bundles) == 5
    assert [folder.name for folder, _ in problems] == ["1.10.0"]
    assert store.next_version("tiny-mr") == "1.11.0"


def test_a_damaged_model_is_not_found_as_if_it_were_whole(family: Path, tmp_path: Path) -> None:
    shutil.copytree(family / "shipped" / "tiny-ct", tmp_path / "tiny-ct")
    (tmp_path / "tiny-ct" / "LICENSE").write_text("changed")
    store = ModelStore(tmp_path / "none", shipped_folder=tmp_path)
    with pytest.raises(BundleError, match="LICENSE"):
        store.find("tiny-ct")
    (tmp_path / "tiny-ct" / "configs" / "metadata.json").write_text("{}")
    with pytest.raises(BundleError, match="missing"):
        store.find("tiny-ct")


def test_an_empty_store_says_how_to_get_a_model(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "a", shipped_folder=tmp_path / "b")
    assert store.list() == []
    with pytest.raises(BundleError) as caught:
        store.find("hippocampus")
    assert "import one" in caught.value.hint


def test_shipped_models_are_found_inside_an_installed_package(family: Path, tmp_path: Path) -> None:
    import MAESegmentLib

    package = Path(MAESegmentLib.__file__).parent
    shutil.copytree(package, tmp_path / "MAESegmentLib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(family / "shipped", tmp_path / "MAESegmentLib" / "Resources" / "Models")
    code = "from MAESegmentLib.bundle import ModelStore; print(*(b.path for b in ModelStore('none').list()), sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert [Path(line).name for line in done.stdout.split()] == ["tiny-ct", "tiny-mr"]
    assert all(line.startswith(str(tmp_path.resolve())) for line in done.stdout.split())


def test_every_shipped_model_is_intact_and_small() -> None:
    for folder in (folder for folder in default_shipped_folder().iterdir() if folder.is_dir()):
        bundle = open_bundle(folder)
        assert bundle.name == folder.name
        assert bundle.size_bytes <= 12 * 2**20
        assert bundle.load_autoencoder() is not None
        bundle.load_network()
    assert ModelStore().find(SAMPLE_MODEL).name == SAMPLE_MODEL


# Names that are not written out ---------------------------------------------------------------------------------------


@pytest.fixture
def named(tmp_path: Path) -> ModelStore:
    """Shipped `hip-mr` and `head-ct`; the user's own `liver-mine`."""
    store = ModelStore(tmp_path / "user", shipped_folder=tmp_path / "shipped")
    for name in ("hip-mr", "head-ct"):
        save_tiny(store.shipped_folder / name, tiny_spec(name=name))
    save_tiny(store.folder_for("liver-mine", "1.0.0"), tiny_spec(name="liver-mine"))
    return store


def _import(store: ModelStore, name: str, tmp_path: Path, **how: Any) -> list[str]:
    """The model `name` of a stranger joins; what was reported."""
    notes: list[str] = []
    folder = tmp_path / "stranger" / name
    if not folder.is_dir():
        save_tiny(folder, tiny_spec(name=name))
    import_bundle(folder, store, report=notes.append, **how)
    return notes


def _meanings(store: ModelStore) -> dict[str, str]:
    """What every beginning of every name means, for those that mean something."""
    found = {}
    texts = {bundle.name[:end] for bundle in store.list() for end in range(1, len(bundle.name) + 1)}
    for text in texts:
        for kind in (None, "segmentation"):
            with contextlib.suppress(BundleError):
                found[f"{text} {kind}"] = store.find(text, kind=kind).name
    return found


@pytest.mark.parametrize("name", ["hip", "h", "hip-m", "liver", "liver-min", "head-c"])
def test_an_import_never_takes_over_what_another_model_is_called_for_short(
    named: ModelStore, tmp_path: Path, name: str
) -> None:
    before = _meanings(named)
    with pytest.raises(BundleError, match=f"{name!r}, which is short for") as refused:
        _import(named, name, tmp_path)
    assert "another name" in refused.value.hint
    assert _meanings(named) == before
    _import(named, name, tmp_path, allow_name=True)
    assert named.find(name).name == name


@pytest.mark.parametrize("name", ["hip-mr2", "hip-mrs", "hipster", "head-ct-x", "aaa"])
def test_an_import_changes_what_no_name_meant(named: ModelStore, tmp_path: Path, name: str) -> None:
    before = _meanings(named)
    assert _import(named, name, tmp_path) == []
    assert before.items() <= _meanings(named).items()
    assert named.find(name).name == name


def test_an_import_that_makes_a_short_name_ambiguous_says_so(named: ModelStore, tmp_path: Path) -> None:
    (note,) = _import(named, "liver-other", tmp_path)
    assert note.startswith("liver-mine can no longer be called 'liver-'")
    with pytest.raises(BundleError, match="liver-mine, liver-other"):
        named.find("liver")
    assert named.find("liver-m").name == "liver-mine"


def test_a_damaged_shipped_model_is_not_replaced_by_another_that_begins_so(named: ModelStore, tmp_path: Path) -> None:
    _import(named, "hip-x", tmp_path)
    (named.shipped_folder / "hip-mr" / "configs" / "metadata.json").write_text("{}")
    with pytest.raises(BundleError, match=r"metadata\.json"):
        named.find("hip")
    assert named.find("hip-x").name == "hip-x"


def test_an_imported_model_is_used_only_where_it_is_chosen(named: ModelStore, tmp_path: Path) -> None:
    _import(named, "aaa", tmp_path)
    assert ModelLibrary(named).default().name == "head-ct", "what a panel shows first"


@pytest.mark.parametrize("none", [None, ""])
def test_without_a_name_the_only_model_is_meant_and_no_anatomy_is_guessed(named: ModelStore, none: str | None) -> None:
    with pytest.raises(ConfigurationError, match="Which model") as caught:
        ModelLibrary(named).find(none)
    assert all(bundle.name in caught.value.hint for bundle in named.list() if bundle.kind == "segmentation")
    for name in {bundle.name for bundle in named.list()} - {"head-ct"}:
        for folder in (named.shipped_folder / name, named.user_folder / name):
            shutil.rmtree(folder, ignore_errors=True)
    assert ModelLibrary(named).find(none).name == "head-ct"


def test_a_name_whose_selected_version_is_gone_means_the_shipped_one(named: ModelStore, tmp_path: Path) -> None:
    stranger = save_tiny(tmp_path / "stranger" / "hip-mr", tiny_spec(name="hip-mr", version="9.0.0"))
    import_bundle(stranger.path, named)
    assert named.find("hip-mr").version == "1.0.0"
    shutil.rmtree(named.shipped_folder / "hip-mr")  # as an update of MAESegment does
    save_tiny(named.shipped_folder / "hip-mr", tiny_spec(name="hip-mr", version="1.1.0"))
    assert named.find("hip").version == "1.1.0"
    assert ModelLibrary(named).meant("hip-mr") == named.meant()["hip-mr"] == named.find("hip-mr")
