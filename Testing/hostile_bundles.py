"""Models as a stranger could make them: any file and any metadata changed, and everything correctly hashed again."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from MAESegmentLib.bundle import Bundle
from MAESegmentLib.bundle.metadata import content_hash

Entries = dict[str, bytes]
METADATA = "configs/metadata.json"


def entries_of(bundle: Bundle) -> Entries:
    """The files of `bundle` by their path in it."""
    files = [file for file in bundle.path.rglob("*") if file.is_file()]
    return {file.relative_to(bundle.path).as_posix(): file.read_bytes() for file in files}


def forged(
    entries: Entries, files: Mapping[str, bytes] | None = None, change: Callable[[Any], Any] | None = None
) -> Entries:
    """`entries` with other `files` and with metadata that `change` changed, signed as if MAESegment had saved them."""
    entries = {**entries, **(files or {})}
    metadata = json.loads(entries[METADATA])
    metadata["maesegment"]["files"].update(
        {name: hashlib.sha256(data).hexdigest() for name, data in (files or {}).items()}
    )
    if change is not None:
        change(metadata)
    metadata["maesegment"]["content_hash"] = content_hash(metadata)
    # Not `serialise`, which writes null for numbers that JSON does not have.
    text = json.dumps(metadata, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    if any("\ud800" <= character <= "\udfff" for character in text):
        text = json.dumps(metadata)
    return {**entries, METADATA: text.encode()}


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


def repacked(data: bytes, change: Callable[[dict[str, bytes]], object]) -> bytes:
    """A .pt file with records that `change` changed, by their path."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        records = {info.filename: archive.read(info) for info in archive.infolist()}
    change(records)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, record in records.items():
            archive.writestr(name, record)
    return buffer.getvalue()


def pickled_differently(data: bytes, old: bytes, new: bytes) -> bytes:
    """A .pt file whose list of tensors has `new` in the place of `old`."""

    def change(records: dict[str, bytes]) -> None:
        assert old in records["archive/data.pkl"]
        records["archive/data.pkl"] = records["archive/data.pkl"].replace(old, new)

    return repacked(data, change)
