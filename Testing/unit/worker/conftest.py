from __future__ import annotations

import pytest

from Testing.unit.worker.fakes import FakeWorld


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld()
