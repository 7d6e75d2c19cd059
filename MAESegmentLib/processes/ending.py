"""The end of a process whose threads of torch may outlive what it did."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from typing import NoReturn


def end_process(code: int) -> NoReturn:
    """Do what is due at exit, write out what was printed, and end without tearing threads down.

    Threads of gloo outlive the process group (PyTorch 2.13): an interpreter that ends with them running may be aborted
    ("terminate called without an active exception"), and torchrun would then stop the other processes, too.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # nobody reads it, or it is closed
            stream.flush()
    os._exit(code)
