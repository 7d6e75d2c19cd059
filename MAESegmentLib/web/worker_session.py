"""What work on the scene needs of this process: the warm worker on asyncio's loop, and its folders."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from ..app.session import LogBuffer, RunWatch
from ..jobs import AsyncioLoop
from ..processes.interpreter import Interpreter, choose_interpreter, worker_launch
from ..processes.launch import Launch
from ..storage.user_folders import default_cases_folder
from ..worker.client.client import WorkerClient
from ..worker.client.transport import SubprocessTransport
from ..worker.job_folder import remove_stale


class WorkerSession:
    """An `app.session.SceneSession`. Made on the running event loop; the worker starts with the first request."""

    def __init__(self, working_folder: Path) -> None:
        self.working_folder = working_folder
        self.case_root = default_cases_folder()
        self.log = LogBuffer()
        self.loop = loop = AsyncioLoop()
        self.client = WorkerClient(loop, lambda: SubprocessTransport(loop), self._launch, log=self.log.add)
        self.watch = RunWatch(loop)

    def set_case_root(self, path: str) -> None:
        self.case_root = Path(path).expanduser() if path else default_cases_folder()

    def interpreter(self) -> Interpreter:
        return choose_interpreter()

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    async def close(self) -> None:
        """End the worker; a fine-tuning continues."""
        self.watch.stop()
        self.client.shutdown()
        for _turn in range(100):
            if self.client.is_ended:
                break
            await asyncio.sleep(0.05)

    def _launch(self) -> Launch:
        remove_stale(self.working_folder)
        return worker_launch(self.interpreter(), self.environment())
