"""Sums that lie in a file are the same as in memory, and do not stay in the process's memory."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
import torch

from MAESegmentLib.inference import spilled
from MAESegmentLib.inference.spilled import SpilledTensor
from MAESegmentLib.inference.windows import WindowPlan, sliding_rows
from Testing.processes import resident_bytes

CPU = torch.device("cpu")


@pytest.mark.parametrize("mapped", [0, 5000, 2**20])
@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.5])
def test_blended_scores_do_not_depend_on_where_they_are_summed(
    overlap: float, mapped: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    image, network = torch.randn(1, 23, 17, 14), torch.nn.Conv3d(1, 5, 3, padding=1)
    plan = WindowPlan((23, 17, 14), (8, 6, 7), overlap)

    def blended() -> torch.Tensor:
        rows = sliding_rows(image, network, plan, batch_size=2, device=CPU, accumulate_on=CPU)
        return torch.stack([torch.tensor(scores) for _, scores in rows])

    with torch.inference_mode():
        in_memory = blended()
        monkeypatch.setattr(spilled, "IN_MEMORY", 0)
        monkeypatch.setattr(spilled, "_MAPPED", mapped)
        torch.testing.assert_close(blended(), in_memory, atol=0, rtol=0)


def test_what_was_released_is_kept_but_not_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spilled, "_MAPPED", 2**20)
    before = resident_bytes(os.getpid())
    sums = SpilledTensor((64, 2**20), CPU, in_memory=0)  # 256 MiB
    for row in range(64):
        sums.rows[row].fill(row)
        sums.release(slice(row, row + 1))
    assert not sums.is_in_memory
    assert resident_bytes(os.getpid()) - before < 64 * 2**20
    assert [float(sums.rows[row].sum()) for row in (0, 7, 63)] == [0, 7 * 2**20, 63 * 2**20]


def test_without_room_for_a_file_memory_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/nowhere")
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    sums = SpilledTensor((2, 3), CPU, in_memory=0)
    assert sums.is_in_memory
    assert sums.rows.shape == (2, 3)


def test_the_file_lies_where_the_person_wants_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    sums = SpilledTensor((2, 3), CPU, in_memory=0)
    assert str(tmp_path) in Path("/proc/self/maps").read_text()
    assert not sums.is_in_memory
    assert not [*tmp_path.iterdir()]  # nothing is left, however the process ends
