"""The front door: one server that lets users in, starts a process for each, and passes their requests on."""

from __future__ import annotations

import asyncio
import contextlib
import html
import logging
import time
from collections.abc import Callable

import aiohttp
from aiohttp import web

from ...errors import MAESegmentError
from .access import HEADERS, Access, Refusal, cookie_name, set_cookie
from .entrance import Entrance
from .messages import MessageMeter
from .session_process import SECRET_HEADER, SessionProcess

#: Headers that belong to one connection only.
_HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "content-length",
        "content-encoding", "expect",
    }
)  # fmt: skip
_CHUNK = 1 << 16
#: Pictures go out; what comes in is what hands and keys do.
_LONGEST_MESSAGE_OUT, _LONGEST_MESSAGE_IN = 64 << 20, 1 << 20
_MOST_WINDOWS = 16
#: No file here has a longer name; on the disk a longer one is an error.
_LONGEST_PATH, _LONGEST_NAME = 1024, 255
_SOCKET_PATH = "/ws"
_LOOK_EVERY_S = 30.0
#: Who has had no window open for so long makes room when the house is full; sooner who never opened one.
_LEFT_FOR_GOOD_S, _NEVER_CAME_S = 600.0, 120.0
#: A browser does not send its cookie with a link that another page, or a file, leads to: the page asks again itself.
_ASKS_AGAIN = "<!doctype html><title>MAESegment</title><script>location.replace(location.href + '&again')</script>"


