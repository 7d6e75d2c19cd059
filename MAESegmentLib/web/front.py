"""The front door: one server that lets people in, starts a process for each, and passes their requests on."""

from __future__ import annotations

import asyncio
import contextlib
import html
import logging
import secrets
import time
from collections.abc import Awaitable, Callable

import aiohttp
from aiohttp import web

from ..errors import MAESegmentError
from .access import HEADERS, Access, cookie_name, set_cookie
from .session_process import SECRET_HEADER, SessionProcess

#: Headers that belong to one connection only.
_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "content-length", "content-encoding"}
)
_CHUNK = 1 << 16
_LONGEST_MESSAGE = 64 << 20
_LOOK_EVERY_S = 30.0
#: Who has had no window open for so long makes room when the house is full.
_LEFT_FOR_GOOD_S = 600.0


class FrontDoor:
    """`make_session` makes the process of a person who entered; at most `most_sessions` at a time."""

    def __init__(
        self,
        access: Access,
        make_session: Callable[[], SessionProcess],
        *,
        upload_bytes: int,
        most_sessions: int = 8,
        idle_s: float = 2 * 3600.0,
    ) -> None:
        self.port = 0
        self._access = access
        self._make_session = make_session
        self._upload_bytes = upload_bytes
        self._most_sessions = most_sessions
        self._idle_s = idle_s
        self._sessions: dict[str, SessionProcess] = {}
        self._client: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None
        self._cleaner: asyncio.Task[None] | None = None
        self._cleaning: asyncio.Future[None] | None = None

    async def start(self, port: int) -> None:
        """Listen; 0 takes any free port, which `port` then is."""
        application = web.Application(middlewares=[self._guard])
        application.router.add_route("*", "/{path:.*}", self._forward)
        # Pieces are passed on as they are: no compression, no time limit for a whole answer.
        self._client = aiohttp.ClientSession(
            auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None), cookie_jar=aiohttp.DummyCookieJar()
        )
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=2.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._access.host, port).start()
        self.port = self._runner.addresses[0][1]
        self._cleaner = asyncio.create_task(self._end_idle_sessions())

    async def close(self) -> None:
        """Let nobody in any more and end all sessions."""
        if self._cleaner is not None:
            self._cleaner.cancel()
        sessions, self._sessions = [*self._sessions.values()], {}
        await asyncio.gather(*(session.close() for session in sessions))
        if self._client is not None:
            await self._client.close()
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def address(self) -> str:
        """What to open in a browser: it holds the token."""
        host = f"[{self._access.host}]" if ":" in self._access.host else self._access.host
        return f"http://{host}:{self.port}/?token={self._access.token}"

    # Who may enter ----------------------------------------------------------------------------------------------------

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        refusal = self._access.refusal(request)
        if refusal:
            return _page(403, "No entry", refusal)
        given = request.query.get("token")
        if given is not None:
            return self._enter(request, given)
        if request.cookies.get(cookie_name(self.port)) not in self._sessions:
            text = "Open the address that `maesegment app` printed: it holds the key to this server."
            return _page(401, "No entry", text)
        return await handler(request)

    def _enter(self, request: web.Request, given: str) -> web.StreamResponse:
        """A cookie for whoever has the token; who has a session already keeps it."""
        if not self._access.is_token(given):
            return _page(403, "No entry", "The key in this address is not right: open the address as it was printed.")
        name = cookie_name(self.port)
        response = web.Response(status=303, headers={"Location": "/", **HEADERS})
        if request.cookies.get(name) not in self._sessions:
            if len(self._sessions) >= self._most_sessions and not self._make_room():
                text = f"{self._most_sessions} people are here already. Try again when one of them has left."
                return _page(503, "Full", text)
            key = secrets.token_urlsafe(24)
            self._sessions[key] = self._make_session()
            set_cookie(response, name, key)
        return response

    def _make_room(self) -> bool:
        """End the session that was left longest ago, if one was left some time ago."""
        now = time.monotonic()
        left = [
            (one.idle_since, key)
            for key, one in self._sessions.items()
            if one.connections == 0 and now - one.idle_since > _LEFT_FOR_GOOD_S
        ]
        if left:
            self._cleaning = asyncio.ensure_future(self._sessions.pop(min(left)[1]).close())
        return bool(left)

    async def _end_idle_sessions(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            now = time.monotonic()
            for key, session in [*self._sessions.items()]:
                if session.connections == 0 and now - session.idle_since > self._idle_s:
                    del self._sessions[key]
                    await session.close()

    # Passing on -------------------------------------------------------------------------------------------------------

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        session = self._sessions[request.cookies[cookie_name(self.port)]]
        if (request.content_length or 0) > self._upload_bytes:
            return _page(413, "Too large", f"At most {self._upload_bytes / 2**30:.1f} GB can be uploaded.")
        try:
            await session.ready()
        except MAESegmentError as error:
            return _page(500, "It does not start", f"{error.message} {error.hint}")
        try:
            if request.headers.get("Upgrade", "").lower() == "websocket":
                return await self._forward_socket(request, session)
            return await self._forward_request(request, session)
        except aiohttp.ClientError as error:
            logging.warning("MAESegment: the session does not answer: %s", error)
            return _page(502, "The session has ended", "Load this page again to begin a new one.")

    async def _forward_request(self, request: web.Request, session: SessionProcess) -> web.StreamResponse:
        assert self._client is not None
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        headers[SECRET_HEADER] = session.secret
        headers.pop("Cookie", None)
        # Text is larger uncompressed, but this is the same machine.
        headers.pop("Accept-Encoding", None)
        body = request.content if request.body_exists else None
        async with self._client.request(
            request.method, session.url + request.raw_path, headers=headers, data=body, allow_redirects=False
        ) as answer:
            passed = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
            response = web.StreamResponse(status=answer.status, headers={**passed, **HEADERS})
            if answer.content_length is not None:
                response.content_length = answer.content_length
            await response.prepare(request)
            async for chunk in answer.content.iter_chunked(_CHUNK):
                await response.write(chunk)
            await response.write_eof()
            return response

    async def _forward_socket(self, request: web.Request, session: SessionProcess) -> web.StreamResponse:
        assert self._client is not None
        outer = web.WebSocketResponse(max_msg_size=_LONGEST_MESSAGE, compress=False, heartbeat=30.0)
        await outer.prepare(request)
        session.connections += 1
        try:
            async with self._client.ws_connect(
                session.url + request.raw_path,
                headers={SECRET_HEADER: session.secret},
                max_msg_size=_LONGEST_MESSAGE,
            ) as inner:
                ways = {asyncio.create_task(_pass_on(outer, inner)), asyncio.create_task(_pass_on(inner, outer))}
                _done, left = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                for task in left:
                    task.cancel()
        except aiohttp.ClientError as error:
            logging.warning("MAESegment: the session does not answer: %s", error)
        finally:
            session.connections -= 1
            session.idle_since = time.monotonic()
        await outer.close()
        return outer


_Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _pass_on(source: _Socket, target: _Socket) -> None:
    """Messages of one side to the other, until either closes."""
    with contextlib.suppress(ConnectionError):
        async for message in source:
            if message.type is aiohttp.WSMsgType.TEXT:
                await target.send_str(message.data)
            elif message.type is aiohttp.WSMsgType.BINARY:
                await target.send_bytes(message.data)


def _page(status: int, title: str, text: str) -> web.Response:
    body = (
        f"<!doctype html><html lang=en><title>MAESegment: {html.escape(title)}</title>"
        "<body style='font: 16px/1.5 sans-serif; max-width: 40em; margin: 4em auto; padding: 0 1em'>"
        f"<h1>{html.escape(title)}</h1><p>{html.escape(text)}</p></body></html>"
    )
    return web.Response(status=status, text=body, content_type="text/html", headers=HEADERS)
