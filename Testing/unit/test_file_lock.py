"""Locks between processes: who holds one, who may look, and what becomes of the file."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
from pathlib import Path

import pytest

from MAESegmentLib.errors import OutputError
from MAESegmentLib.storage.lock import FileLock
from Testing.children import become_nobody, fork, run, wait


def test_a_killed_holder_gives_it_back(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")

    def hold() -> None:
        assert FileLock(lock.path).try_acquire()
        os.kill(os.getpid(), signal.SIGKILL)

    assert wait(fork(hold)) == -signal.SIGKILL
    assert not lock.is_held_by_another()
    assert lock.try_acquire()


def test_another_users_lock_is_seen_though_its_file_cannot_be_written(public: Path) -> None:
    """What root does not notice: a file of mode 0644 cannot be opened for writing by others."""
    lock = FileLock(public / "lock")
    lock.acquire()
    lock.path.chmod(0o644)

    def look() -> None:
        become_nobody()
        assert FileLock(lock.path).is_held_by_another()

    run(look)
    lock.release()

    def look_again() -> None:
        become_nobody()
        assert not FileLock(lock.path).is_held_by_another()
        if lock.path.stat().st_uid != os.getuid():
            with pytest.raises(OutputError, match="Permission denied"):
                FileLock(lock.path).try_acquire()

    run(look_again)


def test_whoever_may_write_to_the_folder_may_take_the_lock(public: Path) -> None:
    """With the usual umask the first user's file would shut out all others of a group that shares a store."""
    public.chmod(0o777)
    before = os.umask(0o022)
    FileLock(public / "lock").acquire()
    os.umask(before)
    (public / "own").mkdir(mode=0o755)
    FileLock(public / "own" / "lock").acquire()
    assert stat.S_IMODE((public / "own" / "lock").stat().st_mode) & 0o022 == 0

    def take() -> None:
        become_nobody()
        assert not FileLock(public / "lock").try_acquire()
        (public / "lock").unlink()
        assert FileLock(public / "lock").try_acquire()

    run(take)


def test_a_lock_that_cannot_be_looked_at_counts_as_held(public: Path) -> None:
    lock = FileLock(public / "lock")
    lock.acquire()
    lock.path.chmod(0)

    def look() -> None:
        become_nobody()
        assert FileLock(lock.path).is_held_by_another()

    run(look)


def test_a_file_that_its_last_holder_removed_is_not_mistaken_for_the_lock(tmp_path: Path) -> None:
    first, second, third = (FileLock(tmp_path / "lock") for _ in range(3))
    first.acquire()
    opened = os.open(first.path, os.O_RDWR)  # as a program that waits has it
    first.remove()
    assert not first.path.exists()
    assert not second._is_file_of(opened)
    os.close(opened)
    second.acquire()
    assert not third.try_acquire()


def test_a_disk_without_locks_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as another program that would have it for ever."""

    def refuse(*_arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OutputError, match="cannot be locked: No locks available"):
        FileLock(tmp_path / "lock").acquire()
    assert FileLock(tmp_path / "lock").is_held_by_another()
