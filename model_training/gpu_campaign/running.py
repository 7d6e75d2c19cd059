"""Runs the parts, each in a process of its own with a time limit, and keeps what each has found so far.

The processes are forks: what takes seconds to import is imported once. This process itself never touches the GPU.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from MAESegmentLib.storage.lock import FileLock

from . import parts
from .blocks import Blocks
from .outcome import write_outcome
from .parts import Part
from .plan import Plan

#: What the parts import; where one is missing, those that need it say so.
_IMPORTED_ONCE = ("torch._dynamo", "nibabel", "matplotlib.figure")
#: Left at the end for writing the outcome.
_CLOSING_S = 4.0
_POLL_S = 0.05


class Campaign:
    """The parts that are missing in `plan.work`, for `seconds` at most; the outcome goes to `out` after each."""

    def __init__(self, plan: Plan, out: Path, seconds: float, only: str = "") -> None:
        self._plan, self._out = plan, out
        self._start_method = "fork"
        self._end = time.monotonic() + seconds - min(_CLOSING_S, seconds / 10)
        known = [name for name in parts.BY_NAME if name != parts.MACHINE.name]
        self._only = [name for name in only.split(",") if name] or known
        if unknown := set(self._only) - set(known):
            raise SystemExit(f"There is no part {', '.join(sorted(unknown))}; there are {', '.join(known)}.")

    def run(self) -> int:
        """0 if every part is done."""
        self._plan.work.mkdir(parents=True, exist_ok=True)
        missing = [part for part in parts.BY_NAME.values() if part.name in self._only and not self._is_done(part)]
        for name in (*_IMPORTED_ONCE, *(name for part in missing for name in part.imports)):
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
        with FileLock(self._plan.work / ".lock"):
            if not self._check_machine():
                return 2
            for group in parts.GROUPS:
                missing = [part for part in group if part.name in self._only and not self._is_done(part)]
                if missing:
                    self._run_group(missing)
                    self._write()
            self._write()
        done = all(self._is_done(parts.BY_NAME[name]) for name in self._only)
        print(f"{'Everything is done' if done else 'Not everything is done: start it again'}: {self._out}/report.md")
        return 0 if done else 1

    def _check_machine(self) -> bool:
        """Whether the device computes: without it, nothing else is worth a try."""
        self._run_group([parts.MACHINE])
        if any("forked subprocess" in reason for reason in self._blocks(parts.MACHINE).failed.values()):
            self._start_method = "spawn"  # something that was imported has touched it all the same
            self._run_group([parts.MACHINE])
        blocks = self._blocks(parts.MACHINE)
        self._write()
        for reason in blocks.failed.values():
            print(f"The campaign cannot start: {reason}", file=sys.stderr)
        return blocks.is_done

    def _run_group(self, group: Sequence[Part]) -> None:
        """Side by side."""
        begun = time.monotonic()
        context: Any = multiprocessing.get_context(self._start_method)
        running: dict[Part, BaseProcess] = {}
        for part in group:
            limit = min(begun + part.limit_s, self._end)
            if limit - begun < part.least_s and not self._plan.rehearse:
                self._blocks(part).end("not started: the time was over")
                continue
            process = context.Process(target=_work, args=(part.name, self._plan, limit), name=part.name)
            running[part] = process
            process.start()
            print(f"{part.name}: at most {limit - begun:.0f} s", flush=True)
        while running:
            for part, process in list(running.items()):
                spent = time.monotonic() - begun
                late = time.monotonic() > min(begun + part.limit_s, self._end)
                if process.is_alive() and not late:
                    continue
                if process.is_alive():
                    _kill(process)
                    self._blocks(part).end(f"stopped after {spent:.0f} s, its time was over", spent)
                elif process.exitcode:
                    self._blocks(part).end(f"its process ended with {process.exitcode}", spent)
                else:
                    self._blocks(part).end("", spent)
                blocks = self._blocks(part)
                print(f"{part.name}: {blocks.status}, {spent:.0f} s", flush=True)
                del running[part]
            time.sleep(_POLL_S)

    def _blocks(self, part: Part) -> Blocks:
        return Blocks(self._plan.work / f"{part.name}.json")

    def _is_done(self, part: Part) -> bool:
        return self._blocks(part).is_done

    def _write(self) -> None:
        found: Mapping[str, Any] = {
            name: self._blocks(part).state() | {"title": part.title} for name, part in parts.BY_NAME.items()
        }
        write_outcome(self._out, found, self._plan)


def _work(name: str, plan: Plan, deadline: float) -> None:
    """In the part's process: a group of its own, so that its workers can be ended with it, and no longer alive than
    the campaign's process."""
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    log = os.open(plan.work / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(log, stream)
    blocks = Blocks(plan.work / f"{name}.json")
    blocks.begin()
    try:
        parts.BY_NAME[name].work(plan, blocks, lambda: deadline - time.monotonic())
    except Exception as error:  # a part that fails must not end the others
        traceback.print_exc()
        blocks.fail("", error)
    sys.stdout.flush()
    sys.stderr.flush()


def _kill(process: BaseProcess) -> None:
    assert process.pid is not None
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # it has not made its group yet, or has just ended
        process.kill()
    process.join()
