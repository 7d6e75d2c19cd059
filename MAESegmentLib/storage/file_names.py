"""Names that users gave, as names of files: on any operating system, none lost because two become the same."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

#: File systems take 255 bytes; an ending and a number have room beside this.
_MOST_BYTES = 180
#: Windows takes these for devices, whatever ending follows.
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


def file_name(name: str, *, default: str = "unnamed") -> str:
    """`name` as the name of a file: one part of a path, the beginning kept where it is too long."""
    # Bytes are counted, but no letter is cut in two.
    kept = _harmless(name)[:_MOST_BYTES].decode("utf-8", "ignore")
    kept = f"_{kept}" if _DEVICES.match(kept) else kept
    return kept.strip(" .") or default


def uploaded_name(name: str) -> str:
    """The last part of a path that a browser or a zip gives; the end is kept, which says of what kind the file is."""
    last = PurePosixPath(name.replace("\\", "/")).name
    return _harmless(last)[-_MOST_BYTES:].decode("utf-8", "ignore").strip(" .") or "scan"


def unique_file_names(names: Iterable[str], ending: str) -> list[str]:
    """A file name for each of `names`, in their order; no two are the same where case is not told apart."""
    found: dict[str, str] = {}
    for name in names:
        stem, number = file_name(name), 1
        candidate = stem
        while (key := unicodedata.normalize("NFC", candidate).casefold()) in found:
            number += 1
            candidate = f"{stem} ({number})"
        found[key] = candidate + ending
    return [*found.values()]


def _harmless(name: str) -> bytes:
    # One form for letters with accents: macOS takes the two for the same name.
    composed = unicodedata.normalize("NFC", name)
    return re.sub(r"[^\w .()+-]", "_", composed).strip(" .").encode("utf-8", "replace")
