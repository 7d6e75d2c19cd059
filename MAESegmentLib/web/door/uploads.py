"""Files that come from the browser: counted while they arrive, given harmless names, unpacked with care."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from aiohttp import web

from ...errors import MAESegmentError, OutputError, VolumeReadError
from ...images.scans import is_dicom, is_image
from ...storage.file_names import uploaded_name
from ...storage.zip_directory import DirectoryTooLong, check_directory

_CHUNK = 1 << 20
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


class Budget:
    """Of one session, in bytes: at most `most`, and nothing of the last `reserve` on the disk of `folder`, which all
    sessions share."""

    def __init__(self, folder: Path, most: int, reserve: int = 0) -> None:
        self.used = 0
        self._folder = folder
        self._most = most
        self._reserve = reserve
        self._guard = threading.Lock()  # zips are unpacked in a thread

    def take(self, size: int) -> None:
        """`OutputError` if that is more than there is; nothing is taken then. A negative size is given back."""
        with self._guard:
            if self.used + size > self._most:
                raise OutputError(
                    f"Too large: {size_text(self._most)} may be uploaded in all.",
                    "Close scans that were uploaded before, or upload only the scan's files.",
                )
            if size > 0 and shutil.disk_usage(self._folder).free - size < self._reserve:
                raise OutputError(
                    "The disk of this server is nearly full.", "Try again when others have closed their scans."
                )
            self.used += size


@dataclass
class _Upload:
    """`charged` is what it has of the budget, `arriving` how many of its files are under way."""

    charged: int = 0
    arriving: int = 0
    latest: float = field(default_factory=time.monotonic)
    is_open: bool = False


class Uploads:
    """Each upload is a folder below `root`; what it takes is of `budget`, and given back with it."""

    def __init__(self, root: Path, budget: Budget) -> None:
        self._root = root
        self._budget = budget
        self._uploads: dict[str, _Upload] = {}
        #: Broken off or forgotten: what still comes for them is refused.
        self._ended: set[str] = set()

    def routes(self) -> list[web.RouteDef]:
        return [web.put("/upload/{upload:[a-z0-9]{8,40}}/{number:[0-9]{1,6}}", self._receive)]

    def folder(self, upload: str) -> Path:
        """Where the files of an upload are."""
        if upload not in self._uploads:
            raise VolumeReadError("This upload is not known.", "Choose the files again.")
        return self._root / upload

    def forget(self, upload: str) -> None:
        """Remove the files of an upload and give back what they took."""
        known = self._uploads.pop(upload, None)
        if known is not None:
            self._ended.add(upload)
            shutil.rmtree(self._root / upload, ignore_errors=True)
            self._budget.take(-known.charged)

    def abandon(self, upload: str) -> None:
        """Forget an upload, unless it has been opened."""
        if upload in self._uploads and not self._uploads[upload].is_open:
            self.forget(upload)

    def scan(self, upload: str) -> Path:
        """The scan among the files: a file, or a folder of DICOM; zips are unpacked. Slow: for a thread."""
        folder = self.folder(upload)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        if not files or self._uploads[upload].arriving:
            raise VolumeReadError("No file arrived.", "Choose the files again.")
        self._uploads[upload].is_open = True
        for number, path in enumerate(files):
            if path.suffix.lower() == ".zip":
                unpack(path, folder / f"zip {number}", lambda size: self._charge(upload, size))
                self._charge(upload, -path.stat().st_size)
                path.unlink()
        return _scan_among([path for path in folder.rglob("*") if path.is_file()], folder)

    def _charge(self, upload: str, size: int) -> None:
        known = self._uploads.get(upload)
        if known is None:
            raise OutputError("This upload was broken off.", "Choose the files again.")
        self._budget.take(size)
        known.charged += size

    async def _receive(self, request: web.Request) -> web.Response:
        """One file of an upload, as the body; its name is in the query."""
        upload, number = request.match_info["upload"], int(request.match_info["number"])
        if upload in self._ended:
            raise web.HTTPGone(text="This upload was broken off: choose the files again.")
        if upload not in self._uploads:
            self._forget_given_up()
        known = self._uploads.setdefault(upload, _Upload())
        if known.is_open:
            raise web.HTTPConflict(text="This upload is complete: choose the files again.")
        known.arriving += 1
        try:
            self._charge(upload, _FILE_BYTES)
            target = _free(self._root / upload, uploaded_name(request.query.get("name", "")), number)
            with _new_file(target) as stream:
                async for chunk in request.content.iter_chunked(_CHUNK):
                    self._charge(upload, len(chunk))
                    # The disk may be slow; the views are not to wait for it.
                    await asyncio.to_thread(stream.write, chunk)
        except (MAESegmentError, OSError) as error:
            self.forget(upload)
            status = 413 if isinstance(error, OutputError) else 507
            return web.Response(status=status, text=str(error).replace("\n", " "))
        except BaseException:
            # The page was closed, or the connection was lost: the rest will not come.
            self.forget(upload)
            raise
        finally:
            known.arriving -= 1
            known.latest = time.monotonic()
        return web.Response(text="ok")

    def _forget_given_up(self) -> None:
        oldest = time.monotonic() - _GIVEN_UP_S
        for key, one in [*self._uploads.items()]:
            if not one.is_open and not one.arriving and one.latest < oldest:
                self.forget(key)


def size_text(size: int) -> str:
    return f"{size / 2**30:.1f} GB" if size >= 2**30 else f"{size / 2**20:.0f} MB"


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
            places: dict[str, Path] = {}  # a folder of the zip -> ours: what lies together belongs together
            for number, member in enumerate(members):
                if member.external_attr >> 28 == 0xA or member.filename.startswith("__MACOSX/"):
                    continue  # a link, or what macOS adds
                place = places.setdefault(str(PurePosixPath(member.filename).parent), folder / f"{len(places):05d}")
                _extract(packed, member, _free(place, uploaded_name(member.filename), number), charge)
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