class FrontDoor:
    """`make_session` makes the process of a user who entered; at most `most_sessions` at a time."""

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
        self._entrance: Entrance | None = None
        self._runner: web.ServerRunner | None = None
        self._cleaner: asyncio.Task[None] | None = None
        self._cleaning: asyncio.Future[None] | None = None

    async def start(self, port: int) -> None:
        """Listen; 0 takes any free port, which `port` then is."""
        self._entrance = Entrance(self._receive)
        self._runner = web.ServerRunner(self._entrance, shutdown_timeout=2.0)
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
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def address(self) -> str:
        """What to open in a browser: it holds the token."""
        return f"http://{self._access.printed_host}:{self.port}/?token={self._access.token}"

    # Who may enter ----------------------------------------------------------------------------------------------------

    async def _receive(self, request: web.BaseRequest) -> web.StreamResponse:
        refusal = self._access.refusal(request)
        if refusal is None and not request.raw_path.startswith("/"):
            refusal = Refusal(400, "This server passes nothing on to others.")
        if refusal is not None:
            return _page(refusal.status, "No entry", refusal.text)
        given = request.query.get("token")
        if given is not None:
            return self._enter(request, given)
        key = self._access.key_of(request.cookies.get(cookie_name(self.port), ""))
        if not key:
            text = "Open the address that `maesegment app` printed: it holds the key to this server."
            return _page(401, "No entry", text)
        assert self._entrance is not None
        self._entrance.welcome(request)
        return await self._forward(request, key)

    def _enter(self, request: web.BaseRequest, given: str) -> web.StreamResponse:
        """A cookie for whoever has the token; who has one already keeps it. A seat is taken by who comes with it."""
        if not self._access.is_token(given):
            return _page(403, "No entry", "The key in this address is not right: open the address as it was printed.")
        if (
            request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")
            and "again" not in request.query
        ):
            return web.Response(text=_ASKS_AGAIN, content_type="text/html", headers=HEADERS)
        name = cookie_name(self.port)
        response = web.Response(status=303, headers={"Location": "/", **HEADERS})
        if not self._access.key_of(request.cookies.get(name, "")):
            set_cookie(response, name, self._access.new_cookie())
        return response

    def _session(self, key: str) -> SessionProcess | None:
        """That of the user with this key, a new one if there is room."""
        if key not in self._sessions:
            if len(self._sessions) >= self._most_sessions and not self._make_room():
                return None
            self._sessions[key] = self._make_session()
        return self._sessions[key]

    def _make_room(self) -> bool:
        """End the session that was left longest ago, if one was left some time ago."""
        now = time.monotonic()
        left = [
            (one.idle_since, key)
            for key, one in self._sessions.items()
            if one.connections == 0 and now - one.idle_since > (_LEFT_FOR_GOOD_S if one.was_opened else _NEVER_CAME_S)
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

    async def _forward(self, request: web.BaseRequest, key: str) -> web.StreamResponse:
        refusal = _address_refusal(request) or self._content_refusal(request)
        if refusal is not None:
            return _page(refusal.status, "Not taken", refusal.text)
        session = self._session(key)
        if session is None:
            text = f"{self._most_sessions} users are connected already. Try again when one of them has left."
            return _page(503, "Full", text)
        try:
            await session.ready()
        except MAESegmentError as error:
            return _page(500, "It does not start", f"{error.message} {error.hint}")
        try:
            if _is_for_socket(request):
                return await self._forward_socket(request, session)
            return await self._forward_request(request, session)
        except aiohttp.ClientError as error:
            logging.warning("MAESegment: the session does not answer: %s", error)
            return _page(502, "The session has ended", "Load this page again to begin a new one.")

    def _content_refusal(self, request: web.BaseRequest) -> Refusal | None:
        """Only uploads bring something; how much arrives is counted where it is written."""
        is_upload = request.method == "PUT" and request.path.startswith("/upload/")
        if not is_upload and request.method not in ("GET", "HEAD"):
            return Refusal(405, "Nothing here takes such requests.")
        if not is_upload and request.body_exists:
            return Refusal(400, "Only uploads have content.")
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            return Refusal(415, "Uploads are taken as they are: a few compressed bytes may hold many.")
        if (request.content_length or 0) > self._upload_bytes:
            return Refusal(413, f"At most {self._upload_bytes / 2**30:.1f} GB can be uploaded.")
        return None

    async def _forward_request(self, request: web.BaseRequest, session: SessionProcess) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        headers[SECRET_HEADER] = session.secret
        headers.pop("Cookie", None)
        # Text is larger uncompressed, but this is the same machine.
        headers.pop("Accept-Encoding", None)
        body = request.content if request.body_exists else None
        async with session.client.request(
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

    async def _forward_socket(self, request: web.BaseRequest, session: SessionProcess) -> web.StreamResponse:
        if session.connections >= _MOST_WINDOWS:
            return _page(503, "Full", f"{_MOST_WINDOWS} windows are open on this session already: close one.")
        outer = web.WebSocketResponse(max_msg_size=_LONGEST_MESSAGE_IN, compress=False, heartbeat=30.0)
        await outer.prepare(request)
        session.connections += 1
        session.was_opened = True
        try:
            async with session.client.ws_connect(
                session.url + request.raw_path,
                headers={SECRET_HEADER: session.secret},
                max_msg_size=_LONGEST_MESSAGE_OUT,
            ) as inner:
                ways = {asyncio.create_task(_take_in(outer, inner)), asyncio.create_task(_give_out(inner, outer))}
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in ways:
                        task.cancel()
        except aiohttp.ClientError as error:
            logging.warning("MAESegment: the session does not answer: %s", error)
        finally:
            session.connections -= 1
            session.idle_since = time.monotonic()
        await outer.close()
        return outer


def _address_refusal(request: web.BaseRequest) -> Refusal | None:
    """Of what the session would only fail at."""
    path = request.rel_url.raw_path
    if len(path) > _LONGEST_PATH or max(map(len, path.split("/"))) > _LONGEST_NAME:
        return Refusal(414, "No address here is so long.")
    if request.method == "GET" and (request.path == _SOCKET_PATH) != _is_for_socket(request):
        return Refusal(400, "Only the page's own socket is one.")
    if _is_for_socket(request) and not web.WebSocketResponse().can_prepare(request):
        return Refusal(400, "This is not how a socket is opened.")
    return None


def _is_for_socket(request: web.BaseRequest) -> bool:
    return request.headers.get("Upgrade", "").strip().lower() == "websocket"


async def _take_in(page: web.WebSocketResponse, session: aiohttp.ClientWebSocketResponse) -> None:
    """Messages of the page to its session, until either closes or the page sends what is not taken."""
    meter = MessageMeter(_LONGEST_MESSAGE_IN)
    with contextlib.suppress(ConnectionError):
        async for message in page:
            objection = "Text is not taken."
            if message.type is aiohttp.WSMsgType.BINARY:
                objection = meter.objection(message.data)
            if objection:
                logging.warning("MAESegment: a page was closed: %s", objection)
                await page.close(code=aiohttp.WSCloseCode.MESSAGE_TOO_BIG, message=objection.encode())
                return
            await session.send_bytes(message.data)


async def _give_out(session: aiohttp.ClientWebSocketResponse, page: web.WebSocketResponse) -> None:
    """Messages of the session to the page, until either closes."""
    with contextlib.suppress(ConnectionError):
        async for message in session:
            if message.type is aiohttp.WSMsgType.BINARY:
                await page.send_bytes(message.data)
            elif message.type is aiohttp.WSMsgType.TEXT:
                await page.send_str(message.data)


def _page(status: int, title: str, text: str) -> web.Response:
    body = (
        f"<!doctype html><html lang=en><title>MAESegment: {html.escape(title)}</title>"
        "<body style='font: 16px/1.5 sans-serif; max-width: 40em; margin: 4em auto; padding: 0 1em'>"
        f"<h1>{html.escape(title)}</h1><p>{html.escape(text)}</p></body></html>"
    )
    response = web.Response(status=status, text=body, content_type="text/html", headers=HEADERS)
    # Who is sent away does not stay on the line.
    response.force_close()
    return response
