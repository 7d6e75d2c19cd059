"""Networks converted for OpenVINO: a file each beside the user's models, by the model's content; read only if whole.

A file holds the SHA-256 of all that follows, the length of the description (XML), the description, and the weights.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ...bundle import Bundle
from ...storage.atomic_file import write_file
from ...storage.user_folders import conversion_file, default_models_folder

_DIGEST, _LENGTH = hashlib.sha256().digest_size, 8


@dataclass(frozen=True)
class Converted:
    """OpenVINO's description of a network for one window of a size, and the weights."""

    description: bytes
    weights: bytes


def file_for(bundle: Bundle) -> Path:
    return conversion_file(default_models_folder(), bundle.content_hash)


def store(bundle: Bundle, converted: Converted) -> Path:
    """Where it is from now on; `OutputError` if it cannot be written."""
    file = file_for(bundle)
    content = len(converted.description).to_bytes(_LENGTH, "big") + converted.description + converted.weights
    file.parent.mkdir(parents=True, exist_ok=True)
    write_file(file, hashlib.sha256(content).digest() + content)
    return file


def read(bundle: Bundle) -> Converted | None:
    """None if there is none; `ValueError` if it is not what was stored."""
    try:
        data = file_for(bundle).read_bytes()
    except OSError:
        return None
    digest, content = data[:_DIGEST], data[_DIGEST:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError("it is not what was stored")
    end = _LENGTH + int.from_bytes(content[:_LENGTH], "big")
    return Converted(content[_LENGTH:end], content[end:])
