"""Runs the module's self test inside a real Slicer:

    Slicer --testing --no-main-window --python-script Testing/slicer/run_in_slicer.py

Exit code 0: all passed. 1: something failed. 2: what ran passed, but the network could not be run because the Python
for it lacks packages; the output says which. MAESEGMENT_PYTHON names another Python. The module is loaded from this
source tree unless it is there already (`--additional-module-paths`, or the installed extension).
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

import qt

import slicer

MODULE = "MAESegment"
# Slicer sets __file__ for scripts, older versions only argv.
FOLDER = Path(globals().get("__file__") or sys.argv[0]).resolve().parent


def load_module() -> None:
    """Make Slicer know the module, if it does not."""
    factory = slicer.app.moduleManager().factoryManager()
    if factory.isInstantiated(MODULE):
        return
    path = FOLDER.parents[1] / MODULE / f"{MODULE}.py"
    print(f"Loading {path}", flush=True)
    factory.registerModule(qt.QFileInfo(str(path)))
    if not factory.isRegistered(MODULE):
        raise RuntimeError(f"Slicer does not take {path} for a module")
    if not factory.loadModules([MODULE]):
        raise RuntimeError(f"Slicer could not load {path}; the reason is printed above")


def main() -> int:
    load_module()
    from MAESegmentPlugin.self_test import load_self_test

    import MAESegment

    print(f"MAESegment is {MAESegment.__file__}", flush=True)
    return load_self_test(FOLDER).run(MAESegment.MAESegmentLogic, with_reload=True).exit_code


# Not only if run as __main__: a script that did nothing would end with exit code 0.
try:
    code = main()
except Exception:
    traceback.print_exc()
    code = 1
print(f"MAESegment self test: exit code {code}", flush=True)
# Loading a module runs `del sys, os` here, in __main__; without `sys`, what Slicer does after the script fails, and it
# ends with exit code 1.
import sys  # noqa: E402

slicer.util.exit(code)
