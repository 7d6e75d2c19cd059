"""One user's process, as the front door sees it: started when it is needed, ended when its input closes."""

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

import aiohttp

from ...errors import WorkerError
from ...processes.exit_reason import describe_exit
from ...processes.interpreter import choose_interpreter, module_launch
from ...processes.process_tree import kill_tree
from ...values import from_json
from .session_socket import SocketPath

#: The header without which a session's process answers nobody: where it needs a port, others on the machine reach it.
SECRET_HEADER = "X-MAESegment-Session"
_START_TIMEOUT_S = 120.0
_END_TIMEOUT_S = 8.0
_MODULE = "MAESegmentLib.web.door.session"
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
        return from_json(cls, json.loads(line))


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
        self._socket: SocketPath | None = None
        self._client: aiohttp.ClientSession | None = None
        self._starting = asyncio.Lock()
        self._watch: asyncio.Task[None] | None = None
        #: What is said to who comes back after a crash.
        self._notice = ""

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None and self._client is not None

    @property
    def log_path(self) -> Path:
        """What the process says on its standard error."""
        return self._work / _LOG

    @property
    def client(self) -> aiohttp.ClientSession:
        """Reaches the process at `url`; `ClientConnectionError` unless it is ready."""
        if self._client is None:
            raise aiohttp.ClientConnectionError("it has ended")
        return self._client

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def ready(self) -> None:
        """Start it unless it runs; `WorkerError` says why it cannot."""
        async with self._starting:
            if not self.is_running:
                await self._start()

    async def close(self) -> None:
        """End it and forget its files. A fine-tuning is a process of its own and continues."""
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
        await self._hang_up()
        await asyncio.to_thread(shutil.rmtree, self._work, ignore_errors=True)

    async def _watch_over(self, process: asyncio.subprocess.Process) -> None:
        """Note why it ended, and leave nothing of a scan behind, as soon as it has."""
        code = await process.wait()
        async with self._starting:
            if process is not self._process:
                return
            await self._hang_up()
            happened, _hint = describe_exit(code, "", self._last_words())
            self._notice = f"The earlier session {happened}; its scene is lost."
            logging.warning("MAESegment: a session %s", happened)
            await asyncio.to_thread(clear, self._work)

    async def _start(self) -> None:
        await self._hang_up()
        await asyncio.to_thread(clear, self._work)
        self._work.mkdir(mode=0o700, exist_ok=True)
        config = replace(self._config, notice=self._notice)
        launch = module_launch(choose_interpreter(environ={}), os.environ, _MODULE)
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
            place = json.loads(line)
            self._call(int(place["port"]), bool(place["socket"]))
        except (asyncio.TimeoutError, ValueError, KeyError) as error:
            kill_tree(process.pid)
            raise WorkerError(
                f"The process with Slicer's scene did not start: {self._last_words()}",
                "Slicer's views need some system libraries. On Debian or Ubuntu: "
                "sudo apt-get install libegl1 libgl1 libx11-6 libglib2.0-0",
            ) from error

    def _call(self, port: int, has_socket: bool) -> None:
        connector: aiohttp.BaseConnector | None = None
        if has_socket:
            self._socket = SocketPath(self._work)
            connector = aiohttp.UnixConnector(self._socket.path)
        # Pieces are passed on as they are: no compression, no time limit for a whole answer.
        self._client = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._port = port

    async def _hang_up(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _last_words(self) -> str:
        lines = self.log_path.read_text(errors="replace").strip().splitlines() if self.log_path.exists() else []
        return lines[-1] if lines else "it said nothing."
