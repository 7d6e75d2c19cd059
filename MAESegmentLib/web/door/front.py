"""The front door: one server that lets users in, starts a process for each, and passes their requests on."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import html
import logging
import re
import secrets
from collections.abc import Callable, Mapping

import aiohttp
from aiohttp import web

from ...errors import MAESegmentError
from .access import HEADERS, OWN_SITES, Access, Entrance, Refusal
from .messages import MessageMeter
from .session_process import SECRET_HEADER, SessionProcess
from .uploads import size_text

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
_COOKIE_S = 30 * 86400
#: Opens nothing: it says whose drawings are whose, also after the key has changed.
_OWNER_COOKIE, _OWNER = "maesegment-owner", re.compile(r"[A-Za-z0-9_-]{24}")
_POLL_EVERY_S = 30.0
#: A session ends when no window was open on it for so long. It makes room sooner when the house is full, and still
#: sooner if no window ever was.
_IDLE_S, _LEFT_FOR_GOOD_S, _NEVER_CAME_S = 2 * 3600.0, 600.0, 120.0
#: A browser does not send its cookie with a link that another page, or a file, leads to: the page asks again itself.
_ASKS_AGAIN = "<!doctype html><title>MAESegment</title><script>location.replace(location.href + '&again')</script>"
#: Shown at once; it asks until the session is ready, or says why it cannot be.
_STARTING = """<p id="starting" role="status">Slicer's views are being loaded. This takes some seconds.</p>
<progress id="progress" style="width: 100%"></progress>
<script>
const fail = (title, text) => {
  document.querySelector("h1").textContent = title;
  document.getElementById("starting").textContent = text;
  document.getElementById("progress").remove();
};
fetch("/heartbeat").then(
  async (answer) => answer.ok ? location.replace(location.href) : fail("It does not start", await answer.text()),
  () => fail("The server does not respond", "Start it again, then load this page again."),
);
</script>"""


class FrontDoor:
    """`make_session` makes the process of a user who entered, by the name of the folder of that user's drawings; at
    most `most_sessions` at a time."""

    def __init__(
        self,
        access: Access,
        make_session: Callable[[str], SessionProcess],
        *,
        upload_bytes: int,
        most_sessions: int = 8,
    ) -> None:
        self.port = 0
        self._access = access
        self._make_session = make_session
        self._upload_bytes = upload_bytes
        self._most_sessions = most_sessions
        self._sessions: dict[str, SessionProcess] = {}
        self._entrance: Entrance | None = None
        self._runner: web.ServerRunner | None = None
        self._poll: asyncio.Future[None] | None = None
        self._ending: set[asyncio.Future[None]] = set()

    async def start(self, port: int) -> None:
        """Listen; 0 takes any free port, which `port` then is."""
        self._entrance = Entrance(self._receive)
        self._runner = web.ServerRunner(self._entrance, shutdown_timeout=2.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._access.host, port).start()
        self.port = self._runner.addresses[0][1]
        self._poll = asyncio.ensure_future(self._end_idle_sessions())

    async def close(self) -> None:
        """Let nobody in any more and end all sessions."""
        if self._poll is not None:
            self._poll.cancel()
        sessions, self._sessions = [*self._sessions.values()], {}
        await asyncio.gather(*(session.close() for session in sessions), *self._ending)
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def address(self) -> str:
        """What to open in a browser: it holds the token."""
        return f"http://{self._access.printed_host}:{self.port}/?token={self._access.token}"

    # Who may enter ----------------------------------------------------------------------------------------------------

    async def _receive(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            self._access.check(request)
            if not request.raw_path.startswith("/"):
                raise Refusal(400, "This server passes nothing on to others.")
            given = request.query.get("token")
            if given is not None:
                return self._enter(request, given)
            key = self._key_of(request)
            if not key:
                raise Refusal(401, "Open the address that was printed when this server started: it holds the key.")
            assert self._entrance is not None
            self._entrance.welcome(request)
            return await self._forward(request, key)
        except Refusal as error:
            refusal = error
        except MAESegmentError as error:
            refusal = Refusal(500, f"{error.message} {error.hint}", "It does not start")
        except aiohttp.ClientError as error:
            logging.warning("MAESegment: the session does not respond: %s", error)
            refusal = Refusal(502, "Load this page again to begin a new one.", "The session has ended")
        return _refused(request, refusal)

    @property
    def _cookie_name(self) -> str:
        """Browsers keep cookies by host, not by port: two servers on a machine must not take each other's."""
        return f"maesegment-{self.port}"

    def _key_of(self, request: web.BaseRequest) -> str:
        return self._access.key_of(request.cookies.get(self._cookie_name, ""))

    def _enter(self, request: web.BaseRequest, given: str) -> web.StreamResponse:
        """A cookie for whoever has the token; who has one already keeps it. A seat is taken by who comes with it."""
        if not self._access.is_token(given):
            raise Refusal(403, "The key in this address is not right: open the address as it was printed.")
        if request.headers.get("Sec-Fetch-Site", "none") not in OWN_SITES and "again" not in request.query:
            return web.Response(text=_ASKS_AGAIN, content_type="text/html", headers=HEADERS)
        response = web.Response(status=303, headers={"Location": "/", **HEADERS})
        if not self._key_of(request):
            # A user who closed the browser finds the scene again.
            response.set_cookie(
                self._cookie_name,
                self._access.new_cookie(),
                max_age=_COOKIE_S,
                httponly=True,
                samesite="Strict",
                path="/",
            )
        if not _OWNER.fullmatch(request.cookies.get(_OWNER_COOKIE, "")):
            response.set_cookie(
                _OWNER_COOKIE,
                secrets.token_urlsafe(18),
                max_age=_COOKIE_S,
                httponly=True,
                samesite="Strict",
                path="/",
            )
        return response

    def _session(self, key: str, owner: str) -> SessionProcess:
        """That of the user with this key, a new one if there is room."""
        if key not in self._sessions:
            if len(self._sessions) >= self._most_sessions:
                self._make_room()
            owner = owner if _OWNER.fullmatch(owner) else key
            self._sessions[key] = self._make_session(hashlib.sha256(owner.encode()).hexdigest()[:32])
        return self._sessions[key]

    def _make_room(self) -> None:
        """End the session that was left longest ago, if one was left some time ago."""
        left = {
            key: one.left_for_s
            for key, one in self._sessions.items()
            if one.left_for_s > (_LEFT_FOR_GOOD_S if one.was_opened else _NEVER_CAME_S)
        }
        if not left:
            text = f"{self._most_sessions} users are connected already. Try again when one of them has left."
            raise Refusal(503, text, "Full")
        ending = asyncio.ensure_future(self._sessions.pop(max(left, key=left.__getitem__)).close())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def _end_idle_sessions(self) -> None:
        while True:
            await asyncio.sleep(_POLL_EVERY_S)
            for key in [key for key, session in self._sessions.items() if session.left_for_s > _IDLE_S]:
                await self._sessions.pop(key).close()

    # Passing on -------------------------------------------------------------------------------------------------------

    async def _forward(self, request: web.BaseRequest, key: str) -> web.StreamResponse:
        _check(request, self._upload_bytes)
        session = self._session(key, request.cookies.get(_OWNER_COOKIE, ""))
        if request.headers.get("Sec-Fetch-Mode") == "navigate" and not session.is_ready:
            return web.Response(
                text=_page("MAESegment is starting", _STARTING), content_type="text/html", headers=HEADERS
            )
        await session.ready()
        if _is_for_socket(request):
            return await self._forward_socket(request, session)
        return await self._forward_request(request, session)

    async def _forward_request(self, request: web.BaseRequest, session: SessionProcess) -> web.StreamResponse:
        headers = _passed_on(request.headers)
        headers[SECRET_HEADER] = session.secret
        # Text is larger uncompressed, but this is the same machine.
        for name in ("Cookie", "Accept-Encoding"):
            headers.pop(name, None)
        body = request.content if request.body_exists else None
        async with session.client.request(
            request.method, session.url + request.raw_path, headers=headers, data=body, allow_redirects=False
        ) as inner:
            if inner.status >= 400 and _is_shown(request):
                text = await inner.text()
                is_number = text in ("", f"{inner.status}: {inner.reason}")
                raise Refusal(inner.status, "There is no such page here." if is_number else text, "Not found")
            response = web.StreamResponse(status=inner.status, headers={**_passed_on(inner.headers), **HEADERS})
            if inner.content_length is not None:
                response.content_length = inner.content_length
            await response.prepare(request)
            async for chunk in inner.content.iter_chunked(_CHUNK):
                await response.write(chunk)
            await response.write_eof()
            return response

    async def _forward_socket(self, request: web.BaseRequest, session: SessionProcess) -> web.StreamResponse:
        if session.windows >= _MOST_WINDOWS:
            raise Refusal(503, f"{_MOST_WINDOWS} windows are open on this session already: close one.", "Full")
        outer = web.WebSocketResponse(max_msg_size=_LONGEST_MESSAGE_IN, compress=False, heartbeat=30.0)
        await outer.prepare(request)
        with session.window(), contextlib.suppress(aiohttp.ClientError):
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
        await outer.close()
        return outer


