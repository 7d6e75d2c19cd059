"""What work on the scene needs of this process: the warm worker on asyncio's loop, and its folders."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ..app.log_buffer import LogBuffer
from ..app.run_watch import RunWatch
from ..processes.interpreter import Interpreter, choose_interpreter, worker_launch
from ..processes.launch import Launch
from ..storage.user_folders import default_cases_folder
from ..worker.client.client import WorkerClient
from ..worker.client.transport import SubprocessTransport
from ..worker.job_folder import remove_stale

T = TypeVar("T")


class WorkerSession:
    """A `scene.session.SceneSession`. Made on the running event loop; the worker starts with the first request."""

    def __init__(self, working_folder: Path, **client_options: Any) -> None:
        self.working_folder = working_folder
        self.log = LogBuffer()
        self._loop = asyncio.get_running_loop()
        self.client = WorkerClient(
            lambda: SubprocessTransport.on_loop(self._loop), self._launch, log=self.log.add, **client_options
        )
        self.watch = RunWatch(self.call_later)
        self._case_root = ""

    @property
    def case_root(self) -> Path:
        return Path(self._case_root).expanduser() if self._case_root else default_cases_folder()

    def set_case_root(self, path: str) -> None:
        self._case_root = path

    def interpreter(self) -> Interpreter:
        return choose_interpreter()

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        return self._loop.call_later(seconds, callback).cancel

    def pump(self, seconds: float) -> None:
        """Nothing waits here: what would call this gets `wait=False` instead."""
        raise RuntimeError(f"The event loop cannot be waited for ({seconds:g} s) from within itself.")

    def call_aside(self, function: Callable[[], T]) -> T:
        """At once: callers in the browser hand work to threads themselves, and await it."""
        return function()

    async def close(self) -> None:
        """End the worker; a fine-tuning goes on."""
        self.watch.stop()
        self.client.shutdown()
        for _turn in range(100):
            if self.client.is_ended:
                break
            await asyncio.sleep(0.05)

    def _launch(self) -> Launch:
        remove_stale(self.working_folder)
        return worker_launch(self.interpreter(), self.environment())
