"""Where a session's process listens: a socket in its folder, so that no other account can even connect."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

_NAME = "socket"
#: A socket's path takes 104 bytes on macOS and 108 on Linux, with the zero at its end.
_LONGEST = 103


class SocketPath:
    """The path of the socket in the folder `work`; "" where there are none, or for a path that is too long.

    On Linux a long one is shortened by way of an open folder: it holds in this process, until `close`.
    """

    def __init__(self, work: Path) -> None:
        self._folder = -1
        self.path = ""
        if not hasattr(socket, "AF_UNIX") or sys.platform == "win32":
            return
        path = str(work / _NAME)
        if len(os.fsencode(path)) > _LONGEST:
            if not sys.platform.startswith("linux"):
                return
            self._folder = os.open(work, os.O_PATH | os.O_DIRECTORY)
            path = f"/proc/self/fd/{self._folder}/{_NAME}"
        self.path = path

    def close(self) -> None:
        self.path = ""
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1
