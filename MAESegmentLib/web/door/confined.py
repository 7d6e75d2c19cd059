"""Reading a scan that nobody has checked: whatever its headers name, no file outside its own folder is opened.

Readers follow what they find: a header names the file with its voxels, a folder holds links. Here every file that
Python opens meanwhile, in this thread, is looked at before it is.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import site
import stat
import sys
import sysconfig
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import VolumeReadError

#: What libraries look up about this machine.
_MACHINE = re.compile(
    r"/dev/(null|zero|urandom)|/proc/(meminfo|stat|cpuinfo|(self|\d+)/(stat|statm|status|cgroup|mountinfo))"
    r"|/sys/(fs/cgroup|devices/system)/.*|/etc/(localtime|timezone)|/usr/share/zoneinfo/.*"
)
_CODE = (".py", ".pyc", ".so", ".pyd")
_PACKAGE = Path(__file__).resolve().parents[2]


@dataclass
class _Cell:
    """`roots` may be read; `refused` is the first file elsewhere that was to be opened."""

    roots: tuple[str, ...]
    refused: list[str] = field(default_factory=list)


_here = threading.local()
_installed = threading.Event()


@contextlib.contextmanager
def confined(name: str, *roots: Path) -> Iterator[None]:
    """Within, files are opened below `roots` only: see `only_below`.

    `VolumeReadError` at the end if others were to be opened, whatever the reader made of the refusal. `name` is that of
    the scan.
    """
    refused: list[str] = []
    try:
        with only_below(*roots) as refused:
            yield
    except Exception as error:
        if refused:
            raise _outside(name) from error
        raise
    if refused:
        raise _outside(name)


@contextlib.contextmanager
def only_below(*roots: Path) -> Iterator[list[str]]:
    """Within, this thread opens regular files below `roots` and those of Python; others are a `PermissionError`.

    Yields the list of those. Files that compiled code opens by itself are not seen.
    """
    if not _installed.is_set():
        _installed.set()
        sys.addaudithook(_look)  # stays for the life of the process
    cell = _Cell(tuple(os.path.realpath(root) for root in roots))
    outer, _here.cell = getattr(_here, "cell", None), cell
    try:
        yield cell.refused
    finally:
        _here.cell = outer


def _outside(name: str) -> VolumeReadError:
    return VolumeReadError(
        f"{name} refers to a file outside its own folder, which was not opened.",
        "Put all files of the scan into one folder, without links, and choose them together.",
    )


def _look(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "open":
        return
    cell: _Cell | None = getattr(_here, "cell", None)
    if cell is None or isinstance(arguments[0], int):
        return
    _here.cell = None  # looking opens nothing, but may be looked at
    try:
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if not _is_allowed(path, cell.roots):
            cell.refused.append(path)
            raise PermissionError(f"{Path(path).name} lies outside the folder of the scan")
    finally:
        _here.cell = cell


def _is_allowed(path: str, roots: tuple[str, ...]) -> bool:
    if any(_is_below(path, root) for root in roots):
        try:
            kind = os.lstat(path).st_mode
        except OSError:
            return True  # it is not there, which the reader says
        return stat.S_ISREG(kind) or stat.S_ISDIR(kind)
    if _MACHINE.fullmatch(path) or any(_is_below(path, place) for place in _packages()):
        return True
    # A package that is worked on lies anywhere.
    return path.endswith(_CODE) and any(_is_below(path, os.path.realpath(place)) for place in sys.path if place)


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)


@functools.cache
def _packages() -> tuple[str, ...]:
    """Where Python's own modules and installed packages are: they are imported when they are first needed."""
    named = sysconfig.get_paths()
    places = [*(named[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")), *site.getsitepackages()]
    places += [site.getusersitepackages(), os.fspath(_PACKAGE), *([sys.pycache_prefix] if sys.pycache_prefix else [])]
    return tuple(os.path.realpath(place) for place in places)
