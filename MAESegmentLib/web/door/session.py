"""The process of one user: Slicer's scene and views, served to the front door only.

`python -m MAESegmentLib.web.door.session`: reads a line of JSON (`SessionConfig`) from standard input, writes a line
that says where it listens to standard output, and ends when its input closes.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from .access import is_ours
from .session_process import SECRET_HEADER, SessionConfig

_BEAT_S = 0.02


def main() -> int:
    config = SessionConfig.decode(sys.stdin.readline())
    # What is written here, and by what is started here, is for this account only.
    os.umask(0o077)
    (Path(config.work) / "tmp").mkdir()
    tempfile.tempdir = str(Path(config.work) / "tmp")
    # Only where it listens goes there: the front door reads it.
    front_door, sys.stdout = os.fdopen(os.dup(1), "w"), sys.stderr
    os.dup2(2, 1)
    os.environ.update(WSLINK_READY_MSG="", WSLINK_WS_COMPRESS="0")
    sys.argv[1:] = []
    try:
        asyncio.run(_serve(config, front_door))
    finally:
        # Also when the server was killed: then nobody else does it before the next start.
        shutil.rmtree(config.work, ignore_errors=True)
    # VTK's windows and threads have nothing to say any more, and do not always let go.
    os._exit(0)


async def _serve(config: SessionConfig, front_door: Any) -> None:
    from ..application import Application

    application, heartbeat = Application(config), Heartbeat()
    server = application.server
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    opening: list[asyncio.Task[None]] = []

    def prepare(bound: Any) -> None:
        logging.getLogger("aiohttp.server").addFilter(is_ours)
        bound.app.middlewares.extend([_guard(config.secret), _window_counter(application.show_windows)])
        bound.app.add_routes([*application.routes(), web.get("/heartbeat", heartbeat.report)])

        async def open_up() -> None:
            try:
                place = {"port": server.port, "socket": await _move_to_socket(bound, Path(config.work) / "socket")}
                front_door.write(json.dumps(place) + "\n")
                front_door.flush()
            except Exception:
                logging.exception("MAESegment: the session cannot be reached")
                ended.set()

        server.controller.on_server_ready.add(lambda **_state: opening.append(asyncio.ensure_future(open_up())))

    def wait_for_end() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(ended.set)

    server.controller.on_server_bind.add(prepare)
    threading.Thread(target=wait_for_end, daemon=True).start()
    serving = asyncio.ensure_future(
        server.start(
            exec_mode="coroutine", host="127.0.0.1", port=0, open_browser=False, show_connection_info=False, timeout=0
        )
    )
    await asyncio.wait({serving, asyncio.ensure_future(ended.wait())}, return_when=asyncio.FIRST_COMPLETED)
    heartbeat.stop()
    await application.close()


async def _move_to_socket(bound: Any, path: Path) -> str:
    """Listen on a socket in the session's folder instead of a port, which every account could block.

    "" where that cannot be, also because the path is too long: then the secret alone keeps others out.
    """
    try:
        await web.UnixSite(bound.runner, path).start()
    except (OSError, NotImplementedError, AttributeError) as error:  # not every system, nor file system, has sockets
        logging.warning("MAESegment: the session listens on a port: %s", error)
        return ""
    await bound.site.stop()
    return str(path)


def _guard(secret: str) -> Any:
    @web.middleware
    async def guard(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if not hmac.compare_digest(request.headers.get(SECRET_HEADER, "").encode(), secret.encode()):
            return web.Response(status=403, text="This address is not for browsers.")
        return await handler(request)

    return guard


def _window_counter(changed: Callable[[int], None]) -> Any:
    """Tells how many windows of the browser are open on the session."""
    windows = 0

    @web.middleware
    async def count(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        nonlocal windows
        if request.path != "/ws":
            return await handler(request)
        windows += 1
        changed(windows)
        try:
            return await handler(request)
        finally:
            windows -= 1
            changed(windows)

    return count


class Heartbeat:
    """How long the event loop was ever busy with one thing: for that long, the window does not react."""

    def __init__(self) -> None:
        self._longest_s = 0.0
        self._task = asyncio.ensure_future(self._beat())

    def stop(self) -> None:
        self._task.cancel()

    async def report(self, _request: web.Request) -> web.Response:
        """The longest time since this was last asked, in seconds."""
        longest, self._longest_s = self._longest_s, 0.0
        return web.json_response({"longest_stall_s": round(longest, 3)})

    async def _beat(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(_BEAT_S)
            self._longest_s = max(self._longest_s, time.monotonic() - before - _BEAT_S)


if __name__ == "__main__":
    sys.exit(main())
