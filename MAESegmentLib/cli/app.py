"""`maesegment app`: Slicer's views in the browser, with everything that segments, corrects and learns."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import secrets
import shutil
import signal
import webbrowser
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigurationError, VolumeReadError
from . import options
from .terminal import say

if TYPE_CHECKING:
    from ..web.door.front import FrontDoor
    from ..web.door.server_folder import ServerFolder

_GB = 1 << 30
#: What uploads leave of the space that is free now, in percent.
_RESERVE = 20
#: Ctrl-C, being ended, and a terminal that is closed.
_ENDING = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "volumes",
        nargs="*",
        type=Path,
        metavar="VOLUME",
        help="scans, or folders of scans, that the browser may open; the first scan is shown at once",
    )
    parser.add_argument("--server", action="store_true", help="do not open a browser here; print the address")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: any that is free)")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="listen on this interface; for others than loopback add --allow-network (default: 127.0.0.1)",
    )
    parser.add_argument(
        "--allow-network",
        action="store_true",
        help="let other computers in; what they send and see is not encrypted, so prefer `ssh -L`",
    )
    options.add_device(parser)
    parser.add_argument(
        "--upload-limit", type=float, default=4.0, metavar="GB", help="of all files a user uploads (default: 4)"
    )
    parser.add_argument("--users", type=int, default=8, help="how many users at most (default: 8)")


def run(arguments: argparse.Namespace) -> int:
    from ..web.door.access import LOOPBACK

    if arguments.host not in LOOPBACK and not arguments.allow_network:
        raise ConfigurationError(
            f"{arguments.host} would let other computers in.",
            "Add --allow-network if that is meant. Safer: leave --host out and use `ssh -L` (docs/browser.md).",
        )
    if not 0 < arguments.upload_limit <= 1024 or arguments.users < 1:
        raise ConfigurationError("--upload-limit is between 0 and 1024 GB, --users at least 1.")
    for path in arguments.volumes:
        if not path.exists():
            raise VolumeReadError(f"{path} does not exist.", "Check the path.")
    _check_packages()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(arguments))
    return 0


def _check_packages() -> None:
    from importlib.util import find_spec

    if find_spec("trame_slicer") is None or find_spec("slicer") is None:
        raise ConfigurationError(
            "The packages for the browser are not installed.", "Run `make app`, or: pip install 'maesegment[web]'"
        )


async def _serve(arguments: argparse.Namespace) -> None:
    from ..web.door.access import Access
    from ..web.door.front import FrontDoor
    from ..web.door.server_folder import ServerFolder
    from ..web.door.session_process import SessionConfig, SessionProcess

    folder = ServerFolder()
    try:
        upload_bytes = int(arguments.upload_limit * _GB)
        free = shutil.disk_usage(folder.path).free
        config = SessionConfig(
            secret="",
            work="",
            volumes=tuple(str(path.resolve()) for path in arguments.volumes if not _is_collection(path)),
            folders=tuple(str(path.resolve()) for path in arguments.volumes if _is_collection(path)),
            upload_bytes=upload_bytes,
            reserve_bytes=_RESERVE * free // 100,
            device=arguments.device,
        )

        def make_session(owner: str) -> SessionProcess:
            secret, work = secrets.token_urlsafe(24), str(folder.new_session())
            return SessionProcess(replace(config, secret=secret, work=work, owner=owner))

        access = Access(arguments.host)
        door = FrontDoor(access, make_session, upload_bytes=upload_bytes, most_sessions=arguments.users)
        await _run(door, arguments, folder)
    finally:
        folder.close()


async def _run(door: FrontDoor, arguments: argparse.Namespace, folder: ServerFolder) -> None:
    """Until a signal ends it."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _ENDING:
        if signal.getsignal(number) is signal.SIG_IGN:  # as `nohup` asks for
            continue
        with contextlib.suppress(NotImplementedError):  # Windows
            loop.add_signal_handler(number, ended.set)
    await door.start(arguments.port)
    try:
        say(f"MAESegment is at {door.address}\nCtrl-C ends it.")
        if not arguments.server and not webbrowser.open(folder.page_that_opens(door.address).as_uri()):
            say("No browser could be opened here: open the address above.", error=True)
        await ended.wait()
    finally:
        await door.close()


def _is_collection(path: Path) -> bool:
    """A folder of scans; a folder that is one DICOM series is a scan."""
    from ..images.scans import find_scans

    return path.is_dir() and find_scans([path]) != [path]
