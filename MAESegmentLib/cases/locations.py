"""Where corrected cases are kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..bundle import Bundle, ModelStore


def default_case_root() -> Path:
    """`MAESEGMENT_CASES`, or "MAESegment cases" among the user's documents."""
    chosen = os.environ.get("MAESEGMENT_CASES")
    if chosen:
        return Path(chosen).expanduser()
    return Path.home() / "Documents" / "MAESegment cases"


def case_folder(root: Path, bundle: Bundle, store: ModelStore) -> Path:
    """The store of the cases for `bundle` and all versions that come from the same model."""
    return root / store.root_of(bundle)
