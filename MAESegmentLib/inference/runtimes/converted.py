"""Networks converted for OpenVINO: a file each, of one model by its content; read only if whole.

Those that were converted here lie beside the user's models. Those of the models that ship come with them.

A file holds the model's content hash, the SHA-256 of that and all that follows, and compressed: the length of the
description (XML), the description, and the weights.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path

from ...bundle import Bundle
from ...storage.atomic_file import write_file
from ...storage.user_folders import conversion_file, default_models_folder, default_shipped_folder

_DIGEST, _LENGTH = hashlib.sha256().digest_size, 8


@dataclass(frozen=True)
class Converted:
    """OpenVINO's description of a network for one window of a size, and the weights.

    The network gives its scores, and then the tokens of its encoder.
    """

    description: bytes
    weights: bytes


def file_for(bundle: Bundle) -> Path:
    """Among the user's."""
    return conversion_file(default_models_folder(), bundle.content_hash)


def shipped_file(bundle: Bundle) -> Path:
    """Beside the models that ship."""
    return default_shipped_folder() / f"{bundle.name}.openvino"


def store(bundle: Bundle, converted: Converted, file: Path | None = None) -> Path:
    """Where it is from now on, among the user's unless `file` is given; `OutputError` if it cannot be written."""
    file = file or file_for(bundle)
    content = len(converted.description).to_bytes(_LENGTH, "big") + converted.description + converted.weights
    packed, name = zlib.compress(content), bundle.content_hash.encode()
    file.parent.mkdir(parents=True, exist_ok=True)
    write_file(file, name + hashlib.sha256(name + packed).digest() + packed)
    return file


def read(bundle: Bundle, file: Path | None = None) -> Converted | None:
    """From `file`, else from the user's; None if it is not there, or ships with a model of other content.

    `ValueError` if it is damaged.
    """
    file = file or file_for(bundle)
    try:
        data = file.read_bytes()
    except OSError:
        return None
    name = bundle.content_hash.encode()
    if not data.startswith(name) and file == shipped_file(bundle):
        return None
    digest, packed = data[len(name) : len(name) + _DIGEST], data[len(name) + _DIGEST :]
    if not data.startswith(name) or hashlib.sha256(name + packed).digest() != digest:
        raise ValueError("it is not what was stored")
    content = zlib.decompress(packed)
    end = _LENGTH + int.from_bytes(content[:_LENGTH], "big")
    return Converted(content[_LENGTH:end], content[end:])


def is_there(bundle: Bundle) -> bool:
    """Whether `bundle` has a conversion, which may still be damaged."""
    name = bundle.content_hash.encode()
    for file in (shipped_file(bundle), file_for(bundle)):
        try:
            with file.open("rb") as stream:
                if stream.read(len(name)) == name:
                    return True
        except OSError:
            continue
    return False
