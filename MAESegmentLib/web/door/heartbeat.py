"""How long the event loop was ever busy with one thing: for that long, the window does not react."""

from __future__ import annotations

import asyncio
import time

from aiohttp import web

_EVERY_S = 0.02


class Heartbeat:
    """`longest_s` is the longest time in which nothing else could happen, since it was last taken."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._task = asyncio.ensure_future(self._beat())

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/heartbeat", self._tell)]

    def stop(self) -> None:
        self._task.cancel()

    async def _beat(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(_EVERY_S)
            self.longest_s = max(self.longest_s, time.monotonic() - before - _EVERY_S)

    async def _tell(self, _request: web.Request) -> web.Response:
        longest, self.longest_s = self.longest_s, 0.0
        return web.json_response({"longest_stall_s": round(longest, 3)})
