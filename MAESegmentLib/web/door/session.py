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
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from .entrance import is_ours
from .session_process import SECRET_HEADER, SessionConfig, clear
from .session_socket import SocketPath


def main() -> int:
    config = SessionConfig.decode(sys.stdin.readline())
    # What is written here, and by what is started here, is for this account only.
    os.umask(0o077)
    (Path(config.work) / "tmp").mkdir(exist_ok=True)
    tempfile.tempdir = str(Path(config.work) / "tmp")
    # Only where it listens goes there: the front door reads it.
    answers, sys.stdout = os.fdopen(os.dup(1), "w"), sys.stderr
    os.dup2(2, 1)
    os.environ.update(WSLINK_READY_MSG="", WSLINK_WS_COMPRESS="0")
    sys.argv[1:] = []
    try:
        asyncio.run(_serve(config, answers))
    finally:
        # Also when the server was killed: then nobody else does it before the next start.
        clear(Path(config.work))
    # VTK's windows and threads have nothing to say any more, and do not always let go.
    os._exit(0)


async def _serve(config: SessionConfig, answers: Any) -> None:
    from ..application import Application

    application = Application(config)
    server = application.server
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    opening: list[asyncio.Task[None]] = []

    def prepare(bound: Any) -> None:
        _prepare(bound.app, config, application.routes())

        async def open_up() -> None:
            try:
                place = {"port": server.port, "socket": await _move_to_socket(bound, Path(config.work))}
                answers.write(json.dumps(place) + "\n")
                answers.flush()
            except Exception:
                logging.exception("MAESegment: the session cannot be reached")
                ended.set()

        server.controller.on_server_ready.add(lambda **_state: opening.append(asyncio.ensure_future(open_up())))

    server.controller.on_server_bind.add(prepare)
    threading.Thread(target=_wait_for_end, args=(loop, ended), daemon=True).start()
    serving = asyncio.ensure_future(
        server.start(
            exec_mode="coroutine", host="127.0.0.1", port=0, open_browser=False, show_connection_info=False, timeout=0
        )
    )
    await asyncio.wait({serving, asyncio.ensure_future(ended.wait())}, return_when=asyncio.FIRST_COMPLETED)
    await application.close()


async def _move_to_socket(bound: Any, work: Path) -> bool:
    """Listen on a socket in the session's folder instead of a port, which every account could block.

    False where that cannot be: then the secret alone keeps others out.
    """
    path = SocketPath(work).path
    if not path:
        return False
    try:
        await web.UnixSite(bound.runner, path).start()
    except OSError as error:  # not every file system has sockets
        logging.warning("MAESegment: the session listens on a port: %s", error)
        return False
    await bound.site.stop()
    return True


def _wait_for_end(loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    sys.stdin.read()
    loop.call_soon_threadsafe(ended.set)


def _prepare(application: web.Application, config: SessionConfig, routes: list[web.RouteDef]) -> None:
    @web.middleware
    async def guard(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        given = request.headers.get(SECRET_HEADER, "")
        if not hmac.compare_digest(given.encode(), config.secret.encode()):
            return web.Response(status=403, text="This address is not for browsers.")
        return await handler(request)

    logging.getLogger("aiohttp.server").addFilter(is_ours)
    application.middlewares.append(guard)
    application.add_routes(routes)


if __name__ == "__main__":
    sys.exit(main())
