"""Who may enter: the token of the address that was printed, then a cookie; nobody whom another web page sends."""

from __future__ import annotations

import functools
import hashlib
import hmac
import ipaddress
import re
import secrets
import socket
from dataclasses import dataclass, field

from aiohttp import web

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
_OWN_SITES = ("same-origin", "none")


@dataclass(frozen=True)
class Refusal:
    """Why a request is not answered, and the HTTP status that says so."""

    status: int
    text: str


@dataclass(frozen=True)
class Access:
    """`host` is the interface that is listened on; the `token` opens the door, on loopback too: other users may
    have accounts on the machine. Cookies are signed with `seal`, so that nothing is kept about who has one."""

    host: str
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    seal: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    @property
    def is_loopback(self) -> bool:
        return self.host in LOOPBACK

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

    def refusal(self, request: web.BaseRequest) -> Refusal | None:
        """Why the request is not even looked at, if it is not.

        The browser must have asked for a name of this computer: a web page can make a name of its own point here. A
        request that another page caused says so in `Origin` and `Sec-Fetch-Site`.
        """
        hosts = request.headers.getall("Host", [])
        host = _AUTHORITY.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if host is None or int(host["port"] or 80) > 65535:
            return Refusal(400, "The Host of this request is malformed.")
        if not self._is_own_name(host["name"].strip("[]").lower()):
            here = "localhost" if self.is_loopback else self.printed_host
            return Refusal(403, f"This server answers only to {here}.")
        return _origin_refusal(request, host.group())

    def _is_own_name(self, name: str) -> bool:
        if self.is_loopback:
            return name in LOOPBACK
        # Nobody can make a number point elsewhere.
        return name in {*LOOPBACK, self.host.lower(), *_names_of_this_computer()} or _is_address(name)

    def _signature(self, key: str) -> str:
        return hmac.new(self.seal, key.encode(errors="replace"), hashlib.sha256).hexdigest()


def _origin_refusal(request: web.BaseRequest, host: str) -> Refusal | None:
    elsewhere = Refusal(403, "This request comes from another web page.")
    origins = request.headers.getall("Origin", [])
    if len(origins) > 1:
        return Refusal(400, "This request has several origins.")
    if origins and origins[0] != "null":
        origin = _ORIGIN.fullmatch(origins[0])
        if origin is None or _AUTHORITY.fullmatch(origin["authority"]) is None:
            return Refusal(400, "The Origin of this request is malformed.")
        if origin["authority"].lower() != host.lower():
            return elsewhere
    elif origins:
        return elsewhere
    # A link to this page may be followed from anywhere.
    is_navigation = request.headers.get("Sec-Fetch-Mode") == "navigate" and request.method == "GET"
    if request.headers.get("Sec-Fetch-Site", "none") not in _OWN_SITES and not is_navigation:
        return elsewhere
    return None


@functools.cache
def _names_of_this_computer() -> tuple[str, str]:
    return socket.gethostname().lower(), socket.getfqdn().lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def cookie_name(port: int) -> str:
    """Browsers keep cookies by host, not by port: two servers on a machine must not take each other's."""
    return f"maesegment-{port}"


def set_cookie(response: web.StreamResponse, name: str, value: str) -> None:
    """Kept for a month, so that a user who closed the browser finds the scene again."""
    response.set_cookie(name, value, max_age=30 * 86400, httponly=True, samesite="Strict", path="/")
