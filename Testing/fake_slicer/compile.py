"""Byte-compiles scripts beside themselves, as Slicer's build does: compile.py FOLDER LIST_OF_SCRIPTS STAMP."""

from __future__ import annotations

import py_compile
import sys
from pathlib import Path

folder, scripts, stamp = map(Path, sys.argv[1:])
for script in scripts.read_text().split():
    path = folder / script
    py_compile.compile(str(path), cfile=f"{path}c", doraise=True)
stamp.write_text("Done")
