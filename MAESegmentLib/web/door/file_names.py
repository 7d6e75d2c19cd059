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
    kept = _clipped(_harmless(name), from_end=False)
    kept = f"_{kept}" if _DEVICES.match(kept) else kept
    return kept.strip(" .") or default


def uploaded_name(name: str) -> str:
    """The last part of a path that a browser or a zip gives; the end is kept, which says of what kind the file is."""
    last = PurePosixPath(name.replace("\\", "/")).name
    return _clipped(_harmless(last), from_end=True).strip(" .") or "scan"


def unique_file_names(names: Iterable[str], ending: str) -> list[str]:
    """A file name for each of `names`, in their order; no two are the same where case is not told apart."""
    taken: set[str] = set()
    found = []
    for name in names:
        stem, number = file_name(name), 1
        candidate = stem
        while _key(candidate) in taken:
            number += 1
            candidate = f"{stem} ({number})"
        taken.add(_key(candidate))
        found.append(candidate + ending)
    return found


def _harmless(name: str) -> str:
    # One form for letters with accents: macOS takes the two for the same name.
    composed = unicodedata.normalize("NFC", name)
    return re.sub(r"[^\w .()+-]", "_", composed).strip(" .")


def _clipped(name: str, *, from_end: bool) -> str:
    """At most so many bytes, no letter cut in two."""
    data = name.encode("utf-8", "replace")
    part = data[-_MOST_BYTES:] if from_end else data[:_MOST_BYTES]
    return part.decode("utf-8", "ignore")


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
