"""How much may be uploaded: by one session, and by all of a server together; counted before anything is written."""

from __future__ import annotations

import threading
from pathlib import Path

from ...errors import OutputError
from ...storage.lock import FileLock

#: What a session takes from the server's budget at once, so that not every piece asks all the others.
_MOST_AT_ONCE = 16 << 20
_NOTE, _LOCK = "uploads.taken", "uploads.lock"


class UploadBudget:
    """Of the session whose folder is `work`; `own` and `total` are bytes, `total` for all sessions beside it.

    What each session has taken stands in its folder: with the folder of one that died, its share is free again.
    """

    def __init__(self, work: Path, own: int, total: int) -> None:
        self._work = work
        self._own = own
        self._total = total
        self._used = 0
        self._taken = 0  # of the server's
        self._step = max(1, min(_MOST_AT_ONCE, total // 64))
        self._guard = threading.Lock()  # zips are unpacked in a thread

    @property
    def used(self) -> int:
        return self._used

    def take(self, size: int) -> None:
        """`OutputError` if that is more than there is; nothing is taken then."""
        with self._guard:
            if self._used + size > self._own:
                raise OutputError(
                    f"Too large: {_text(self._own)} may be uploaded in all.",
                    "Close scans that were uploaded before, or upload only the scan's files.",
                )
            if self._used + size > self._taken:
                self._note(self._used + size)
            self._used += size

    def give_back(self, size: int) -> None:
        with self._guard:
            self._used = max(0, self._used - size)
            if self._used < self._taken - self._step:
                self._note(self._used)

    def _note(self, needed: int) -> None:
        """Have `needed` bytes of the server's budget from now on, and some more if there are."""
        with FileLock(self._work.parent / _LOCK, timeout_s=10.0):
            notes = (path for path in self._work.parent.glob(f"*/{_NOTE}") if path.parent != self._work)
            left = self._total - sum(map(_number, notes))
            if needed > max(left, self._taken):
                raise OutputError(
                    f"Too much: {_text(self._total)} may be uploaded by everybody together.",
                    "Try again when others have closed their scans.",
                )
            self._taken = max(needed, min(-(-needed // self._step) * self._step, self._own, left))
            (self._work / _NOTE).write_text(str(self._taken))


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # the session has just gone
        return 0


def _text(size: int) -> str:
    return f"{size / 2**30:.1f} GB" if size >= 2**30 else f"{size / 2**20:.0f} MB"
