"""One person's process, as the front door sees it: started when it is needed, ended when its input closes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ..errors import WorkerError
from ..jobs.exit_reason import describe_exit
from ..jobs.interpreter import choose_interpreter, module_launch
from ..jobs.process_tree import kill_tree

#: The header without which a session's process answers nobody: other people on the machine reach its port, too.
SECRET_HEADER = "X-MAESegment-Session"
_START_TIMEOUT_S = 120.0
_END_TIMEOUT_S = 8.0
_MODULE = "MAESegmentLib.web.session"
_LOG = "session.log"


@dataclass(frozen=True)
class SessionConfig:
    """What a session's process is told on its standard input, as one line of JSON."""

    secret: str
    work: str
    volumes: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    upload_bytes: int = 4 << 30
    server_bytes: int = 4 << 30
    device: str = "auto"
    notice: str = ""

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def decode(cls, line: str | bytes) -> SessionConfig:
        fields = json.loads(line)
        return cls(**{**fields, "volumes": tuple(fields["volumes"]), "folders": tuple(fields["folders"])})


def clear(work: Path) -> None:
    """Remove what a session has written to its folder, but for its log."""
    for path in work.iterdir() if work.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != _LOG:
            path.unlink(missing_ok=True)


class SessionProcess:
    """`connections` counts the browser windows that are open on it; `idle_since` is when the last one closed."""

    def __init__(self, config: SessionConfig) -> None:
        self.secret = config.secret
        self.connections = 0
        self.was_opened = False
        self.idle_since = time.monotonic()
        self._work = Path(config.work)
        self._config = config
        self._process: asyncio.subprocess.Process | None = None
        self._port = 0
        self._starting = asyncio.Lock()
        self._watch: asyncio.Task[None] | None = None
        #: What is said to who comes back after a crash.
        self._notice = ""

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None and self._port > 0

    @property
    def log_path(self) -> Path:
        """What the process says on its standard error."""
        return self._work / _LOG

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
        if self._watch is not None:
            self._watch.cancel()
        if process is not None and process.returncode is None:
            if process.stdin is not None:
                process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), _END_TIMEOUT_S)
            except asyncio.TimeoutError:
                kill_tree(process.pid)
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(process.wait(), _END_TIMEOUT_S)
        await asyncio.to_thread(shutil.rmtree, self._work, ignore_errors=True)

    async def _watch_over(self, process: asyncio.subprocess.Process) -> None:
        """Note why it ended, and leave nothing of a scan behind, as soon as it has."""
        code = await process.wait()
        async with self._starting:
            if process is not self._process:
                return
            self._port = 0
            happened, _hint = describe_exit(code, "", self._last_words())
            self._notice = f"The earlier session {happened}; its scene is lost."
            logging.warning("MAESegment: a session %s", happened)
            await asyncio.to_thread(clear, self._work)

    async def _start(self) -> None:
        await asyncio.to_thread(clear, self._work)
        self._work.mkdir(mode=0o700, exist_ok=True)
        config = replace(self._config, notice=self._notice)
        launch = module_launch(choose_interpreter(environ={}), os.environ, _MODULE)
        self._port = 0
        self.log_path.touch(mode=0o600)
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
        self._watch = asyncio.create_task(self._watch_over(process))
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
