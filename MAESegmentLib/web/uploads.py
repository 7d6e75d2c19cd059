"""Files that come from the browser: counted, given harmless names, unpacked with care."""

from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path

from aiohttp import web

from ..errors import VolumeReadError
from .file_names import uploaded_name

_CHUNK = 1 << 20
_UPLOAD = re.compile(r"[a-z0-9]{8,40}")
#: A zip may unpack to so many files, and to so many times its own size.
_MOST_FILES = 20_000
_MOST_RATIO = 200


class Uploads:
    """Each upload is a folder below `root`; together they take at most `limit` bytes."""

    def __init__(self, root: Path, limit: int) -> None:
        self._root = root
        self._limit = limit

    def routes(self) -> list[web.RouteDef]:
        return [web.put("/upload/{upload}/{number}", self._receive)]

    def folder(self, upload: str) -> Path:
        """Where the files of an upload are."""
        if not _UPLOAD.fullmatch(upload):
            raise VolumeReadError("This upload is not known.", "Choose the files again.")
        return self._root / upload

    def forget(self, upload: str) -> None:
        shutil.rmtree(self.folder(upload), ignore_errors=True)

    def scan(self, upload: str) -> Path:
        """The scan among the files: a file, or a folder of DICOM; zips are unpacked. Slow: for a thread."""
        folder = self.folder(upload)
        files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
        if not files:
            raise VolumeReadError("No file arrived.", "Choose the files again.")
        for path in files:
            if path.suffix.lower() == ".zip":
                unpack(path, folder, self._limit)
                path.unlink()
        images = [path for path in folder.rglob("*") if path.is_file()]
        return images[0] if len(images) == 1 else folder

    def used(self) -> int:
        """Bytes of all uploads."""
        if not self._root.is_dir():
            return 0
        return sum(path.stat().st_size for path in self._root.rglob("*") if path.is_file())

    async def _receive(self, request: web.Request) -> web.Response:
        """One file of an upload, as the body; its name is in the query."""
        try:
            folder = self.folder(request.match_info["upload"])
            number = int(request.match_info["number"])
        except (VolumeReadError, ValueError) as error:
            return web.Response(status=400, text=str(error))
        name = uploaded_name(request.query.get("name", ""))
        left = self._limit - self.used()
        target = _free(folder, name, number)
        with target.open("wb") as stream:
            async for chunk in request.content.iter_chunked(_CHUNK):
                left -= len(chunk)
                if left < 0:
                    stream.close()
                    shutil.rmtree(folder, ignore_errors=True)
                    limit = f"{self._limit / 2**30:.1f} GB" if self._limit >= 2**30 else f"{self._limit / 2**20:.0f} MB"
                    return web.Response(status=413, text=f"Too large: {limit} may be uploaded in all.")
                stream.write(chunk)
        return web.Response(text="ok")


def unpack(archive: Path, folder: Path, limit: int) -> None:
    """All files of a zip into folders below `folder`; nothing outside it, no links, no bombs."""
    try:
        with zipfile.ZipFile(archive) as packed:
            members = [member for member in packed.infolist() if not member.is_dir()]
            total = sum(member.file_size for member in members)
            if len(members) > _MOST_FILES or total > min(limit, _MOST_RATIO * max(1, archive.stat().st_size)):
                raise VolumeReadError(
                    f"{archive.name} would unpack to {len(members)} files of {total / 2**20:.0f} MB.",
                    "Upload only the scan's files.",
                )
            for number, member in enumerate(members):
                if member.external_attr >> 28 == 0xA or member.filename.startswith("__MACOSX/"):
                    continue  # a link, or what macOS adds
                _extract(packed, member, _free(folder, uploaded_name(member.filename), number))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise VolumeReadError(
            f"{archive.name} cannot be unpacked: {error}.", "Make the zip again, without a password."
        ) from error


def _free(folder: Path, name: str, number: int) -> Path:
    """Where a file goes: beside the others, since some belong together; DICOM folders have many of the same name."""
    target = folder / name
    if target.exists():
        target = folder / f"{number:05d}" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _extract(packed: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    written = 0
    with packed.open(member) as source, target.open("wb") as stream:
        while chunk := source.read(_CHUNK):
            written += len(chunk)
            if written > member.file_size:
                raise VolumeReadError(f"{member.filename} is larger than its archive says.", "Make the zip again.")
            stream.write(chunk)
