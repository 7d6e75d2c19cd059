"""What a part of the campaign has found, block by block, in one file that is written after each."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from MAESegmentLib.errors import MAESegmentError
from MAESegmentLib.storage.atomic_file import write_file

#: A block's result that is kept and shown, but done again by the next start: what is wrong with it.
PROBLEM = "problem"
_EMPTY: dict[str, Any] = {"status": "missing", "seconds": 0.0, "note": "", "blocks": {}, "failed": {}}


class Blocks:
    """A block that is done stays done; one that failed is tried again by the next start of its part."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._state = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else json.loads(json.dumps(_EMPTY))

    @property
    def status(self) -> str:
        """ "missing", "interrupted", "stopped", "failed" or "done"."""
        return str(self._state["status"])

    @property
    def is_done(self) -> bool:
        return self.status == "done"

    @property
    def failed(self) -> dict[str, str]:
        """Why, by block."""
        return dict(self._state["failed"])

    def state(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        return dict(self._state)

    def begin(self) -> None:
        """The part starts, or starts again."""
        self._state |= {"status": "interrupted", "note": "", "failed": {}}
        self._state["blocks"] = {name: one for name, one in self._state["blocks"].items() if PROBLEM not in one}
        self._write()

    def do(self, name: str, work: Callable[[], dict[str, Any]]) -> None:
        """Keep what `work` returns as block `name`, unless that is done; what it raises, as what failed."""
        if name in self._state["blocks"]:
            return
        print(f"== {name}", flush=True)
        begun = time.monotonic()
        try:
            found = json.loads(json.dumps(work(), allow_nan=False))
        except Exception as error:  # of any kind: the other blocks are worth their time
            traceback.print_exc()
            self.fail(name, error)
            return
        self._state["blocks"][name] = {**found, "took_s": round(time.monotonic() - begun, 1)}
        if PROBLEM in found:
            self._state["failed"][name] = found[PROBLEM]
        self._write()

    def fail(self, name: str, error: BaseException) -> None:
        """Note why block `name`, or the part itself (""), failed."""
        self._state["failed"][name] = _reason(error)
        self._write()

    def end(self, note: str, seconds: float = 0.0) -> None:
        """The part's process is over: as it should be, or as `note` says."""
        self._state["seconds"] = round(self._state["seconds"] + seconds, 1)
        self._state["note"] = note
        self._state["status"] = "failed" if self._state["failed"] else "stopped" if note else "done"
        self._write()

    def _write(self) -> None:
        write_file(self._file, json.dumps(self._state, indent=1) + "\n")


def _reason(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"the package {error.name} is not installed: bring it as a wheel (README.md, What it needs)"
    if isinstance(error, MAESegmentError):
        return f"{error.message} {error.hint}".strip()
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300] if lines else ''}".rstrip(": ")
