"""Who may enter: the token of the address that was printed, then a cookie; nobody whom another web page sends."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from aiohttp import web

LOOPBACK = ("127.0.0.1", "localhost", "::1")

#: Nothing is fetched from elsewhere, nobody may frame the page. Vue compiles its templates, which is "eval".
HEADERS = {
    "Content-Security-Policy": "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'none'; "
    "base-uri 'self'; form-action 'self'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Access:
    """`host` is the interface that is listened on; the `token` opens the door, on loopback too: other people may
    have accounts on the machine."""

    host: str
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)

    @property
    def is_loopback(self) -> bool:
        return self.host in LOOPBACK

    def is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.token.encode())

    def refusal(self, request: web.Request) -> str:
        """Why the request is not even looked at; "" if it is.

        On loopback the browser must have asked for a loopback name: a web page can make a name of its own point
        there. A request that another page caused says so in `Origin`.
        """
        name = urlsplit(f"//{request.host}").hostname or ""
        if self.is_loopback and name not in LOOPBACK:
            return "This server answers only to localhost."
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != request.host:
            return "This request comes from another web page."
        return ""


def cookie_name(port: int) -> str:
    """Browsers keep cookies by host, not by port: two servers on a machine must not take each other's."""
    return f"maesegment-{port}"


def set_cookie(response: web.StreamResponse, name: str, value: str) -> None:
    """Kept for a month, so that a person who closed the browser finds the scene again."""
    response.set_cookie(name, value, max_age=30 * 86400, httponly=True, samesite="Strict", path="/")
