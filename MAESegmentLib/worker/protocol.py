"""The messages of a worker and its client: one JSON object a line, requests on stdin, events on stdout.

Needs only the standard library, so that any Python can at least report what it lacks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from ..values import from_json

#: Raised when a message changes its meaning; worker and client of different numbers refuse each other.
PROTOCOL = 1
#: A longer line is not a message of ours; it bounds what a runaway process can make the client keep.
MAX_LINE_BYTES = 4 * 2**20

#: What a segmentation goes through, in this order. "send" is the client's part: writing the volume to the job folder.
STAGES = ("send", "load", "locate", "prepare", "segment", "restore", "write")


@dataclass(frozen=True)
class Message:
    """Base of all messages; `type` is the word on the wire."""

    type: ClassVar[str] = ""

    def encode(self) -> bytes:
        """One line of UTF-8 JSON, newline included. `ValueError` for NaN, infinity or what JSON cannot hold."""
        return (json.dumps({"type": self.type, **asdict(self)}, allow_nan=False) + "\n").encode()


# Requests -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Segment(Message):
    """Segment the volume in `folder` (a job folder) with the bundle in folder `model`.

    `settings` are the chosen fields of `InferenceSettings`; the model's own stand for the rest.
    `roi` is (R0, R1, A0, A1, S0, S1) in world RAS mm. Without one, the bundle in folder `locator` places the boxes of a
    model that wants one; where it cannot, the whole scan is segmented, or with `ask_for_box` none of it.
    """

    type: ClassVar[str] = "segment"
    id: str
    folder: str
    model: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    roi: tuple[float, ...] | None = None
    locator: str = ""
    ask_for_box: bool = False


@dataclass(frozen=True)
class Devices(Message):
    """Ask which devices there are and how much memory is free on each."""

    type: ClassVar[str] = "devices"
    id: str


@dataclass(frozen=True)
class AddCase(Message):
    """Put the volume in `folder` (a job folder), with the label map beside it, into the case store `store`.

    `details` are what `cases.submission.CaseSubmission.to_dict` made; the `Result` has the case's record.
    """

    type: ClassVar[str] = "add_case"
    id: str
    folder: str
    store: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class WriteScan(Message):
    """Write the volume in `folder` (a job folder) to the image file `file`, with the voxels that a case has of it."""

    type: ClassVar[str] = "write_scan"
    id: str
    folder: str
    file: str


@dataclass(frozen=True)
class Estimate(Message):
    """Measure how long the fine-tuning that `run` (a `finetuning.RunRequest`) asks for takes here, and its memory."""

    type: ClassVar[str] = "estimate"
    id: str
    run: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rank(Message):
    """Measure how uncertain `model` is about a volume: that in job folder `folder`, or the file or DICOM folder `scan`.

    `settings` and `roi` as in `Segment`.
    """

    type: ClassVar[str] = "rank"
    id: str
    model: str
    folder: str = ""
    scan: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    roi: tuple[float, ...] | None = None


@dataclass(frozen=True)
class UpdateScan(Message):
    """Let the rest of the scan in `folder` follow from what was drawn on some slices: the label map beside it, and the
    result that it was corrected from if `has_before`.

    `names` are the labels by their values, `plane` that of the slices ("axial"; "": found), `earlier` what an update
    before was told was drawn (`propagation.drawn.Drawn.to_dict`). Nothing changes outside `roi`. No network is run:
    grey values and outlines are used.
    """

    type: ClassVar[str] = "update_scan"
    id: str
    folder: str
    names: Mapping[str, str]
    has_before: bool = False
    plane: str = ""
    earlier: Mapping[str, Any] = field(default_factory=dict)
    roi: tuple[float, ...] | None = None


@dataclass(frozen=True)
class GrowScribbles(Message):
    """Grow the scribbles in `folder`, a label map beside the scan (with the result that they were drawn into, if
    `has_before`), within a box about them, guided by what `model` says, if one is given. `settings` and `roi` as in
    `Segment`, `names` and `earlier` as in `UpdateScan`."""

    type: ClassVar[str] = "grow_scribbles"
    id: str
    folder: str
    names: Mapping[str, str]
    has_before: bool = False
    model: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    roi: tuple[float, ...] | None = None
    earlier: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cancel(Message):
    """Stop request `id` at the next window or iteration, or take it out of the queue."""

    type: ClassVar[str] = "cancel"
    id: str


@dataclass(frozen=True)
class Shutdown(Message):
    """End after the current request; closing stdin does the same at once."""

    type: ClassVar[str] = "shutdown"


# Events ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hello(Message):
    """The first line, sent before anything large is imported. `pid` is the real interpreter's (also its group's)."""

    type: ClassVar[str] = "hello"
    pid: int
    protocol: int
    version: str
    python: str


@dataclass(frozen=True)
class Ready(Message):
    """Torch is imported; `devices` are dictionaries {name, title, free_bytes, total_bytes}, the preferred one first."""

    type: ClassVar[str] = "ready"
    torch: str
    devices: tuple[Mapping[str, Any], ...]
    seconds: float


@dataclass(frozen=True)
class Accepted(Message):
    """Request `id` arrived; `position` others run before it (0: it starts now)."""

    type: ClassVar[str] = "accepted"
    id: str
    position: int


@dataclass(frozen=True)
class Started(Message):
    """Request `id` has begun."""

    type: ClassVar[str] = "started"
    id: str


@dataclass(frozen=True)
class Progress(Message):
    """`fraction` of `stage` is done (0..1); `eta_s` seconds are left until the result, if that is known."""

    type: ClassVar[str] = "progress"
    id: str
    stage: str
    fraction: float
    eta_s: float | None = None


@dataclass(frozen=True)
class Log(Message):
    """A sentence for the user's log; `level` is "info", "warning" or "error"."""

    type: ClassVar[str] = "log"
    level: str
    text: str
    id: str | None = None


