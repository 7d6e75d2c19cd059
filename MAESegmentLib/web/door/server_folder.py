"""What a running server keeps on disk: below one folder that only its account can open, and none of it afterwards."""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path

from ...storage.lock import FileLock, is_abandoned

_PREFIX = "maesegment-app-"
_LOCK = "lock"


class ServerFolder:
    """The operating system takes the lock back when the server ends, however that happens."""

    def __init__(self, parent: Path | None = None) -> None:
        """A folder in `parent` (default: the one for temporary files), once those of killed servers are cleared."""
        parent = parent or Path(tempfile.gettempdir())
        clear_abandoned(parent)
        # It gets its name when it is locked: nobody may take it for abandoned.
        new = Path(tempfile.mkdtemp(prefix="maesegment-new-", dir=parent))
        self._lock = FileLock(new / _LOCK)
        self._lock.acquire()
        self.path = new.rename(new.with_name(new.name.replace("maesegment-new-", _PREFIX)))

    def new_session(self) -> Path:
        """An empty folder for one session."""
        return Path(tempfile.mkdtemp(prefix="session-", dir=self.path))

    def page_that_opens(self, address: str) -> Path:
        """A page that leads to `address`: programs see each other's command lines, but not what is in this file."""
        path = self.path / "open.html"
        path.touch(mode=0o600)
        to_address = f'<meta http-equiv="refresh" content="0;url={address}">'
        path.write_text(f"<!doctype html><title>MAESegment</title>{to_address}", encoding="utf-8")
        return path

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()


def clear_abandoned(parent: Path) -> list[Path]:
    """Remove the folders in `parent` whose servers run no more; returns those."""
    removed = [folder for folder in sorted(parent.glob(f"{_PREFIX}*")) if is_abandoned(folder, _LOCK)]
    for folder in removed:
        shutil.rmtree(folder, ignore_errors=True)
        logging.info("MAESegment: cleared what a server that was killed had left: %s", folder)
    return removed
