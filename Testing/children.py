"""Child processes that fail as computers do: killed between two operations on files, on a full disk, without rights."""

from __future__ import annotations

import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: What an audit hook is called with before a file or folder is made, opened, renamed or removed.
_OPERATIONS = frozenset(("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate"))
NOBODY = 65534


def fork(work: Callable[[], Any]) -> int:
    """Run `work` in a copy of this process; its id. The copy ends with 0, or with 1 and a traceback."""
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def wait(pid: int) -> int:
    """How the copy ended: its exit code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run(work: Callable[[], Any]) -> None:
    assert wait(fork(work)) == 0


def killed_before(operation: int, folder: Path, work: Callable[[], Any]) -> bool:
    """Run `work` in a copy of this process that is killed (SIGKILL) before its n-th operation on files in `folder`.

    False if it had fewer.
    """
    count = 0

    def count_operation(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event in _OPERATIONS and str(arguments[0]).startswith(str(folder)):
            count += 1
            if count > operation:
                os.kill(os.getpid(), signal.SIGKILL)

    def listen() -> None:
        sys.addaudithook(count_operation)
        work()

    code = wait(fork(listen))
    assert code in (0, -signal.SIGKILL)
    return code != 0


def limit_file_size(size: int) -> None:
    """For a copy: no file can become larger than `size` bytes, as if the disk were full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def become_nobody() -> None:
    """For a copy: have no rights beyond those of any user."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """As on a full disk, writing fails in the middle of a file; in this process, which goes on afterwards."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
