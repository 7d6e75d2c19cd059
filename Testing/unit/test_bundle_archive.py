"""A zip becomes a model only if it is certainly nothing else; otherwise nothing changes."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pickle
import stat
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from MAESegmentLib.bundle import Bundle, ModelStore, export_bundle, import_bundle
from MAESegmentLib.bundle.metadata import content_hash, serialise
from MAESegmentLib.errors import BundleError, OutputError
from Testing.bundles import save_tiny

Entries = dict[str, bytes]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return save_tiny(tmp_path_factory.mktemp("bundle") / "tiny-mr")


@pytest.fixture(scope="module")
def entries(bundle: Bundle) -> Entries:
    files = [file for file in bundle.path.rglob("*") if file.is_file()]
    return {f"tiny-mr/{file.relative_to(bundle.path).as_posix()}": file.read_bytes() for file in files}


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models", shipped_folder=tmp_path / "none")


def write_zip(path: Path, entries: Entries, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def with_weights(entries: Entries, data: bytes) -> Entries:
    """`entries` with other bytes for the weights, correctly hashed: only the content gives them away."""
    metadata = json.loads(entries["tiny-mr/configs/metadata.json"])
    metadata["maesegment"]["files"]["models/model.pt"] = hashlib.sha256(data).hexdigest()
    metadata["maesegment"]["content_hash"] = content_hash(metadata)
    return {**entries, "tiny-mr/models/model.pt": data, "tiny-mr/configs/metadata.json": serialise(metadata)}


def assert_refused(path: Path, store: ModelStore, match: str | None = None) -> None:
    with pytest.raises(BundleError, match=match):
        import_bundle(path, store)
    left = [file for file in store.user_folder.rglob("*") if file.is_file()] if store.user_folder.exists() else []
    assert left == []
    assert not any(store.user_folder.parent.glob("evil*"))


def test_an_exported_model_is_imported_as_it_was(bundle: Bundle, store: ModelStore, tmp_path: Path) -> None:
    imported = import_bundle(export_bundle(bundle, tmp_path / "tiny.zip"), store)
    assert imported.content_hash == bundle.content_hash
    assert imported.path == (store.user_folder / "tiny-mr" / "1.0.0").resolve()
    assert store.find("tiny-mr").content_hash == bundle.content_hash
    assert sorted(p.name for p in store.user_folder.iterdir()) == [".lock", "tiny-mr"]


def test_export_gives_the_same_bytes_every_time(bundle: Bundle, tmp_path: Path) -> None:
    first = export_bundle(bundle, tmp_path / "a.zip").read_bytes()
    os.utime(bundle.path / "LICENSE", (0, 0))
    assert export_bundle(bundle, tmp_path / "b.zip").read_bytes() == first


def test_export_needs_a_zip_name_and_a_folder(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no zip file name"):
        export_bundle(bundle, tmp_path / "tiny.tar")
    with pytest.raises(OutputError):
        export_bundle(bundle, tmp_path / "missing" / "tiny.zip")


def test_importing_twice_changes_nothing(bundle: Bundle, store: ModelStore, tmp_path: Path) -> None:
    path = export_bundle(bundle, tmp_path / "tiny.zip")
    assert import_bundle(path, store) == import_bundle(path, store)
    assert len(store.list()) == 1


def test_another_model_under_a_taken_name_and_version_is_refused(
    bundle: Bundle, store: ModelStore, tmp_path: Path
) -> None:
    import_bundle(export_bundle(bundle, tmp_path / "tiny.zip"), store)
    other = export_bundle(save_tiny(tmp_path / "other", seed=5), tmp_path / "other.zip")
    with pytest.raises(BundleError, match="another model"):
        import_bundle(other, store)
    assert store.find("tiny-mr").content_hash == bundle.content_hash


@pytest.mark.parametrize(
    "name",
    [
        "../evil.txt",
        "tiny-mr/../../evil.txt",
        "tiny-mr/docs/../../../evil.md",
        "/tmp/evil.txt",
        "//evil.txt",
        "C:/evil.txt",
        "C:evil.txt",
        "tiny-mr\\..\\..\\evil.txt",
        "tiny-mr/docs/\\\\server\\evil.md",
        "tiny-mr/docs/a\x00.md",
        "tiny-mr/docs/a\n.md",
        "tiny-mr/./docs/evil.md",
        "",
    ],
)
def test_a_path_that_leaves_the_folder_is_refused(
    entries: Entries, store: ModelStore, tmp_path: Path, name: str
) -> None:
    # Written by hand, because zipfile itself tidies some of these names.
    info = zipfile.ZipInfo("placeholder")
    info.filename = name
    path = write_zip(tmp_path / "bad.zip", entries)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(info, b"evil")
    assert_refused(path, store, "unsafe path")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.sampled_from(["..", ".", "", "a", "docs", "C:", "tiny-mr", "~", "LICENSE", "\\"]), max_size=6))
def test_no_path_at_all_writes_outside_the_store(
    entries: Entries, tmp_path_factory: pytest.TempPathFactory, parts: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    store = ModelStore(folder / "inner" / "models", shipped_folder=folder / "none")
    path = write_zip(folder / "any.zip", {**entries, "/".join([*parts, "evil.md"]): b"evil"})
    with contextlib.suppress(BundleError):
        import_bundle(path, store)
    written = [file for file in folder.rglob("*") if file.is_file() and file != path]
    assert written == []


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_links_and_special_files_are_refused(entries: Entries, store: ModelStore, tmp_path: Path, kind: int) -> None:
    path = write_zip(tmp_path / "bad.zip", {k: v for k, v in entries.items() if not k.endswith("LICENSE")})
    info = zipfile.ZipInfo("tiny-mr/LICENSE")
    info.create_system = 3
    info.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(info, "/etc/passwd")
    assert_refused(path, store, "link")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda e: {k: v for k, v in e.items() if "metadata" not in k}, "metadata.json"),
        (lambda e: {k: v for k, v in e.items() if "model.pt" not in k}, "models/model.pt"),
        (lambda e: {**e, "tiny-mr/scripts/run.py": b"evil"}, r"run\.py"),
        (lambda e: {**e, "tiny-mr/docs/extra.md": b"more"}, "not part of it"),
        (lambda e: {**e, "other/LICENSE": b"more"}, "one folder|twice"),
        (lambda e: {**e, "LICENSE": b"more"}, "not part of a model"),
        (lambda e: {k.removeprefix("tiny-mr/"): v for k, v in e.items()}, "not part of a model"),
        (lambda e: {**e, "tiny-mr/license": b"more"}, "not part of a model"),
        (lambda e: {**e, "tiny-mr/docs/readme.md": b"more"}, "twice"),
        (lambda e: {**e, "tiny-mr/LICENSE": e["tiny-mr/LICENSE"] + b" "}, "damaged|saved"),
        (lambda e: {**e, "tiny-mr/configs/metadata.json": b"{}"}, "missing"),
        (lambda _: {f"tiny-mr/docs/{i}.md": b"" for i in range(300)}, "300 files"),
        (lambda _: {}, "one folder"),
    ],
)
def test_what_is_not_exactly_one_model_is_refused(
    entries: Entries, store: ModelStore, tmp_path: Path, change: Callable[[Entries], Entries], match: str
) -> None:
    assert_refused(write_zip(tmp_path / "bad.zip", change(entries)), store, match)


def test_a_file_that_comes_twice_is_refused(entries: Entries, store: ModelStore, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "bad.zip", entries)
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("tiny-mr/LICENSE", b"another")
    assert_refused(path, store, "twice")


def test_a_zip_bomb_is_refused_before_it_unpacks(entries: Entries, store: ModelStore, tmp_path: Path) -> None:
    bomb = {**entries, "tiny-mr/docs/bomb.md": bytes(64 * 2**20)}
    path = write_zip(tmp_path / "bomb.zip", bomb, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**20
    assert_refused(path, store, "unpack to")


def test_a_bomb_that_lies_about_its_size_is_refused(entries: Entries, store: ModelStore, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "bomb.zip", {**entries, "tiny-mr/docs/b.md": bytes(2**22)}, zipfile.ZIP_DEFLATED)
    true_size = (2**22).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(true_size, (100).to_bytes(4, "little")))
    assert_refused(path, store)


class _Evil:
    """Unpickles into a call."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch evil",)


