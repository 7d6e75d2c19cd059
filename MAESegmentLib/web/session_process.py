"""One person's process, as the front door sees it: started when it is needed, ended when its input closes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import WorkerError
from ..jobs.interpreter import choose_interpreter, module_launch
from ..jobs.process_tree import kill_tree

#: The header without which a session's process answers nobody: other people on the machine reach its port, too.
SECRET_HEADER = "X-MAESegment-Session"
_START_TIMEOUT_S = 120.0
_END_TIMEOUT_S = 8.0
_MODULE = "MAESegmentLib.web.session"


@dataclass(frozen=True)
class SessionConfig:
    """What a session's process is told on its standard input, as one line of JSON."""

    secret: str
    work: str
    volumes: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    upload_bytes: int = 4 << 30
    device: str = "auto"
    notice: str = ""

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def decode(cls, line: str | bytes) -> SessionConfig:
        fields = json.loads(line)
        return cls(**{**fields, "volumes": tuple(fields["volumes"]), "folders": tuple(fields["folders"])})


class SessionProcess:
    """`connections` counts the browser windows that are open on it; `idle_since` is when the last one closed."""

    def __init__(self, volumes: Sequence[str], folders: Sequence[str], upload_bytes: int, device: str) -> None:
        self.secret = secrets.token_urlsafe(24)
        self.connections = 0
        self.idle_since = time.monotonic()
        self._work = Path(tempfile.mkdtemp(prefix="maesegment-app-"))
        self._given = (tuple(volumes), tuple(folders), upload_bytes, device)
        self._process: asyncio.subprocess.Process | None = None
        self._port = 0
        self._starting = asyncio.Lock()
        self._ended_before = False

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None and self._port > 0

    @property
    def log_path(self) -> Path:
        """What the process says on its standard error."""
        return self._work / "session.log"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def ready(self) -> None:
        """Start it unless it runs; `WorkerError` says why it cannot."""
        async with self._starting:
            if not self.is_running:
                await self._start()

    async def close(self) -> None:
        """End it and forget its files. A fine-tuning is a process of its own and goes on."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            if process.stdin is not None:
                process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), _END_TIMEOUT_S)
            except asyncio.TimeoutError:
                kill_tree(process.pid)
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(process.wait(), _END_TIMEOUT_S)
        shutil.rmtree(self._work, ignore_errors=True)

    async def _start(self) -> None:
        volumes, folders, upload_bytes, device = self._given
        notice = "The earlier session ended unexpectedly; its scene is lost." if self._ended_before else ""
        config = SessionConfig(self.secret, str(self._work), volumes, folders, upload_bytes, device, notice)
        launch = module_launch(choose_interpreter(environ={}), os.environ, _MODULE)
        self._port = 0
        with self.log_path.open("ab") as log:
            process = self._process = await asyncio.create_subprocess_exec(
                launch.program,
                *launch.arguments,
                env=dict(launch.environment),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(config.encode())
        self._ended_before = True
        try:
            line = await asyncio.wait_for(process.stdout.readline(), _START_TIMEOUT_S)
            self._port = int(json.loads(line)["port"])
        except (asyncio.TimeoutError, ValueError, KeyError) as error:
            kill_tree(process.pid)
            raise WorkerError(
                f"The process with Slicer's scene did not start: {self._last_words()}",
                "Slicer's views need some system libraries. On Debian or Ubuntu: "
                "sudo apt-get install libegl1 libgl1 libx11-6 libglib2.0-0",
            ) from error

    def _last_words(self) -> str:
        lines = self.log_path.read_text(errors="replace").strip().splitlines() if self.log_path.exists() else []
        return lines[-1] if lines else "it said nothing."
