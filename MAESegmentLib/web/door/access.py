"""Who may enter: the token of the address that was printed, then a cookie; nobody whom another web page sends."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import hmac
import ipaddress
import logging
import re
import secrets
import socket
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

LOOPBACK = ("127.0.0.1", "localhost", "::1")

#: Nothing is fetched from elsewhere, nobody may frame the page. Vue compiles its templates, which is "eval".
HEADERS = {
    "Content-Security-Policy": "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'none'; "
    "base-uri 'self'; form-action 'self'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

#: `host` or `host:port` of RFC 3986, no user, no path.
_AUTHORITY = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(:(?P<port>[0-9]{1,5}))?")
_ORIGIN = re.compile(r"https?://(?P<authority>[^/?#@\s]+)")
#: What a browser says of a request that no other page caused: the page itself, or a user.
OWN_SITES = ("same-origin", "none")
#: A connection that has not sent a whole request after so long is closed, also between requests.
_PATIENCE_S = 20.0
_MOST_STRANGERS = 128


class Refusal(Exception):
    """Why a request is not answered, with the HTTP status and the title of the page that says so."""

    def __init__(self, status: int, text: str, title: str = "No entry") -> None:
        super().__init__(text)
        self.status = status
        self.title = title


@dataclass(frozen=True)
class Access:
    """`host` is the interface that is listened on; the `token` opens the door, on loopback too: other users may
    have accounts on the machine. Cookies are signed with `seal`, so that nothing is kept about who has one."""

    host: str
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    seal: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    @property
    def printed_host(self) -> str:
        """The host as it stands in the address: this computer's name if all interfaces are listened on."""
        if self.host in ("0.0.0.0", "::", ""):
            return socket.gethostname()
        return f"[{self.host}]" if ":" in self.host else self.host

    def is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(errors="replace"), self.token.encode())

    def new_cookie(self) -> str:
        """A key that nobody has, with our signature."""
        key = secrets.token_urlsafe(18)
        return f"{key}.{self._signature(key)}"

    def key_of(self, cookie: str) -> str:
        """The key in a cookie of ours; "" in any other."""
        key, _dot, signature = cookie.partition(".")
        ours = hmac.compare_digest(signature.encode(errors="replace"), self._signature(key).encode())
        return key if key and ours else ""

    def check(self, request: web.BaseRequest) -> None:
        """Raise `Refusal` of a request that is not even looked at.

        The browser must have asked for a name of this computer: a web page can make a name of its own point here. A
        request that another page caused says so in `Origin` and `Sec-Fetch-Site`.
        """
        hosts = request.headers.getall("Host", [])
        host = _AUTHORITY.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if host is None or int(host["port"] or 80) > 65535:
            raise Refusal(400, "The Host of this request is malformed.")
        if not self._is_own_name(host["name"].strip("[]").lower()):
            here = "localhost" if self.host in LOOPBACK else self.printed_host
            raise Refusal(403, f"This server answers only to {here}.")
        _check_origin(request, host.group())

    def _is_own_name(self, name: str) -> bool:
        if self.host in LOOPBACK:
            return name in LOOPBACK
        # Nobody can make a number point elsewhere.
        return name in {*LOOPBACK, self.host.lower(), *_names_of_this_computer()} or _is_address(name)

    def _signature(self, key: str) -> str:
        return hmac.new(self.seal, key.encode(errors="replace"), hashlib.sha256).hexdigest()


def _check_origin(request: web.BaseRequest, host: str) -> None:
    elsewhere = Refusal(403, "This request comes from another web page.")
    origins = request.headers.getall("Origin", [])
    if len(origins) > 1:
        raise Refusal(400, "This request has several origins.")
    if "null" in origins:
        raise elsewhere
    for text in origins:
        origin = _ORIGIN.fullmatch(text)
        if origin is None or _AUTHORITY.fullmatch(origin["authority"]) is None:
            raise Refusal(400, "The Origin of this request is malformed.")
        if origin["authority"].lower() != host.lower():
            raise elsewhere
    # A link to this page may be followed from anywhere.
    is_navigation = request.headers.get("Sec-Fetch-Mode") == "navigate" and request.method == "GET"
    if request.headers.get("Sec-Fetch-Site", "none") not in OWN_SITES and not is_navigation:
        raise elsewhere


@functools.cache
def _names_of_this_computer() -> tuple[str, str]:
    return socket.gethostname().lower(), socket.getfqdn().lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_ours(record: logging.LogRecord) -> bool:
    """Not of a malformed request: that is no fault of the server, and its text may hold the key."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_LOG = logging.getLogger(__name__)
_LOG.addFilter(is_ours)


class Entrance(web.Server):
    """An HTTP server on which those who only hold connections open keep nobody out: the oldest make room."""

    def __init__(self, handler: Any, *, patience_s: float = _PATIENCE_S) -> None:
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
        self._strangers: dict[web.RequestHandler, asyncio.Transport] = {}

    def welcome(self, request: web.BaseRequest) -> None:
        """This connection belongs to somebody who may enter."""
        self._strangers.pop(request.protocol, None)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._strangers[handler] = transport
        while len(self._strangers) > _MOST_STRANGERS:
            self._strangers.pop(next(iter(self._strangers))).abort()

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        self._strangers.pop(handler, None)
        super().connection_lost(handler, exc)