def _saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _compressed(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for info in source.infolist():
            target.writestr(info.filename, source.read(info))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps(_Evil()),
        _saved(_Evil()),
        _saved({"w": torch.zeros(2), "x": _Evil()}),
        _saved({"w": {"nested": torch.zeros(2)}}),
        _saved({1: torch.zeros(2)}),
        _saved([torch.zeros(2)]),
        _saved(torch.zeros(2)),
        _saved({}),
        _saved({"w": torch.zeros(1).expand(10**12)}),
        _saved({"w": torch.zeros(4, 4).to_sparse()}),
        _compressed(_saved({"w": torch.zeros(2**20)})),
        b"",
        b"PK\x03\x04 not a zip",
        b"version https://git-lfs.github.com/spec/v1\n",
    ],
    ids=[
        "bare pickle", "pickle in a zip", "object beside a tensor", "nested", "number as key", "list", "one tensor",
        "empty dict", "endless stride", "sparse", "compressed", "empty file", "broken zip", "git-lfs pointer",
    ],
)  # fmt: skip
def test_weights_that_are_anything_but_tensors_are_refused(
    entries: Entries, store: ModelStore, tmp_path: Path, data: bytes
) -> None:
    path = write_zip(tmp_path / "bad.zip", with_weights(entries, data))
    assert_refused(path, store, "not a plain file of tensors")
    assert not Path("evil").exists()


