"""Files, pipes and zips from strangers that are not part of a model are refused."""

from __future__ import annotations

import contextlib
import os
import random
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from MAESegmentLib.bundle import Bundle, ModelStore, export_bundle, import_bundle, open_bundle
from MAESegmentLib.errors import BundleError
from Testing.hostile_bundles import (
    Entries,
    Refused,
    assert_refused,
    forged,
    write_folder,
    write_zip,
)

WEIGHTS = "models/model.pt"


@pytest.mark.parametrize(
    "name",
    [
        "configs/logging.conf", "configs/inference.yaml", "configs/train.json", "configs/metadata.yaml",
        "scripts/__init__.py", "models/__init__.py", "monai.py", "models/model.ts", "docs/page.html", "docs/x.svg",
        "docs/sub/x.md", "docs/" + "x" * 120 + ".md", "docs/ﬁle.md", "LICENSE/x.md", "docs/con .md",
        "docs/con.md", "docs/NUL.tar.json", "docs/Lpt1.png", "docs/readme.md",
    ],
)  # fmt: skip
def test_a_file_that_is_no_part_of_a_model_is_refused(
    entries: Entries, store: ModelStore, tmp_path: Path, name: str
) -> None:
    assert_refused(write_zip(tmp_path / "a.zip", {**entries, name: b"x"}), store)
    assert_refused(write_zip(tmp_path / "b.zip", forged(entries, {name: b"x"})), store)
    if not name.startswith("LICENSE/"):  # which is a file
        with pytest.raises(BundleError):
            open_bundle(write_folder(tmp_path / "folder", forged(entries, {name: b"x"})))


@pytest.mark.skipif(os.name == "nt", reason="named pipes")
@pytest.mark.parametrize("name", [WEIGHTS, "configs/metadata.json", "docs/README.md"])
def test_a_pipe_in_a_model_folder_is_refused_and_not_waited_for(
    entries: Entries, store: ModelStore, tmp_path: Path, name: str
) -> None:
    folder = write_folder(tmp_path / "bad", entries)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert_refused(folder, store)
    os.mkfifo(tmp_path / "model.zip")
    assert_refused(tmp_path / "model.zip", store, "not a file")


def test_a_zip_with_a_comment_could_hide_a_second_directory(
    entries: Entries, store: ModelStore, tmp_path: Path
) -> None:
    path = write_zip(tmp_path / "bad.zip", entries)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"PK\x05\x06" + bytes(17)
    assert_refused(path, store, "not an intact zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"PK\x05\x06" + bytes(18)  # a whole second end, of an empty zip
    assert_refused(path, store, "not an exported model")


def test_a_directory_of_a_million_entries_is_not_read(store: ModelStore, tmp_path: Path) -> None:
    entry = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *[0] * 9, 1, *[0] * 6) + b"x"
    directory = entry * 1_000_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 65535, 65535, len(directory), 0, 0)
    (tmp_path / "bad.zip").write_bytes(directory + end)
    assert_refused(tmp_path / "bad.zip", store, "far too long")


def test_a_zip_in_a_zip_is_no_model(refused: Refused, entries: Entries, store: ModelStore, tmp_path: Path) -> None:
    inner = write_zip(tmp_path / "inner.zip", entries)
    assert_refused(write_zip(tmp_path / "bad.zip", {"model.zip": inner.read_bytes()}), store, "not part of a model")
    refused("not a plain file of tensors", {WEIGHTS: inner.read_bytes()})


def test_random_bytes_are_one_clear_error(refused: Refused, store: ModelStore, tmp_path: Path) -> None:
    for seed in range(20):
        noise = random.Random(seed).randbytes(2000)
        (tmp_path / "bad.zip").write_bytes(noise)
        assert_refused(tmp_path / "bad.zip", store, "not an intact zip")
        refused("not a plain file of tensors", {WEIGHTS: noise})


@pytest.mark.parametrize(
    ("name", "match"),
    [
        *(
            (name, "unsafe path")
            for name in (
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
            )
        ),
        ("tiny-mr/LICENSE", "twice"),
        ("other/LICENSE", "one folder|twice"),
        ("LICENSE", "not part of a model"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_further_file_outside_the_models_folder_or_there_twice_is_refused(
    entries: Entries, store: ModelStore, tmp_path: Path, name: str, match: str
) -> None:
    # Written by hand, because zipfile itself tidies some of these names.
    info = zipfile.ZipInfo("placeholder")
    info.filename = name
    path = write_zip(tmp_path / "bad.zip", entries)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(info, b"evil")
    assert_refused(path, store, match)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.sampled_from(["..", ".", "", "a", "docs", "C:", "tiny-mr", "~", "LICENSE", "\\"]), max_size=6))
def test_no_path_at_all_writes_outside_the_store(
    entries: Entries, tmp_path_factory: pytest.TempPathFactory, parts: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    store = ModelStore(folder / "inner" / "models", shipped_folder=folder / "none")
    path = write_zip(folder / "any.zip", entries)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("/".join([*parts, "evil.md"]), b"evil")
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
        (lambda e: {**e, "scripts/run.py": b"evil"}, r"run\.py"),
        (lambda e: {**e, "docs/extra.md": b"more"}, "not part of it"),
        (lambda e: {**e, "license": b"more"}, "not part of a model"),
        (lambda e: {**e, "docs/readme.md": b"more"}, "twice"),
        (lambda e: {**e, "LICENSE": e["LICENSE"] + b" "}, "damaged|saved"),
        (lambda e: {**e, "configs/metadata.json": b"{}"}, "missing"),
        (lambda _: {f"docs/{i}.md": b"" for i in range(300)}, "300 files"),
        (lambda _: {}, "one folder"),
    ],
)
def test_what_is_not_exactly_one_model_is_refused(
    entries: Entries, store: ModelStore, tmp_path: Path, change: Callable[[Entries], Entries], match: str
) -> None:
    assert_refused(write_zip(tmp_path / "bad.zip", change(entries)), store, match)


def test_a_zip_bomb_is_refused_before_it_unpacks_also_if_it_lies(
    entries: Entries, store: ModelStore, tmp_path: Path
) -> None:
    path = write_zip(tmp_path / "bomb.zip", {**entries, "docs/b.md": bytes(64 * 2**20)}, zipfile.ZIP_DEFLATED)
    data = path.read_bytes()
    assert len(data) < 2**20
    assert_refused(path, store, "unpack to")
    path.write_bytes(data.replace((64 * 2**20).to_bytes(4, "little"), (100).to_bytes(4, "little")))
    assert_refused(path, store)


def test_a_truncated_zip_is_one_clear_error(bundle: Bundle, store: ModelStore, tmp_path: Path) -> None:
    path = export_bundle(bundle, tmp_path / "cut.zip")
    data = path.read_bytes()
    for size in (0, 10, len(data) // 2, len(data) - 5):
        path.write_bytes(data[:size])
        assert_refused(path, store, "not an intact zip")


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
