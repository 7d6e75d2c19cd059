"""Why a process ended, in words."""

from __future__ import annotations

import os
import signal

#: What Windows gives as the exit code of a process that it ended.
_WINDOWS = {
    0xC0000005: "access violation",
    0xC0000017: "out of memory",
    0xC000012D: "out of memory",
    0xC00000FD: "stack overflow",
    0xC0000409: "aborted",
}
#: What Python, C++ and the operating system say.
_OUT_OF_MEMORY = ("MemoryError", "bad_alloc", "Cannot allocate memory")
#: Launchers report the signal that ended their child as its bare number, as 128 + or as 256 - that. The worker itself
#: never ends with such codes. Here: illegal instruction, abort, bus error, arithmetic, kill, segmentation fault.
_SIGNALS_AS_CODES = (4, 6, 7, 8, 9, 11)
_TRY_AGAIN = "Try again; if it happens again, send the log."
_LESS_MEMORY = "Close other programs or segment a smaller region (ROI), then try again."


def describe_exit(
    code: int | None, reason: str, last_words: str = "", *, windows: bool = os.name == "nt"
) -> tuple[str, str]:
    """(what happened, what to do) for the exit code that a `Transport` reports.

    >>> describe_exit(-9, "", windows=False)[0]
    'was ended by the system, probably because memory ran out'
    """
    if code is None:
        return reason or "cannot be started", "Check the Python that is chosen for the network in the settings."
    name = _windows_name(code) if windows else _signal_name(code)
    if name in ("SIGKILL", "out of memory"):
        return "was ended by the system, probably because memory ran out", _LESS_MEMORY
    if any(word in last_words for word in _OUT_OF_MEMORY):
        return "ran out of memory", _LESS_MEMORY
    if name:
        return f"crashed ({name})", _TRY_AGAIN
    return f"ended unexpectedly (exit code {code})", _TRY_AGAIN


def _signal_name(code: int) -> str:
    if code < 0:
        number = -code
    elif code in _SIGNALS_AS_CODES:
        number = code
    else:
        number = {128: code - 128, 224: 256 - code}.get(code & 0xE0, 0)
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}" if code < 0 else ""


def _windows_name(code: int) -> str:
    unsigned = code & 0xFFFFFFFF
    return _WINDOWS.get(unsigned, hex(unsigned) if unsigned >= 0xC0000000 else "")
