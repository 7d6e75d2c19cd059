"""Programs that talk to the server without a browser, as one who means harm writes them."""

from __future__ import annotations

import asyncio
import http.client
import os
import secrets
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import aiohttp
import msgpack
import psutil

from Testing.web.browser import App

T = TypeVar("T")


class Visitor:
    """One who asks by HTTP, with the cookie that `enter` brings."""

    def __init__(self, app: App) -> None:
        self.place = urlsplit(app.address)
        self.port = self.place.port or 80
        self.cookie = ""
        self.attributes = ""

    def ask(self, path: str, method: str = "GET", body: bytes | Any | None = None, **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {**({"Cookie": self.cookie} if self.cookie else {}), **named})
        response = connection.getresponse()
        cookies = response.msg.get_all("Set-Cookie", [])
        given = next((one for one in cookies if not one.startswith("maesegment-owner=")), "")
        if given:
            self.cookie, self.attributes = given.partition(";")[0], given
        text = response.read().decode(errors="replace")
        connection.close()
        return response.status, text

    def enter(self) -> Visitor:
        assert self.ask(f"/?{self.place.query}")[0] == 303
        return self

    def raw(self, data: bytes, *, wait_s: float = 30.0) -> bytes:
        """What comes back for these bytes, until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait_s) as line:
            line.sendall(data)
            found = b""
            while part := line.recv(1 << 16):
                found += part
            return found

    def window(self) -> tuple[socket.socket, bytes]:
        """A connection that asks to be the socket of a page, and the status that came back."""
        line = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        line.sendall(
            f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nCookie: {self.cookie}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            "".encode()
        )
        return line, line.recv(4096)[9:12]

    def upload(self, upload: str, number: int, name: str, body: bytes | Any) -> tuple[int, str]:
        return self.ask(f"/upload/{upload}/{number}?name={quote(name, safe='')}", "PUT", body)


class Page:
    """The socket of a page: calls by wslink, in the session of a visitor."""

    def __init__(self, visitor: Visitor) -> None:
        self._loop = asyncio.new_event_loop()
        self._calls = 0
        self._visitor = visitor
        self._do(self._open())

    def call(self, method: str, *arguments: Any) -> Any:
        return self._do(self._call(method, list(arguments)))

    def trigger(self, name: str, *arguments: Any) -> Any:
        return self.call("trame.trigger", name, list(arguments), {})

    def state(self) -> dict[str, Any]:
        return self.call("trame.state.get")["state"]

    def set(self, **values: Any) -> None:
        self.call("trame.state.update", [{"key": key, "value": value} for key, value in values.items()])

    def send(self, data: bytes | str) -> None:
        self._do(self.socket.send_str(data) if isinstance(data, str) else self.socket.send_bytes(data))

    def closed_with(self, wait_s: float = 30.0) -> int | None:
        """The code with which the server closes; what it sends before is left out."""

        async def wait() -> int | None:
            while True:
                message = await self.socket.receive(timeout=wait_s)
                if message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING):
                    return self.socket.close_code
                assert message.type is aiohttp.WSMsgType.BINARY, message

        return self._do(wait())

    def close(self) -> None:
        async def leave() -> None:
            await self.socket.close()
            await self._client.close()

        self._do(leave())
        self._loop.close()

    def _do(self, work: Any) -> Any:
        return self._loop.run_until_complete(work)

    async def _open(self) -> None:
        self._client = aiohttp.ClientSession(headers={"Cookie": self._visitor.cookie})
        place = f"http://127.0.0.1:{self._visitor.port}/ws"
        self.socket = await self._client.ws_connect(place, max_msg_size=0, timeout=aiohttp.ClientWSTimeout(ws_close=5))
        await self._call("wslink.hello", [{"secret": "wslink-secret"}], number="system:c0:0")

    async def _call(self, method: str, arguments: list[Any], number: str = "") -> Any:
        self._calls += 1
        number = number or f"rpc:{self._calls}"
        message = msgpack.packb({"wslink": "1.0", "id": number, "method": method, "args": arguments, "kwargs": {}})
        await self.socket.send_bytes(message_part(message, 0, len(message)))
        parts: dict[int, bytes] = {}
        while True:
            response = await self.socket.receive(timeout=120)
            assert response.type is aiohttp.WSMsgType.BINARY, response
            key, _begin, size = struct.unpack("<III", response.data[:12])
            parts[key] = parts.get(key, b"") + response.data[12:]
            if len(parts[key]) == size:
                found = msgpack.unpackb(parts.pop(key))
                if found.get("id") == number:
                    assert "error" not in found, found["error"]
                    return found.get("result")


def message_part(content: bytes, begin: int, whole: int, key: int | None = None) -> bytes:
    """A part of a wslink message that begins at `begin` of `whole` bytes."""
    return struct.pack("<III", secrets.randbits(32) if key is None else key, begin, whole) + content


def processes(app: App) -> list[psutil.Process]:
    """The server first, then whatever it started."""
    server = psutil.Process(app.process.pid)
    return [server, *server.children(recursive=True)]


def session_processes(app: App) -> list[psutil.Process]:
    children = psutil.Process(app.process.pid).children()
    return [one for one in children if "web.door.session" in " ".join(one.cmdline())]


def files_below(folder: Path, name: str = "") -> list[Path]:
    """Those of a name, or all, also while they are being removed."""
    found = (Path(parent) / file for parent, _folders, files in os.walk(folder) for file in files)
    return [file for file in found if name in ("", file.name)]


def until(condition: Callable[[], T], what: str, timeout_s: float = 60.0) -> T:
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end, f"still waiting for {what}"
        time.sleep(0.05)
    return found