@dataclass(frozen=True)
class Result(Message):
    """Request `id` is done; `data` depends on the request."""

    type: ClassVar[str] = "result"
    id: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Error(Message):
    """Request `id` failed, or the worker itself (`id` None); `code` is that of a class in `MAESegmentLib.errors`.

    `details` are figures for an offer to the user, e.g. {"cpu_seconds": 240, "free_bytes": 5e9}.
    """

    type: ClassVar[str] = "error"
    id: str | None
    code: str
    message: str
    hint: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


REQUESTS: dict[str, type[Message]] = {
    cls.type: cls
    for cls in (Segment, Devices, AddCase, WriteScan, Estimate, Rank, UpdateScan, GrowScribbles, Cancel, Shutdown)
}
EVENTS: dict[str, type[Message]] = {
    cls.type: cls for cls in (Hello, Ready, Accepted, Started, Progress, Log, Result, Error)
}


class InvalidMessage(ValueError):
    """Of a known kind, but incomplete or with a value of another kind; `id` is the request's, if it has one."""

    def __init__(self, reason: str, id: str | None) -> None:  # noqa: A002
        super().__init__(reason)
        self.id = id


def decode(line: bytes, kinds: Mapping[str, type[Message]]) -> Message:
    """The message in `line`; `ValueError` with the reason if it is none of `kinds`, `InvalidMessage` if it is one
    with wrong fields. Unknown fields are ignored."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"not a JSON object: {str(data)[:80]}")
    kind = kinds.get(str(data.get("type")))
    if kind is None:
        raise ValueError(f"unknown message type {str(data.get('type'))[:80]!r}")
    try:
        return from_json(kind, data)
    except ValueError as error:
        request_id = data.get("id")
        reason = f"incomplete {kind.type!r} message: {error}"
        raise InvalidMessage(reason, request_id if isinstance(request_id, str) else None) from None


class LineSplitter:
    """Cuts a stream of bytes into lines; what exceeds `MAX_LINE_BYTES` without a newline is given out in pieces."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Every complete line in what has come so far, without its newline; empty lines are left out."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            lines.append(self._rest)
            self._rest = b""
        yield from (line for line in (raw.strip() for raw in lines) if line)