def _check(request: web.BaseRequest, upload_bytes: int) -> None:
    """Refuse what the session would only fail at. How much of an upload arrives is counted where it is written."""
    path, for_socket = request.rel_url.raw_path, _is_for_socket(request)
    is_too_long = len(path) > _LONGEST_PATH or max(map(len, path.split("/"))) > _LONGEST_NAME
    is_elsewhere = request.method == "GET" and (request.path == _SOCKET_PATH) != for_socket
    is_no_handshake = for_socket and not web.WebSocketResponse().can_prepare(request)
    is_upload = request.method == "PUT" and request.path.startswith("/upload/")
    is_encoded = request.headers.get("Content-Encoding", "identity").lower() != "identity"
    is_too_large = (request.content_length or 0) > upload_bytes
    for is_refused, status, text in (
        (is_too_long, 414, "No address here is so long."),
        (is_elsewhere, 400, "Only the page's own socket is one."),
        (is_no_handshake, 400, "This is not how a socket is opened."),
        (not is_upload and request.method not in ("GET", "HEAD"), 405, "Nothing here takes such requests."),
        (not is_upload and request.body_exists, 400, "Only uploads have content."),
        (is_encoded, 415, "Uploads are taken as they are: a few compressed bytes may hold many."),
        (is_too_large, 413, f"At most {size_text(upload_bytes)} can be uploaded."),
    ):
        if is_refused:
            raise Refusal(status, text, "Not taken")


