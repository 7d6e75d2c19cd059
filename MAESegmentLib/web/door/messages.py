"""What may come through a page's socket: counted while it arrives, before anything is made of it."""

from __future__ import annotations

import struct

#: wslink's: number of the message, where this part begins in it, and how long the whole will be.
_HEADER = struct.Struct("<III")
#: A message that has only begun costs so much, however short it is.
_LEAST = 1024


class MessageMeter:
    """Of one socket. wslink makes room for a whole message when its first part arrives, and for any number of them at
    once: a part of 13 bytes may promise 4 GB. `limit` holds for all that is under way together, in bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: dict[int, tuple[int, int]] = {}  # number -> (promised, arrived)

    def objection(self, part: bytes) -> str:
        """Why the session must not get this part; "" if it may."""
        if len(part) < _HEADER.size:
            return "A message is cut off."
        number, begin, promised = _HEADER.unpack_from(part)
        size = len(part) - _HEADER.size
        known, arrived = self._open.get(number, (promised, 0))
        if promised != known or begin != arrived or size == 0 or arrived + size > promised:
            return "A message is not what it said it would be."
        others = sum(max(one, _LEAST) for key, (one, _come) in self._open.items() if key != number)
        if others + promised > self._limit:
            return f"Messages of more than {self._limit >> 10} kB are not taken."
        if arrived + size == promised:
            self._open.pop(number, None)
        else:
            self._open[number] = (promised, arrived + size)
        return ""