def test_weights_of_another_network_are_refused(entries: Entries, store: ModelStore, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "bad.zip", with_weights(entries, _saved({"w": torch.zeros(2)})))
    assert_refused(path, store, "do not fit")


def test_weights_with_infinity_are_refused(bundle: Bundle, entries: Entries, store: ModelStore, tmp_path: Path) -> None:
    state = bundle.load_network().state_dict()
    next(iter(state.values())).view(-1)[0] = float("inf")
    assert_refused(write_zip(tmp_path / "bad.zip", with_weights(entries, _saved(dict(state)))), store, "infinity")


def test_a_truncated_zip_is_one_clear_error(bundle: Bundle, store: ModelStore, tmp_path: Path) -> None:
    path = export_bundle(bundle, tmp_path / "cut.zip")
    data = path.read_bytes()
    for size in (0, 10, len(data) // 2, len(data) - 5):
        path.write_bytes(data[:size])
        assert_refused(path, store, "no intact zip")


def test_a_flipped_byte_anywhere_in_the_zip_never_changes_the_model(bundle: Bundle, tmp_path: Path) -> None:
    path = export_bundle(bundle, tmp_path / "flip.zip")
    data = path.read_bytes()
    refused = 0
    for index, position in enumerate(range(0, len(data), len(data) // 80)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x10]) + data[position + 1 :])
        store = ModelStore(tmp_path / str(index), shipped_folder=tmp_path / "none")
        try:
            assert import_bundle(path, store).content_hash == bundle.content_hash
        except BundleError:
            refused += 1
            assert not any(file.is_file() for file in store.user_folder.rglob("*"))
    # A date in a zip's directory may change without harm; the content may not.
    assert refused > 70


def test_a_network_too_large_for_any_memory_is_refused_before_it_is_built(
    entries: Entries, store: ModelStore, tmp_path: Path
) -> None:
    metadata = json.loads(entries["tiny-mr/configs/metadata.json"])
    metadata["maesegment"]["network"]["embed_dim"] = 2**16
    metadata["maesegment"]["content_hash"] = content_hash(metadata)
    huge = {**entries, "tiny-mr/configs/metadata.json": serialise(metadata)}
    assert_refused(write_zip(tmp_path / "bad.zip", huge), store, "embed_dim")


def test_a_missing_zip_and_an_empty_folder_are_clear_errors(store: ModelStore, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="does not exist"):
        import_bundle(tmp_path / "missing.zip", store)
    with pytest.raises(BundleError, match="no MAESegment model"):
        import_bundle(tmp_path, store)


def test_a_model_folder_is_imported_like_its_zip(bundle: Bundle, store: ModelStore) -> None:
    assert import_bundle(bundle.path, store).path.is_relative_to(store.user_folder.resolve())
    assert store.find("tiny-mr").content_hash == bundle.content_hash


def test_what_a_mac_adds_to_a_zip_is_not_imported(entries: Entries, store: ModelStore, tmp_path: Path) -> None:
    extra = {"__MACOSX/tiny-mr/._LICENSE": b"mac", "tiny-mr/.DS_Store": b"mac", "tiny-mr/docs/": b""}
    imported = import_bundle(write_zip(tmp_path / "mac.zip", {**entries, **extra}), store)
    assert not list(imported.path.rglob(".*"))