def _is_for_socket(request: web.BaseRequest) -> bool:
    return request.headers.get("Upgrade", "").strip().lower() == "websocket"


def _passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _HOP_BY_HOP}


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


def _is_shown(request: web.BaseRequest) -> bool:
    """Whether a user sees the answer as a page; a script of the page, or a program, reads it."""
    return "text/html" in request.headers.get("Accept", "")


def _refused(request: web.BaseRequest, refusal: Refusal) -> web.Response:
    """The page or the sentence that says why."""
    text = str(refusal)
    kind, body = "text/plain", text
    if _is_shown(request):
        back = '<p><a href="/">Open MAESegment</a></p>' if refusal.status == 404 else ""
        kind, body = "text/html", _page(refusal.title, f"<p>{html.escape(text)}</p>{back}")
    response = web.Response(status=refusal.status, text=body, content_type=kind, headers=HEADERS)
    # Who is sent away does not stay on the line.
    response.force_close()
    return response


def _page(title: str, body: str) -> str:
    title = html.escape(title)
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><link rel=icon href='data:,'>"
        f"<title>MAESegment: {title}</title>"
        "<body style='font: 16px/1.5 sans-serif; max-width: 40em; margin: 4em auto; padding: 0 1em'>"
        f"<h1>{title}</h1>{body}</body></html>"
    )
