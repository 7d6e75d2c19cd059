"""Several processes that train one model together, as `torchrun` starts them; alone, everything here costs nothing.

Which patches, masks and dropout a step has depends on the seed and the step, never on how many processes share it.
A failure in one process is raised in all, so that none waits for another that is gone.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.rendezvous import rendezvous

from ...device import resolve_device
from ...errors import ConfigurationError, DeviceError, MAESegmentError, TrainingError, from_code
from ...torchrun import Launch
from ..settings import LoopSettings

T = TypeVar("T")
R = TypeVar("R")
SettingsT = TypeVar("SettingsT", bound=LoopSettings)

#: The first process may measure or save for long while the others wait. One that has died is noticed at once.
_TIMEOUT = timedelta(hours=2)
#: Key of the port, in the launcher's store, and how long a process looks for the first one.
_PORT = "maesegment/port"
_JOINING_SECONDS = 600.0

#: Buffers are indices and masks, the same everywhere. PyTorch has renamed the argument that says so.
_SYNC = "forward_sync_buffers"
_HAS_SYNC = _SYNC in inspect.signature(nn.parallel.DistributedDataParallel.__init__).parameters
_UNSYNCED_BUFFERS: dict[str, Any] = {_SYNC if _HAS_SYNC else "broadcast_buffers": False}


def in_parts(settings: SettingsT, processes: int) -> SettingsT:
    """With a step in as many parts as there are `processes`, unless the parts were chosen."""
    if settings.micro_batch is not None:
        return settings
    return replace(settings, micro_batch=max(1, settings.batch_size // processes))


@dataclass(frozen=True)
class Team:
    """This process among `size` that do the same work, `local_size` of them on this machine."""

    rank: int = 0
    size: int = 1
    local_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and reports to the user."""
        return self.rank == 0

    def own(self, items: Sequence[T]) -> Sequence[T]:
        """This process's share: every item belongs to exactly one process."""
        return items[self.rank :: self.size]

    def own_folder(self, folder: Path) -> Path:
        """`folder`, or one beside it that no other process uses."""
        return folder if self.size == 1 else folder.with_name(f"{folder.name}-{self.rank}")

    def all_reduce_sum(self, values: Sequence[float] = (), failed: Exception | None = None) -> list[float]:
        """The sums over all processes, which must all call this. If one of them `failed`, all raise."""
        if self.size == 1:
            if failed is not None:
                raise failed
            return list(values)
        vector = torch.tensor([float(failed is not None), *values], dtype=torch.float64)
        dist.all_reduce(vector)
        if vector[0]:
            self._raise(failed)
        return vector[1:].tolist()

    def all_reduce_any(self, flag: bool, failed: Exception | None = None) -> bool:
        """Whether `flag` is set in any process, which must all call this. If one of them `failed`, all raise."""
        return self.all_reduce_sum([float(flag)], failed)[0] > 0

    def all_gather(self, value: Any) -> list[Any]:
        """The value of each process, in order of rank; values that JSON can hold. All must call this."""
        if self.size == 1:
            return [value]
        data = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(sizes, torch.tensor([len(data)]))
        longest = max(int(size) for size in sizes)
        parts = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.size)]
        dist.all_gather(parts, torch.cat([data, data.new_zeros(longest - len(data))]))
        return [json.loads(bytes(part[: int(size)].tolist())) for part, size in zip(parts, sizes, strict=True)]

    def map(self, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """`work` of every item, shared out among the processes, with all results in each. All must call this.

        Results must be values that JSON can hold.
        """
        results: list[R] = []
        failed = None
        try:
            results = [work(item) for item in self.own(items)]
        except Exception as error:  # raised in all by `all_reduce_sum`
            failed = error
        self.all_reduce_sum((), failed)
        shares = self.all_gather(results)
        return [shares[n % self.size][n // self.size] for n in range(len(items))]

    def first(self, work: Callable[[], R]) -> R | None:
        """Let the first process do it while the others, which must call this too, wait; they return None, or raise."""
        result, failed = None, None
        if self.is_first:
            try:
                result = work()
            except Exception as error:  # raised in all by `all_reduce_sum`
                failed = error
        self.all_reduce_sum((), failed)
        return result

    def data_parallel(self, model: nn.Module) -> nn.Module:
        """`model` whose gradients, after a backward pass, are the mean over all processes."""
        if self.size == 1:
            return model
        # Convolutions with one input channel have gradients of unusual strides; the copy that costs is small.
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        return nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True, **_UNSYNCED_BUFFERS)

    def check_same(self, value: int | str, what: str) -> None:
        """Raise everywhere unless `value` is the same in all processes."""
        values = self.all_gather(value)
        if len(set(values)) > 1:
            raise TrainingError(
                f"The processes do not agree on {what}: {', '.join(map(str, values))}.",
                "All machines must see the same output folder, on a file system that they share.",
            )

    def settings(self, settings: SettingsT) -> SettingsT:
        """With the parts of a step chosen, so that every process has some; raises where that cannot be."""
        if self.size == 1:
            return settings
        settings = in_parts(settings, self.size)
        parts = len(settings.parts())
        if parts < self.size:
            raise ConfigurationError(
                f"A step of {settings.batch_size} patches makes {parts} parts of {settings.micro_batch}: too few for "
                f"{self.size} processes.",
                "Use a larger --batch-size, a smaller --micro-batch, or fewer processes.",
            )
        return settings

    def describe(self, settings: LoopSettings) -> tuple[str, ...]:
        """How a step is shared out, in a sentence; none for one process that does it in one go."""
        parts = len(settings.parts())
        if self.size == 1 and parts == 1:
            return ()
        text = f"A step is {settings.batch_size} patches in {parts} parts"
        if self.size > 1:
            text += f", shared by {self.size} processes"
        if parts % self.size:
            text += "; the parts are not a multiple of the processes, so some wait for others"
        return (f"{text}. Any number of processes gives the same result with --micro-batch {settings.micro_batch}.",)

    def _raise(self, failed: Exception | None) -> None:
        reports = self.all_gather(None if failed is None else _described(failed))
        if failed is not None:
            raise failed
        rank, (code, message, hint) = next((n, report) for n, report in enumerate(reports) if report)
        raise from_code(code, f"Process {rank} of {self.size} failed: {message}", hint)


SOLO = Team()


@contextlib.contextmanager
def joined(device: str) -> Iterator[Team]:
    """The team that `torchrun` (or any launcher that sets its environment variables) made of this process.

    `device` is the setting: each process takes the GPU of its local rank, or all compute on the CPU.
    """
    launch = Launch.from_environment()
    size = launch.world_size
    if size == 1:
        resolve_device(device)  # refused before anything is made
        yield SOLO
        return
    team = Team(launch.rank, size, launch.local_world_size)
    uses_gpu = _choose_gpu(device, launch.local_rank)
    # What steers the run are small tensors on the CPU, whatever the gradients are on.
    backend = "cpu:gloo,cuda:nccl" if uses_gpu else "gloo"
    dist.init_process_group(backend, store=_meeting_place(team), rank=team.rank, world_size=size, timeout=_TIMEOUT)
    yield team
    # Only where all is well: after a failure the others may never come to the same point.
    dist.destroy_process_group()


def _meeting_place(team: Team) -> dist.Store:
    """Where the processes find each other. The store that torchrun itself keeps still holds the addresses of those that
    died before a restart, for which gloo would wait; so the first process opens a new one and notes its port there."""
    shared, _, _ = next(rendezvous("env://", team.rank, team.size))
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return shared  # of the first process, so it did not outlive a restart
    host = os.environ["MASTER_ADDR"]
    if team.is_first:
        store = dist.TCPStore(host, 0, team.size, is_master=True, wait_for_workers=False, timeout=_TIMEOUT)
        shared.set(_PORT, str(store.port))
        return store
    end = time.monotonic() + _JOINING_SECONDS
    while True:
        port = int(shared.get(_PORT))
        try:
            return dist.TCPStore(host, port, team.size, wait_for_workers=False, timeout=timedelta(seconds=2))
        except dist.DistError:  # noted before a restart: nobody listens there any more
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def _choose_gpu(device: str, local_rank: int) -> bool:
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigurationError(
            f"Several processes cannot all use {device}.", "Use --device cuda: each process takes a GPU of its own."
        )
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return False
    if local_rank >= torch.cuda.device_count():
        raise DeviceError(
            f"Process {local_rank} of this machine has no GPU: there are {torch.cuda.device_count()}.",
            "Start as many processes as there are GPUs (--nproc-per-node), or use --device cpu.",
        )
    torch.cuda.set_device(local_rank)
    return True


def _described(error: Exception) -> tuple[str, str, str]:
    if isinstance(error, MAESegmentError):
        return error.code, error.message, error.hint
    return TrainingError.code, f"{type(error).__name__}: {error}", ""


def seed_of(settings: LoopSettings, step: int, part: int) -> int:
    """For masks and dropout of a part of a step: the same whoever computes it, and after an interruption too."""
    if part == 0:
        return settings.seed * 1_000_003 + step
    digest = hashlib.sha256(repr((settings.seed, step, part)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
