"""Ending a process together with everything it started; behind a launcher, the launcher alone would leave the rest."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

_PROC = Path("/proc")


def kill_tree(pid: int) -> None:
    """Kill process `pid`, its process group if it leads one, and all their descendants. Those gone already are fine."""
    if pid <= 1 or pid == os.getpid():
        return
    if sys.platform == "win32":
        _taskkill(pid)
        return
    # Found before anything is killed: orphans are handed to another parent.
    victims = descendants(pid)
    # A group stays when its leader is gone. This process's own group is not theirs to take along.
    if pid != os.getpgrp():
        _signal(os.killpg, pid)
    for victim in (pid, *victims):
        _signal(os.kill, victim)


def descendants(pid: int) -> list[int]:
    """Children of `pid`, their children and so on; empty where that cannot be found out."""
    children = defaultdict(list)
    for child, parent in _parents():
        children[parent].append(child)
    found: list[int] = []
    pending = [pid]
    while pending:
        pending = [child for parent in pending for child in children.pop(parent, ())]
        found.extend(pending)
    return found


def _parents() -> list[tuple[int, int]]:
    """(process, its parent) of every process."""
    if (_PROC / "self" / "stat").exists():
        return [pair for entry in _PROC.iterdir() if entry.name.isdigit() and (pair := _from_proc(entry))]
    try:
        listed = subprocess.run(["ps", "-axo", "pid=,ppid="], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    pairs = (line.split() for line in listed.stdout.splitlines())
    return [(int(pair[0]), int(pair[1])) for pair in pairs if len(pair) == 2]


def _from_proc(entry: Path) -> tuple[int, int] | None:
    try:
        stat = (entry / "stat").read_bytes()
    except OSError:
        return None
    # The name, in parentheses, may itself hold blanks and parentheses.
    fields = stat[stat.rfind(b")") + 1 :].split()
    return int(entry.name), int(fields[1])


def _signal(send: Callable[[int, int], None], pid: int) -> None:
    try:
        send(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _taskkill(pid: int) -> None:
    flags = getattr(subprocess, "CREATE_NO_WINDOW", 0)
    command = ["taskkill", "/F", "/T", "/PID", str(pid)]
    try:
        subprocess.run(command, capture_output=True, timeout=10, check=False, creationflags=flags)
    except (OSError, subprocess.SubprocessError):
        return
