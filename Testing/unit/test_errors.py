"""What the system refuses is said as such, and never as a defect of MAESegment."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest

from MAESegmentLib.errors import DeviceMemoryError, OutputError, refusal_by_system


def caught(work) -> BaseException:
    with pytest.raises(Exception) as raised:
        work()
    return raised.value


def test_memory_that_cannot_be_had_is_named_with_its_size() -> None:
    refusal = refusal_by_system(caught(lambda: np.empty(2**60, np.uint8)))
    assert isinstance(refusal, DeviceMemoryError)
    assert "ran out of memory: Unable to allocate 1.00 EiB" in refusal.message
    assert refusal.hint
    assert refusal_by_system(MemoryError()).message == "The computer ran out of memory."  # type: ignore[union-attr]


def test_torchs_own_way_to_say_so_is_known() -> None:
    import torch

    assert isinstance(refusal_by_system(caught(lambda: torch.empty(2**55))), DeviceMemoryError)


def test_a_character_that_an_encoding_lacks_is_named() -> None:
    refusal = refusal_by_system(caught(lambda: "Schilddrüse".encode("ascii")))
    assert isinstance(refusal, OutputError)
    assert refusal.message == r"'\xfc' in 'Schilddr\xfcse' cannot be written as ascii."
    refusal.message.encode("ascii")


@pytest.mark.parametrize(
    ("number", "hint"), [(errno.ENOSPC, "Free some space"), (errno.EACCES, "permission"), (errno.EIO, "Check the path")]
)
def test_a_file_that_was_refused_is_named_with_a_remedy(number: int, hint: str) -> None:
    refusal = refusal_by_system(OSError(number, os.strerror(number), "/data/scan.nii"))
    assert isinstance(refusal, OutputError)
    assert refusal.message == f"/data/scan.nii: {os.strerror(number)}."
    assert hint in refusal.hint


def test_a_defect_is_none_of_these() -> None:
    for error in (ZeroDivisionError(), RuntimeError("shapes differ"), KeyError("x"), OSError("no number")):
        assert refusal_by_system(error) is None
