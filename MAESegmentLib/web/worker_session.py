"""What work on the scene needs of this process: the warm worker on asyncio's loop, and its folders."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

from ..app.session import LogBuffer, RunWatch
from ..errors import MAESegmentError
from ..jobs import AsyncioLoop
from ..processes.interpreter import Interpreter, choose_interpreter, worker_launch
from ..processes.launch import Launch
from ..storage.atomic_file import write_file
from ..storage.user_folders import default_cases_folder, make_private_folder
from ..worker.client.client import WorkerClient
from ..worker.client.transport import SubprocessTransport
from ..worker.job_folder import remove_stale


class WorkerSession:
    """An `app.session.SceneSession`. Made on the running event loop; the worker starts with the first request."""

    def __init__(self, working_folder: Path, choices: Path) -> None:
        """`choices` is the file with what the user chose last."""
        self.working_folder = working_folder
        self._choices = choices
        self.case_root = default_cases_folder()
        self.log = LogBuffer()
        self.loop = loop = AsyncioLoop()
        self.client = WorkerClient(loop, lambda: SubprocessTransport(loop), self._launch, log=self.log.add)
        self.watch = RunWatch(loop)

    def set_case_root(self, path: str) -> None:
        self.case_root = Path(path).expanduser() if path else default_cases_folder()

    def chosen(self, name: str) -> str:
        return self._chosen().get(name, "")

    def choose(self, name: str, value: str) -> None:
        """Nothing is lost but the convenience if it cannot be kept."""
        try:
            make_private_folder(self._choices.parent)
            write_file(self._choices, json.dumps({**self._chosen(), name: value}))
        except (OSError, MAESegmentError) as error:
            self.log.add("warning", str(error))

    def _chosen(self) -> dict[str, str]:
        try:
            kept = json.loads(self._choices.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {str(name): str(value) for name, value in kept.items()} if isinstance(kept, dict) else {}

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
