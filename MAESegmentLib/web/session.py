"""The process of one person: Slicer's scene and views, served on a port that only the front door knows how to ask.

`python -m MAESegmentLib.web.session`: reads a line of JSON (`SessionConfig`) from standard input, writes a line with
its port to standard output, and ends when its input closes.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from .session_process import SECRET_HEADER, SessionConfig, clear


def main() -> int:
    config = SessionConfig.decode(sys.stdin.readline())
    # What is written here, and by what is started here, is for this account only.
    os.umask(0o077)
    (Path(config.work) / "tmp").mkdir(exist_ok=True)
    tempfile.tempdir = str(Path(config.work) / "tmp")
    # Only the port goes there: the front door reads it.
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
    from .application import Application

    application = Application(config)
    server = application.server
    server.controller.on_server_bind.add(lambda bound: _prepare(bound.app, config, application.routes()))

    def tell_port(**_state: Any) -> None:
        answers.write(json.dumps({"port": server.port}) + "\n")
        answers.flush()

    server.controller.on_server_ready.add(tell_port)
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    threading.Thread(target=_wait_for_end, args=(loop, ended), daemon=True).start()
    serving = asyncio.ensure_future(
        server.start(
            exec_mode="coroutine", host="127.0.0.1", port=0, open_browser=False, show_connection_info=False, timeout=0
        )
    )
    await asyncio.wait({serving, asyncio.ensure_future(ended.wait())}, return_when=asyncio.FIRST_COMPLETED)
    await application.close()


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

    application.middlewares.append(guard)
    application.add_routes(routes)


if __name__ == "__main__":
    sys.exit(main())
