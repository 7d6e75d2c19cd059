"""A lock between processes that the operating system takes back when its holder ends, however that happens."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from pathlib import Path
from types import TracebackType

from ..errors import OutputError, refused

_NAP_S = 0.02


class FileLock:
    """Exclusive lock on a file that stays, empty, where it is. Not shared between threads; not re-entrant."""

    def __init__(self, path: Path, *, timeout_s: float = 30.0, busy: str = "") -> None:
        """`busy` is the message of the error if it is not available within `timeout_s`."""
        self.path = path
        self._timeout_s = timeout_s
        self._busy = busy or f"{path.parent} is in use by another program."
        self._descriptor: int | None = None

    def try_acquire(self) -> bool:
        """Take it if it is free. `OutputError` if the file cannot be made or locked."""
        while True:
            try:
                descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            except OSError as error:
                raise refused(f"{self.path.parent} cannot be written to", error) from error
            _share_like(self.path.parent, descriptor)
            try:
                is_ours = _lock(descriptor)
            except OSError as error:
                os.close(descriptor)
                hint = "Its file system has no locks: choose a folder on another disk."
                raise refused(f"{self.path} cannot be locked", error, hint) from error
            if is_ours and self._is_file_of(descriptor):
                self._descriptor = descriptor
                return True
            os.close(descriptor)
            if not is_ours:
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

    def remove(self) -> None:
        """Delete the file and give the lock back; for its holder. Who waits for it makes the file again."""
        if os.name == "nt":  # an open file cannot be deleted there
            self.release()
        with contextlib.suppress(OSError):
            self.path.unlink()
        self.release()

    def is_held_by_another(self) -> bool:
        """Whether some process, or another lock object of this one, has it now; several may look at once.

        Also if that cannot be found out, because the file is somebody else's.
        """
        try:
            descriptor = _open_to_look(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True
        try:
            return not _lock(descriptor, shared=True)
        except OSError:
            return True
        finally:
            os.close(descriptor)

    def _is_file_of(self, descriptor: int) -> bool:
        """Whether the file that was locked is still the one at the path: its last holder may have removed it."""
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.stat())
        except OSError:
            return False

    def __enter__(self) -> FileLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def is_abandoned(folder: Path, lock: str) -> bool:
    """Whether the process that held `folder`'s file `lock` is gone; False if it may not be ours to delete.

    That holds for a process in another container or on another computer, too, which a process number says nothing of.
    """
    try:
        status = folder.lstat()
        is_ours = stat.S_ISDIR(status.st_mode) and (os.name == "nt" or status.st_uid == os.getuid())
        return is_ours and (folder / lock).is_file() and not FileLock(folder / lock).is_held_by_another()
    except OSError:
        return False


def _share_like(folder: Path, descriptor: int) -> None:
    """Whoever may write to `folder`, say a group that shares its cases, may take the lock, whatever the umask."""
    with contextlib.suppress(OSError, AttributeError):  # somebody else's file; or Windows
        mode = folder.stat().st_mode
        writers = 0 if mode & stat.S_ISVTX else mode & 0o022
        has = os.fstat(descriptor).st_mode
        if has & writers != writers:
            os.fchmod(descriptor, stat.S_IMODE(has) | writers | writers << 1)


def _open_to_look(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR)
    except PermissionError:  # another user's, who lets us read
        return os.open(path, os.O_RDONLY)


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
        except BlockingIOError:
            return False
        return True
