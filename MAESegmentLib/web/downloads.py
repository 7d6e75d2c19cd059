"""Files that the browser may save: each under an address that nobody can guess, for as long as the session lives."""

from __future__ import annotations

import secrets
from pathlib import Path
from urllib.parse import quote

from aiohttp import web


class Downloads:
    """Only what was offered can be had."""

    def __init__(self) -> None:
        self._offered: dict[str, Path] = {}

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/download/{key}", self._send)]

    def offer(self, path: Path) -> str:
        """The address of a file, relative to the page."""
        key = secrets.token_urlsafe(16)
        self._offered[key] = path
        return f"download/{key}"

    async def _send(self, request: web.Request) -> web.StreamResponse:
        path = self._offered.get(request.match_info["key"])
        if path is None or not path.is_file():
            return web.Response(status=404, text="This file is not offered any more: export it again.")
        disposition = f"attachment; filename*=UTF-8''{quote(path.name)}"
        return web.FileResponse(path, headers={"Content-Disposition": disposition})
