"""A test may stay out only for a reason that is true on this machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from Testing.skips import NO_DATA, NO_GPU, is_expected

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("reason", "gpu", "data", "expected"),
    [
        (f"Skipped: {NO_GPU}", False, True, True),
        (f"Skipped: {NO_GPU}", True, True, False),
        (f"Skipped: {NO_DATA}: /somewhere", False, False, True),
        (f"Skipped: {NO_DATA}: /somewhere", False, True, False),
        ("Skipped: could not import 'monai'", False, False, False),
    ],
)
def test_a_skip_is_expected_only_where_its_reason_holds(reason, gpu, data, expected):
    assert is_expected(reason, gpu=gpu, data=data) is expected


def test_a_test_that_skips_for_another_reason_fails_the_run(tmp_path):
    (tmp_path / "test_it.py").write_text("import pytest\n\n\ndef test_it():\n    pytest.skip('too lazy')\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "Testing.conftest", "--rootdir", tmp_path, tmp_path]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=REPOSITORY)
    assert result.returncode == 1
    assert "not one of those that are expected" in result.stdout
