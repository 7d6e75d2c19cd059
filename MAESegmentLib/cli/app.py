"""`maesegment app`: Slicer's views in the browser, with everything that segments, corrects and learns."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import secrets
import shutil
import signal
import webbrowser
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigurationError, VolumeReadError
from ..storage.user_folders import user_data_folder
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
    parser.add_argument(
        "--port", type=int, default=0, help="port to listen on (default: that of the start before, or one that is free)"
    )
    parser.add_argument(
        "--new-address", action="store_true", help="replace the stored address; the one before opens nothing any more"
    )
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
    _check_packages()
    from ..web.door.access import LOOPBACK

    if arguments.host not in LOOPBACK and not arguments.allow_network:
        raise ConfigurationError(
            f"{arguments.host} would let other computers in.",
            "Add --allow-network if that is meant. Safer: leave --host out and use `ssh -L` (docs/browser.md).",
        )
    if not 0 <= arguments.port < 1 << 16:
        raise ConfigurationError("--port is between 1 and 65535.")
    if not 0 < arguments.upload_limit <= 1024 or arguments.users < 1:
        raise ConfigurationError("--upload-limit is between 0 and 1024 GB, --users at least 1.")
    for path in arguments.volumes:
        if not path.exists():
            raise VolumeReadError(f"{path} does not exist.", "Check the path.")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(arguments))
    return 0


def _check_packages() -> None:
    from importlib.util import find_spec

    if not all(map(find_spec, ("aiohttp", "trame", "trame_slicer", "slicer"))):
        raise ConfigurationError(
            "The packages for the browser are not installed.", "Run `make app`, or: pip install 'maesegment[web]'"
        )


async def _serve(arguments: argparse.Namespace) -> None:
    from ..web.door.access import LOOPBACK, Access
    from ..web.door.front import FrontDoor
    from ..web.door.server_folder import ServerFolder
    from ..web.door.session_process import SessionConfig, SessionProcess
    from ..web.door.stored_address import StoredAddress

    folder, address = ServerFolder(), StoredAddress(user_data_folder())
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

        def make_door(access: Access) -> FrontDoor:
            return FrontDoor(access, make_session, upload_bytes=upload_bytes, most_sessions=arguments.users)

        # What travels over a network unencrypted is not used twice.
        is_stored = arguments.host in LOOPBACK
        access = address.access(arguments.host, renew=arguments.new_address) if is_stored else Access(arguments.host)
        if is_stored and not address.is_ours:
            say(
                "Your stored address is in use, or cannot be read: this one is valid until this server ends.",
                error=True,
            )
        door = make_door(access)
        try:
            await door.start(arguments.port or address.port)
        except OSError as error:
            await door.close()
            if arguments.port or not address.port:
                raise _cannot_listen(arguments, error) from error
            # Whoever listens there may have been told the key.
            say(f"Port {address.port} is used by another program: this address is a new one.", error=True)
            access = Access(arguments.host)
            door = make_door(access)
            await door.start(0)
            address.port = 0
        address.keep(access, address.port or door.port)
        await _run(door, arguments, folder)
    finally:
        address.close()
        folder.close()


def _cannot_listen(arguments: argparse.Namespace, error: OSError) -> ConfigurationError:
    """Why no address can be opened."""
    if error.errno == errno.EADDRINUSE:
        return ConfigurationError(
            f"Port {arguments.port} is used by another program.", "Use another --port, or leave it out."
        )
    if error.errno == errno.EACCES:
        return ConfigurationError(
            f"Your account may not use port {arguments.port}.", "Use a --port above 1023, or leave it out."
        )
    return ConfigurationError(
        f"This computer cannot listen on {arguments.host}: {error.strerror or error}.",
        "Leave --host out, or give an address of this computer.",
    )


async def _run(door: FrontDoor, arguments: argparse.Namespace, folder: ServerFolder) -> None:
    """Until a signal ends it."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _ENDING:
        if signal.getsignal(number) is signal.SIG_IGN:  # as `nohup` asks for
            continue
        with contextlib.suppress(NotImplementedError):  # Windows
            loop.add_signal_handler(number, ended.set)
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
