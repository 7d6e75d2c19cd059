"""What happens when memory runs out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from MAESegmentLib.errors import DeviceMemoryError
from MAESegmentLib.inference.fallback import Step, run_first_that_fits, steps_for

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
LADDER = [Step(GPU, 4, GPU), Step(GPU, 1, GPU), Step(GPU, 1, CPU), Step(CPU, 1, CPU)]


def failing(times: int, error: BaseException) -> tuple[Callable[[Step], str], list[Step]]:
    """A runner that raises `error` in its first `times` calls, and the steps it was given."""
    tried: list[Step] = []

    def run(step: Step) -> str:
        tried.append(step)
        if len(tried) <= times:
            raise error
        return "labels"

    return run, tried


def test_the_ladder_goes_from_batches_to_the_host_to_the_cpu() -> None:
    assert steps_for(GPU, 4, allow_cpu=True) == LADDER
    assert steps_for(GPU, 1, allow_cpu=False) == LADDER[1:3]
    assert steps_for(CPU, 1, allow_cpu=False) == LADDER[3:]


def test_nothing_is_said_when_the_first_step_fits() -> None:
    run, tried = failing(0, MemoryError())
    said: list[str] = []
    assert run_first_that_fits(LADDER, run, said.append) == ("labels", LADDER[0])
    assert tried == LADDER[:1]
    assert said == []


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        MemoryError(),
    ],
    ids=["cuda", "host", "cudnn", "python"],
)
def test_each_fall_is_reported_and_the_next_step_tried(error: BaseException) -> None:
    run, tried = failing(2, error)
    said: list[str] = []
    assert run_first_that_fits(LADDER, run, said.append) == ("labels", LADDER[2])
    assert tried == LADDER[:3]
    assert len(said) == 2
    assert "one window at a time" in said[0]
    assert "host memory" in said[1]


def test_when_nothing_fits_the_error_names_every_attempt() -> None:
    run, tried = failing(9, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))
    with pytest.raises(DeviceMemoryError, match="Tried to allocate") as caught:
        run_first_that_fits(LADDER, run, lambda _: None)
    assert tried == LADDER
    assert caught.value.message.count("cuda:0") == 4
    assert "region of interest" in caught.value.hint


def test_other_errors_are_not_mistaken_for_lack_of_memory() -> None:
    run, tried = failing(1, RuntimeError("size mismatch"))
    with pytest.raises(RuntimeError, match="size mismatch"):
        run_first_that_fits(LADDER, run, lambda _: None)
    assert tried == LADDER[:1]
