"""Models as a stranger could make them: any file and any metadata changed, and everything correctly hashed again."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import torch

from MAESegmentLib.bundle import Bundle, ModelStore, import_bundle
from MAESegmentLib.bundle.metadata import content_hash
from MAESegmentLib.bundle.plain_text import text_problem
from MAESegmentLib.errors import BundleError

Entries = dict[str, bytes]
#: Of metadata: dotted path -> value (a number is an index), or what changes it in place.
Change = Mapping[str, Any] | Callable[[Any], Any]
#: (match, files, change); see the fixture of that name.
Refused = Callable[..., None]
METADATA = "configs/metadata.json"


def entries_of(bundle: Bundle) -> Entries:
    """The files of `bundle` by their path in it."""
    files = [file for file in bundle.path.rglob("*") if file.is_file()]
    return {file.relative_to(bundle.path).as_posix(): file.read_bytes() for file in files}


def forged(entries: Entries, files: Mapping[str, bytes] | None = None, change: Change | None = None) -> Entries:
    """`entries` with other `files` and with changed metadata, signed as if MAESegment had saved them."""
    entries = {**entries, **(files or {})}
    metadata = json.loads(entries[METADATA])
    metadata["maesegment"]["files"].update(
        {name: hashlib.sha256(data).hexdigest() for name, data in (files or {}).items()}
    )
    if isinstance(change, Mapping):
        for path, value in change.items():
            *parents, last = path.split(".")
            reduce(lambda inner, key: inner[int(key) if key.isdigit() else key], parents, metadata)[last] = value
    elif change is not None:
        change(metadata)
    metadata["maesegment"]["content_hash"] = content_hash(metadata)
    # Not `serialise`, which writes null for numbers that JSON does not have.
    text = json.dumps(metadata, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    if any("\ud800" <= character <= "\udfff" for character in text):
        text = json.dumps(metadata)
    return {**entries, METADATA: text.encode()}


def assert_refused(path: Path, store: ModelStore, match: str | None = None) -> None:
    with pytest.raises(BundleError, match=match) as caught:
        import_bundle(path, store)
    assert caught.value.hint
    assert len(str(caught.value)) < 1500
    assert not text_problem(str(caught.value))
    left = [file for file in store.user_folder.rglob("*") if file.is_file()] if store.user_folder.exists() else []
    assert left == []
    assert not any(store.user_folder.parent.glob("evil*"))


def write_folder(folder: Path, entries: Entries) -> Path:
    """The files as a bundle's folder."""
    for name, data in entries.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def write_zip(path: Path, entries: Entries, compression: int = zipfile.ZIP_STORED) -> Path:
    """The files as an exported model."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(f"tiny-mr/{name}", data)
    return path


def saved(value: Any) -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def repacked(data: bytes, change: Callable[[dict[str, bytes]], object], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A .pt file with records that `change` changed, by their path."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        records = {info.filename: archive.read(info) for info in archive.infolist()}
    change(records)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, record in records.items():
            archive.writestr(name, record)
    return buffer.getvalue()


def pickled_differently(data: bytes, old: bytes, new: bytes) -> bytes:
    """A .pt file whose list of tensors has `new` in the place of `old`."""

    def change(records: dict[str, bytes]) -> None:
        assert old in records["archive/data.pkl"]
        records["archive/data.pkl"] = records["archive/data.pkl"].replace(old, new)

    return repacked(data, change)
