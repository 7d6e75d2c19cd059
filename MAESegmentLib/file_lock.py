"""A lock between processes that the operating system takes back when its holder ends, however that happens."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import TracebackType

from .errors import OutputError

_NAP_S = 0.02


class FileLock:
    """Exclusive lock on a file that stays, empty, where it is. Not shared between threads; not re-entrant."""

    def __init__(self, path: Path, *, timeout_s: float = 30.0, busy: str = "") -> None:
        """`busy` is what is said if it cannot be had within `timeout_s`."""
        self.path = path
        self._timeout_s = timeout_s
        self._busy = busy or f"{path.parent} is in use by another program."
        self._descriptor: int | None = None

    def try_acquire(self) -> bool:
        """Take it if nobody has it. `OutputError` if the file cannot be made."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)  # others may share the folder; umask decides
        except OSError as error:
            raise OutputError(
                f"{self.path.parent} cannot be written to: {error.strerror or error}.",
                "Choose a folder of your own, or ask for write permission.",
            ) from error
        if _lock(descriptor):
            self._descriptor = descriptor
            return True
        os.close(descriptor)
        return False

    def acquire(self) -> None:
        """Wait for it; `OutputError` if that takes longer than the timeout."""
        end = time.monotonic() + self._timeout_s
        while not self.try_acquire():
            if time.monotonic() > end:
                raise OutputError(self._busy, "Wait until it is done, then try again.")
            time.sleep(_NAP_S)

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)  # closing gives the lock back
            self._descriptor = None

    def is_held_by_another(self) -> bool:
        """Whether some process, or another lock object of this one, has it now; looking disturbs nobody who looks."""
        try:
            descriptor = os.open(self.path, os.O_RDWR)
        except OSError:
            return False
        try:
            return not _lock(descriptor, shared=True)
        finally:
            os.close(descriptor)

    def __enter__(self) -> FileLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


if os.name == "nt":
    import msvcrt

    def _lock(descriptor: int, *, shared: bool = False) -> bool:  # noqa: ARG001  (there are no shared ones)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True

else:
    import fcntl

    def _lock(descriptor: int, *, shared: bool = False) -> bool:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
