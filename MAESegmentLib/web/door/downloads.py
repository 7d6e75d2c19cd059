"""Files that the browser may save: each under an address that nobody can guess, until a newer one takes its place."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from aiohttp import web


class Downloads:
    """Only what was offered can be had, the newest of each kind; files are below `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._offered: dict[str, tuple[Path, Callable[[], None]]] = {}
        self._newest: dict[str, Path] = {}

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/download/{key}", self._send)]

    def folder(self, kind: str) -> Path:
        """An empty folder for the next file of a kind; the one before is withdrawn."""
        self.withdraw(kind)
        self._root.mkdir(parents=True, exist_ok=True)
        self._newest[kind] = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=self._root))
        return self._newest[kind]

    def withdraw(self, kind: str) -> None:
        """Offer the newest file of a kind no more, and remove it."""
        folder = self._newest.pop(kind, None)
        if folder is not None:
            self._offered = {key: one for key, one in self._offered.items() if one[0].parent != folder}
            shutil.rmtree(folder, ignore_errors=True)

    def offer(self, path: Path, on_taken: Callable[[], None] = lambda: None) -> str:
        """The address of a file, relative to the page; `on_taken` is called when it is fetched."""
        key = secrets.token_urlsafe(16)
        self._offered[key] = path, on_taken
        return f"download/{key}"

    async def _send(self, request: web.Request) -> web.StreamResponse:
        path, on_taken = self._offered.get(request.match_info["key"], (None, None))
        if path is None or on_taken is None or not path.is_file():
            return web.Response(status=404, text="This file is not offered any more: export it again.")
        disposition = f"attachment; filename*=UTF-8''{quote(path.name, safe='')}"
        on_taken()
        return web.FileResponse(path, headers={"Content-Disposition": disposition})
