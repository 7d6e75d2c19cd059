"""The address that stays the same from one start of the server to the next: a file that only this account can read."""

from __future__ import annotations

import json
import logging
import os
import re
import stat
from pathlib import Path

from ...errors import ConfigurationError, MAESegmentError, OutputError
from ...storage.atomic_file import replacing
from ...storage.lock import FileLock
from ...storage.user_folders import make_private_folder
from .access import Access

_TOKEN, _SEAL = re.compile(r"[A-Za-z0-9_-]{32}"), re.compile(r"[0-9a-f]{64}")


class StoredAddress:
    """Of one server at a time: a second one of the account meanwhile gets an address for itself.

    `port` is the one to listen on, 0 where none is known; `is_ours` says whether this server has the file.
    """

    def __init__(self, folder: Path) -> None:
        self.port = 0
        self.is_ours = False
        self._path = folder / "app-address.json"
        self._lock = FileLock(folder / "app-address.lock")

    def access(self, host: str, *, renew: bool = False) -> Access:
        """With the stored key; a new one if there is none, if somebody else could have read it, or to `renew` it."""
        try:
            make_private_folder(self._path.parent)
            self.is_ours = self._lock.try_acquire()
        except (OSError, OutputError) as error:
            logging.warning("MAESegment: this address is valid for this start only: %s", error)
            return Access(host)
        if renew and not self.is_ours:
            raise ConfigurationError(
                "A server of yours that is running uses the stored address.", "End it, then use --new-address again."
            )
        known = self._read() if self.is_ours and not renew else None
        if known is None:
            return Access(host)
        token, seal, self.port = known
        return Access(host, token, bytes.fromhex(seal))

    def keep(self, access: Access, port: int) -> None:
        """Use this key and port next time, too."""
        if not self.is_ours:
            return
        try:
            with replacing(self._path) as temporary:
                temporary.touch(mode=0o600)
                temporary.write_text(json.dumps({"token": access.token, "seal": access.seal.hex(), "port": port}))
        except MAESegmentError as error:
            logging.warning("MAESegment: this address is valid for this start only: %s", error)

    def close(self) -> None:
        self._lock.release()

    def _read(self) -> tuple[str, str, int] | None:
        try:
            status = self._path.lstat()
            is_private = os.name == "nt" or (status.st_uid == os.getuid() and not status.st_mode & 0o077)
            found = json.loads(self._path.read_text()) if stat.S_ISREG(status.st_mode) and is_private else {}
            token, seal, port = found["token"], found["seal"], found["port"]
            is_sound = _TOKEN.fullmatch(token) and _SEAL.fullmatch(seal) and 0 < int(port) < 1 << 16
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return (token, seal, int(port)) if is_sound else None
