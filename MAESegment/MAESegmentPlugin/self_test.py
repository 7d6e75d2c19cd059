"""Finds the self test, which lies in the source tree of MAESegment (Testing/slicer) and is not installed."""

from __future__ import annotations

import importlib
import sys
import unittest
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

PACKAGE = "MAESegmentSelfTest"
_BESIDE_THE_MODULE = Path(__file__).resolve().parents[2] / "Testing" / "slicer"


def load_self_test(folder: Path = _BESIDE_THE_MODULE) -> Any:
    """The module with `run(logic_class) -> Report`; `unittest.SkipTest`, saying where it is, if it is not in `folder`.

    It is a package of its own name, so that a Reload of the module drops it, too.
    """
    start = folder / "__init__.py"
    if not start.is_file():
        raise unittest.SkipTest(
            f"The self test is part of the source code of MAESegment and not installed: there is no {folder}. "
            "Get the source code and start its Testing/slicer/run_in_slicer.py in this Slicer."
        )
    spec = spec_from_file_location(PACKAGE, start, submodule_search_locations=[str(folder)])
    assert spec is not None
    assert spec.loader is not None
    package = sys.modules[PACKAGE] = module_from_spec(spec)
    spec.loader.exec_module(package)
    return importlib.import_module(f"{PACKAGE}.self_test")
