"""A model goes out as a zip and comes in again as it was; what strangers send is in bundle_attacks."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from MAESegmentLib.bundle import Bundle, ModelStore, export_bundle, import_bundle
from MAESegmentLib.errors import BundleError, OutputError
from Testing.bundles import save_tiny


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return save_tiny(tmp_path_factory.mktemp("bundle") / "tiny-mr")


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models", shipped_folder=tmp_path / "none")


def test_an_exported_model_is_imported_as_it_was(bundle: Bundle, store: ModelStore, tmp_path: Path) -> None:
    notes: list[str] = []
    imported = import_bundle(export_bundle(bundle, tmp_path / "tiny.zip"), store, report=notes.append)
    assert (imported.content_hash, notes) == (bundle.content_hash, [])
    assert imported.path == (store.user_folder / "tiny-mr" / "1.0.0").resolve()
    assert store.find("tiny-mr").content_hash == bundle.content_hash
    assert sorted(p.name for p in store.user_folder.iterdir()) == [".lock", "tiny-mr"]


def test_export_gives_the_same_bytes_every_time(bundle: Bundle, tmp_path: Path) -> None:
    first = export_bundle(bundle, tmp_path / "a.zip").read_bytes()
    os.utime(bundle.path / "LICENSE", (0, 0))
    assert export_bundle(bundle, tmp_path / "b.zip").read_bytes() == first


def test_export_needs_a_zip_name_and_a_folder(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="not the name of a zip"):
        export_bundle(bundle, tmp_path / "tiny.tar")
    with pytest.raises(OutputError):
        export_bundle(bundle, tmp_path / "missing" / "tiny.zip")


def test_a_second_import_and_another_model_of_the_same_name_and_version_change_nothing(
    bundle: Bundle, store: ModelStore, tmp_path: Path
) -> None:
    path = export_bundle(bundle, tmp_path / "tiny.zip")
    assert import_bundle(path, store) == import_bundle(path, store) == import_bundle(bundle.path, store)
    with pytest.raises(BundleError, match="another model"):
        import_bundle(export_bundle(save_tiny(tmp_path / "other", seed=5), tmp_path / "other.zip"), store)
    assert [one.content_hash for one in store.list()] == [bundle.content_hash]


def test_a_missing_zip_and_an_empty_folder_are_clear_errors(store: ModelStore, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="does not exist"):
        import_bundle(tmp_path / "missing.zip", store)
    with pytest.raises(BundleError, match="not a MAESegment model"):
        import_bundle(tmp_path, store)


def test_what_a_mac_adds_to_a_zip_is_not_imported(bundle: Bundle, store: ModelStore, tmp_path: Path) -> None:
    path = export_bundle(bundle, tmp_path / "mac.zip")
    with zipfile.ZipFile(path, "a") as archive:
        for name in ("__MACOSX/tiny-mr/._LICENSE", "tiny-mr/.DS_Store", "tiny-mr/docs/"):
            archive.writestr(name, b"mac" if "." in name else b"")
    imported = import_bundle(path, store)
    assert not list(imported.path.rglob(".*"))
