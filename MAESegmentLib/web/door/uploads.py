"""Files that come from the browser: counted while they arrive, given harmless names, unpacked with care."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from aiohttp import web

from ...errors import MAESegmentError, OutputError, VolumeReadError
from ...images.scans import is_dicom, is_image
from ...storage.zip_directory import DirectoryTooLong, check_directory
from .file_names import uploaded_name
from .upload_budget import UploadBudget

_CHUNK = 1 << 20
_UPLOAD = re.compile(r"[a-z0-9]{8,40}")
_MOST_NUMBER = 1_000_000
#: A zip may unpack to so many files, and to so many times its own size.
_MOST_FILES = 20_000
_MOST_RATIO = 200
#: Of its table of contents: folders, and what macOS adds to each file, count there, too.
_MOST_ENTRIES = 3 * _MOST_FILES
_MOST_DIRECTORY_BYTES = 32 << 20
#: What a file costs beside its bytes: a disk is also full of empty ones.
_FILE_BYTES = 4096
#: An upload that nothing was added to for so long, and nobody opened, was given up.
_GIVEN_UP_S = 600.0


@dataclass
class _Upload:
    """`charged` is what it has of the budget, `arriving` how many of its files are under way."""

    charged: int = 0
    arriving: int = 0
    latest: float = 0.0
    is_open: bool = False


class Uploads:
    """Each upload is a folder below `root`; what it takes is of `budget`, and given back with it."""

    def __init__(self, root: Path, budget: UploadBudget) -> None:
        self._root = root
        self._budget = budget
        self._uploads: dict[str, _Upload] = {}
        #: Broken off or forgotten: what still comes for them is refused.
        self._ended: set[str] = set()

    def routes(self) -> list[web.RouteDef]:
        return [web.put("/upload/{upload}/{number}", self._receive)]

    def folder(self, upload: str) -> Path:
        """Where the files of an upload are."""
        if not _UPLOAD.fullmatch(upload):
            raise VolumeReadError("This upload is not known.", "Choose the files again.")
        return self._root / upload

    def forget(self, upload: str) -> None:
        """Remove the files of an upload and give back what they took."""
        known = self._uploads.pop(upload, None)
        if known is None:
            return
        self._ended.add(upload)
        shutil.rmtree(self.folder(upload), ignore_errors=True)
        self._budget.give_back(known.charged)

    def abandon(self, upload: str) -> None:
        """Forget an upload, unless it has been opened."""
        known = self._uploads.get(upload)
        if known is not None and not known.is_open:
            self.forget(upload)

    def scan(self, upload: str) -> Path:
        """The scan among the files: a file, or a folder of DICOM; zips are unpacked. Slow: for a thread."""
        folder = self.folder(upload)
        known = self._uploads.get(upload)
        files = sorted(path for path in folder.rglob("*") if path.is_file()) if known is not None else []
        if known is None or not files or known.arriving:
            raise VolumeReadError("No file arrived.", "Choose the files again.")
        known.is_open = True

        def charge(size: int) -> None:
            self._budget.take(size)
            known.charged += size

        for number, path in enumerate(files):
            if path.suffix.lower() == ".zip":
                unpack(path, folder / f"zip {number}", charge)
                size = path.stat().st_size
                path.unlink()
                known.charged -= size
                self._budget.give_back(size)
        return _scan_among([path for path in folder.rglob("*") if path.is_file()], folder)

    async def _receive(self, request: web.Request) -> web.Response:
        """One file of an upload, as the body; its name is in the query."""
        upload = request.match_info["upload"]
        try:
            folder, number = self.folder(upload), int(request.match_info["number"])
        except (VolumeReadError, ValueError) as error:
            return web.Response(status=400, text=str(error))
        if not 0 <= number < _MOST_NUMBER:
            return web.Response(status=400, text="This file has no sensible number.")
        if upload in self._ended:
            return web.Response(status=410, text="This upload was broken off: choose the files again.")
        known = self._begun(upload)
        if known.is_open:
            return web.Response(status=409, text="This upload is complete: choose the files again.")
        known.arriving += 1
        try:
            await self._write(request, known, folder, uploaded_name(request.query.get("name", "")), number)
        except (MAESegmentError, OSError) as error:
            self.forget(upload)
            is_full = isinstance(error, OutputError)
            return web.Response(status=413 if is_full else 507, text=str(error).replace("\n", " "))
        except BaseException:
            # The page was closed, or the connection was lost: the rest will not come.
            self.forget(upload)
            raise
        finally:
            known.arriving -= 1
            known.latest = time.monotonic()
        return web.Response(text="ok")

    def _begun(self, upload: str) -> _Upload:
        known = self._uploads.get(upload)
        if known is None:
            now = time.monotonic()
            given_up = [
                key
                for key, one in self._uploads.items()
                if not one.is_open and not one.arriving and now - one.latest > _GIVEN_UP_S
            ]
            for key in given_up:
                self.forget(key)
            known = self._uploads[upload] = _Upload(latest=now)
        return known

    async def _write(self, request: web.Request, known: _Upload, folder: Path, name: str, number: int) -> None:
        def charge(size: int) -> None:
            if request.match_info["upload"] in self._ended:
                raise OutputError("This upload was broken off.", "Choose the files again.")
            self._budget.take(size)
            known.charged += size

        charge(_FILE_BYTES)
        with _new_file(_free(folder, name, number)) as stream:
            async for chunk in request.content.iter_chunked(_CHUNK):
                charge(len(chunk))
                # The disk may be slow; the views are not to wait for it.
                await asyncio.to_thread(stream.write, chunk)


def _scan_among(files: list[Path], folder: Path) -> Path:
    """The only file, or the only one that is an image (its voxels may lie in another); else the folder, of DICOM."""
    if len(files) == 1:
        return files[0]
    images = [file for file in files if is_image(file)]
    return images[0] if len(images) == 1 and not any(map(is_dicom, files)) else folder


def unpack(archive: Path, folder: Path, charge: Callable[[int], None]) -> None:
    """All files of a zip below `folder`, each charged as it is written; nothing outside it, no links, no bombs."""
    try:
        # Before `zipfile` reads all of it: a small zip may list a million files.
        with archive.open("rb") as stream:
            check_directory(stream, _MOST_DIRECTORY_BYTES, _MOST_ENTRIES, may_have_comment=True)
        with zipfile.ZipFile(archive) as packed:
            members = [member for member in packed.infolist() if not member.is_dir()]
            total = sum(member.file_size for member in members)
            if len(members) > _MOST_FILES or total > _MOST_RATIO * max(1, archive.stat().st_size):
                raise VolumeReadError(
                    f"{archive.name} would unpack to {len(members)} files of {total / 2**20:.0f} MB.",
                    "Upload only the scan's files.",
                )
            for number, member in enumerate(members):
                if member.external_attr >> 28 == 0xA or member.filename.startswith("__MACOSX/"):
                    continue  # a link, or what macOS adds
                _extract(packed, member, _free(folder, uploaded_name(member.filename), number), charge)
    except DirectoryTooLong as error:
        raise VolumeReadError(
            f"{archive.name} lists far more files than a scan has: at most {_MOST_FILES} are unpacked.",
            "Upload only the scan's files.",
        ) from error
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError) as error:
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


def _new_file(path: Path) -> BinaryIO:
    """To be written; nobody else reads it, and nothing that is there already is written to."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _extract(packed: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, charge: Callable[[int], None]) -> None:
    charge(_FILE_BYTES)
    written = 0
    with packed.open(member) as source, _new_file(target) as stream:
        while chunk := source.read(_CHUNK):
            written += len(chunk)
            if written > member.file_size:
                raise VolumeReadError(f"{member.filename} is larger than its archive says.", "Make the zip again.")
            charge(len(chunk))
            stream.write(chunk)
