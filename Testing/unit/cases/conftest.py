"""Stores and scans for the tests of the case store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from MAESegmentLib.cases.store import CaseStore
from MAESegmentLib.cases.submission import CaseSubmission
from Testing.phantoms import LABELS, Phantom, PhantomFactory


@pytest.fixture
def store(tmp_path: Path) -> CaseStore:
    return CaseStore(tmp_path / "tiny-mr")


@pytest.fixture
def scan() -> Callable[[int], Phantom]:
    """`scan(n)` is the n-th of many different scans of one body."""

    def scan(number: int) -> Phantom:
        return PhantomFactory()(noise=10.0, seed=number, dtype=np.int16)

    return scan


@pytest.fixture
def add(store: CaseStore, scan: Callable[[int], Phantom]):
    """Store the n-th scan; `changes` are those of the submission."""

    def add(number: int, **changes):
        phantom = scan(number)
        return store.add(phantom.volume, phantom.label_map, CaseSubmission(**{"labels": LABELS, **changes}))

    return add
