"""A short run of the kill test; the long one is `python -m Testing.kill_test --kills 50`."""

from __future__ import annotations

from Testing.kill_test import KINDS, main


def test_kills_at_random_moments_corrupt_nothing(capsys) -> None:
    assert main(["--kills", str(len(KINDS)), "--seed", "3"]) == 0, capsys.readouterr().out
