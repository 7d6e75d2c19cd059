"""The server's connections: those that have not shown a key yet are few, and are not waited for."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

#: A connection that has not sent a whole request after so long is closed, also between requests.
_PATIENCE_S = 20.0
_MOST_STRANGERS = 128


def is_ours(record: logging.LogRecord) -> bool:
    """Not of a malformed request: that is no fault of the server, and its text may hold the key."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_LOG = logging.getLogger(__name__)
_LOG.addFilter(is_ours)


class Entrance(web.Server):
    """An HTTP server on which those who only hold connections open keep nobody out: the oldest make room."""

    def __init__(self, handler: Any, *, patience_s: float = _PATIENCE_S, most_strangers: int = _MOST_STRANGERS) -> None:
        # No log of requests: addresses may hold the key.
        super().__init__(
            handler,
            handler_cancellation=True,
            keepalive_timeout=patience_s,
            lingering_time=2.0,
            auto_decompress=False,
            access_log=None,
            logger=_LOG,
        )
        self._most_strangers = most_strangers
        self._strangers: dict[web.RequestHandler, asyncio.Transport] = {}

    def welcome(self, request: web.BaseRequest) -> None:
        """This connection belongs to somebody who may enter."""
        self._strangers.pop(request.protocol, None)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._strangers[handler] = transport
        while len(self._strangers) > self._most_strangers:
            self._strangers.pop(next(iter(self._strangers))).abort()

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        self._strangers.pop(handler, None)
        super().connection_lost(handler, exc)
