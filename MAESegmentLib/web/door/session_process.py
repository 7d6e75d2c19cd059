"""One user's process, as the front door sees it: started when it is needed, ended when its input closes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import aiohttp

from ...errors import WorkerError
from ...processes.exit_reason import describe_exit
from ...processes.interpreter import choose_interpreter, module_launch
from ...processes.process_tree import kill_tree
from ...values import from_json

#: A session's process refuses requests without this header: where it needs a port, others on the machine reach it.
SECRET_HEADER = "X-MAESegment-Session"
_START_TIMEOUT_S = 120.0
_END_TIMEOUT_S = 8.0
_MODULE = "MAESegmentLib.web.door.session"


@dataclass(frozen=True)
class SessionConfig:
    """What a session's process is told on its standard input, as one line of JSON."""

    secret: str
    work: str
    volumes: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    upload_bytes: int = 4 << 30
    #: What uploads leave free on the disk.
    reserve_bytes: int = 0
    device: str = "auto"
    #: Whose drawings are kept: the name of a folder.
    owner: str = "own"
    notice: str = ""

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def decode(cls, line: str | bytes) -> SessionConfig:
        return from_json(cls, json.loads(line))


class SessionProcess:
    """`windows` counts those of the browser that are open on it; its log is kept beside its folder."""

    def __init__(self, config: SessionConfig) -> None:
        self.secret = config.secret
        self.windows = 0
        self.was_opened = False
        #: Where `client` reaches it.
        self.url = "http://127.0.0.1"
        self._left_at = time.monotonic()
        self._work = Path(config.work)
        self._log = self._work.with_suffix(".log")
        self._config = config
        self._process: asyncio.subprocess.Process | None = None
        self._client: aiohttp.ClientSession | None = None
        self._starting = asyncio.Lock()
        self._watch: asyncio.Task[None] | None = None

    @property
    def left_for_s(self) -> float:
        """How long no window has been open on it."""
        return 0.0 if self.windows else time.monotonic() - self._left_at

    @contextlib.contextmanager
    def window(self) -> Iterator[None]:
        """Within, a window is open on it."""
        self.windows += 1
        self.was_opened = True
        try:
            yield
        finally:
            self.windows -= 1
            self._left_at = time.monotonic()

    @property
    def client(self) -> aiohttp.ClientSession:
        """`ClientConnectionError` unless it is ready."""
        if self._client is None:
            raise aiohttp.ClientConnectionError("it has ended")
        return self._client

    @property
    def is_ready(self) -> bool:
        return self._process is not None and self._process.returncode is None and self._client is not None

    async def ready(self) -> None:
        """Start it unless it runs; `WorkerError` says why it cannot."""
        async with self._starting:
            if not self.is_ready:
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
        await self._clear()
        self._log.unlink(missing_ok=True)

    async def _watch_over(self, process: asyncio.subprocess.Process) -> None:
        """Note why it ended, for who comes back; leave nothing of a scan behind, as soon as it has."""
        code = await process.wait()
        async with self._starting:
            if process is not self._process:
                return
            happened, _hint = describe_exit(code, "", self._last_words())
            self._config = replace(self._config, notice=f"The earlier session {happened}; its scans are closed.")
            logging.warning("MAESegment: a session %s", happened)
            await self._clear()

    async def _start(self) -> None:
        await self._clear()
        self._work.mkdir(mode=0o700)
        launch = module_launch(choose_interpreter(environ={}), os.environ, _MODULE)
        self._log.touch(mode=0o600)
        with self._log.open("ab") as log:
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
        process.stdin.write(self._config.encode())
        self._watch = asyncio.create_task(self._watch_over(process))
        try:
            place = json.loads(await asyncio.wait_for(process.stdout.readline(), _START_TIMEOUT_S))
            self.url = f"http://127.0.0.1:{int(place['port'])}"
            # Pieces are passed on as they are: no compression, no time limit for a whole response.
            self._client = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(place["socket"]) if place["socket"] else None,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        except (asyncio.TimeoutError, ValueError, KeyError) as error:
            kill_tree(process.pid)
            raise WorkerError(
                f"The process with Slicer's scene did not start: {self._last_words()}",
                "Slicer's views need some system libraries. On Debian or Ubuntu: "
                "sudo apt-get install libegl1 libgl1 libx11-6 libglib2.0-0",
            ) from error

    async def _clear(self) -> None:
        """Hang up, and remove what it has written."""
        if self._client is not None:
            await self._client.close()
            self._client = None
        await asyncio.to_thread(shutil.rmtree, self._work, ignore_errors=True)

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines() if self._log.exists() else []
        return lines[-1] if lines else "it said nothing."
