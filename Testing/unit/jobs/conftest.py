from __future__ import annotations

import pytest

from Testing.unit.jobs.fakes import FakeWorld


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld()
