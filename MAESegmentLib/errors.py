"""The exceptions a user may meet. Each says what happened and why (`message`) and what to do next (`hint`)."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Mapping
from typing import Any

from .text import visible


class MAESegmentError(Exception):
    """Base of every expected failure. `code` is the stable machine-readable name used in logs and protocols.

    `details` are figures for an offer to the user, e.g. {"cpu_seconds": 240}.
    """

    code = "error"

    def __init__(self, message: str, hint: str = "") -> None:
        # They quote files, and go to terminals, panels and JSON.
        self.message, self.hint = visible(message, "\n\t"), visible(hint, "\n\t")
        super().__init__(self.message)
        self.details: Mapping[str, Any] = {}

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class VolumeReadError(MAESegmentError):
    """A file or DICOM folder cannot be read as one complete scalar volume."""

    code = "volume_read"


class GeometryError(MAESegmentError):
    """The grid of a volume is not usable (sheared, singular, 2D, ...) or two grids do not match."""

    code = "geometry"


class DatasetError(MAESegmentError):
    """A dataset or one of its cases is incomplete or inconsistent; the message names the case."""

    code = "dataset"


class DuplicateCase(DatasetError):
    """The image is in the case store already; `details` is {"case": id of the stored case}."""

    code = "duplicate_case"


class BundleError(MAESegmentError):
    """A model bundle is missing, damaged, unsafe or of an unknown format."""

    code = "bundle"


class ModelNotFound(BundleError):
    """Nothing of that name or path is there; nothing is wrong with a model."""


class WeightsError(MAESegmentError):
    """Weights do not fit the network they are loaded into."""

    code = "weights"


class ConfigurationError(MAESegmentError):
    """A setting has a value that cannot work."""

    code = "configuration"


#: `details["problem"]` of a `MismatchError`: the model wants a box, and the whole scan was to be segmented.
LACKS_BOX = "lacks_box"


class MismatchError(MAESegmentError):
    """The model was not trained on such a scan; raised before anything runs, and can be allowed."""

    code = "mismatch"

    def __init__(self, message: str, hint: str = "", *, problem: str = "") -> None:
        super().__init__(message, hint)
        if problem:
            self.details = {"problem": problem}


class TrainingError(MAESegmentError):
    """Training cannot start or go on (non-finite loss, empty labels, ...)."""

    code = "training"


class DeviceError(MAESegmentError):
    """The requested device does not exist or does not work."""

    code = "device"


class DeviceMemoryError(DeviceError):
    """The device has too little memory even after every fallback that was allowed."""

    code = "device_memory"


class OutputError(MAESegmentError):
    """A result cannot be written (unknown format, no permission, full disk)."""

    code = "output"


class WorkerError(MAESegmentError):
    """The process that runs the network cannot be started, ended unexpectedly or does not answer."""

    code = "worker"


#: `details["problem"]` of a `NodeError` that a user can be offered a way around.
NONLINEAR_TRANSFORM = "nonlinear_transform"
EDITED_OUTPUT = "edited_output"


class NodeError(MAESegmentError):
    """A node of the Slicer scene cannot be used as it is (not a scalar volume, non-linear transform, edited, ...)."""

    code = "node"

    def __init__(self, message: str, hint: str = "", *, problem: str = "") -> None:
        super().__init__(message, hint)
        if problem:
            self.details = {"problem": problem}


class DrawingError(MAESegmentError):
    """What a user drew does not say what the rest of the scan is to follow from (nothing, an ambiguous plane, ...)."""

    code = "drawing"


class Cancelled(MAESegmentError):
    """The work was cancelled by the caller; nothing was written."""

    code = "cancelled"

    def __init__(self, message: str = "Cancelled.", hint: str = "") -> None:
        super().__init__(message, hint)


def from_code(code: str, message: str, hint: str = "") -> MAESegmentError:
    """The exception that another process described by its `code`; the base class for a code that is not known here."""
    pending: list[type[MAESegmentError]] = [MAESegmentError]
    while pending:
        kind = pending.pop()
        if kind.code == code:
            return kind(message, hint)
        pending.extend(kind.__subclasses__())
    return MAESegmentError(message, hint)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it says that memory ran out, the computer's or a GPU's."""
    text = str(error).lower() if isinstance(error, RuntimeError) else ""
    is_of_torch = type(error).__name__ == "OutOfMemoryError"
    return isinstance(error, MemoryError) or is_of_torch or any(mark in text for mark in _OUT_OF_MEMORY)


@contextlib.contextmanager
def explaining_memory(message: str, hint: str) -> Iterator[None]:
    """`DeviceMemoryError` of these words where memory runs out inside."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceMemoryError(message, hint) from error


def refusal_by_system(error: BaseException) -> MAESegmentError | None:
    """What the operating system refused (memory, a file, a character), said as a user should read it.

    None for anything else, which may be a defect.
    """
    known: MAESegmentError
    if is_out_of_memory(error):
        figures = next(iter(str(error).splitlines()), "")[:200]
        known = DeviceMemoryError(
            "The computer ran out of memory" + (f": {figures.rstrip('.')}." if figures else "."),
            "Close other programs, or work on less at once: a region of interest, a smaller or coarser scan.",
        )
    elif isinstance(error, UnicodeEncodeError):
        lacking = error.object[error.start : error.end][:20]
        known = OutputError(
            f"{lacking!a} in {error.object[:60]!a} cannot be written as {error.encoding}.",
            "Rename it with plain letters, or set a language with UTF-8, e.g. LANG=C.UTF-8.",
        )
    elif isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        known = OutputError(f"{where}{error.strerror}.", _remedy(error))
    else:
        return None
    known.__cause__ = error
    return known


def expected(error: BaseException) -> MAESegmentError:
    """`error` as one that a user may meet. What nobody foresaw is called a defect; its traceback belongs in the log.

    >>> expected(KeyError("x")).message
    "Something unexpected happened: KeyError: 'x'"
    """
    if isinstance(error, MAESegmentError):
        return error
    known = refusal_by_system(error)
    if known is None:
        known = MAESegmentError(
            f"Something unexpected happened: {type(error).__name__}: {error}",
            "This is a defect of MAESegment: please report it with the log.",
        )
        known.__cause__ = error
    return known


def refused(what: str, error: OSError, hint: str = "") -> OutputError:
    """`what` cannot be done: that sentence with the reason, and what to do about it unless `hint` says so."""
    return OutputError(f"{what}: {reason_of(error)}.", hint or _remedy(error))


def reason_of(error: OSError) -> str:
    """The end of a sentence."""
    return _REASONS.get(error.errno or 0, error.strerror or str(error))


def _remedy(error: OSError) -> str:
    return _REMEDIES.get(error.errno or 0, "Check the path, your permissions and the free space on the disk.")


#: What torch, cuDNN and cuBLAS say; all raise a `RuntimeError`, or what is derived from it.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "status_alloc_failed", "bad_alloc")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REASONS = {
    **dict.fromkeys(_FULL, "the disk (or your quota) is full"),
    errno.EEXIST: "a file or folder of that name is there already",
    errno.ENOTDIR: "part of its path is a file, not a folder",
    errno.EISDIR: "it is a folder, not a file",
    errno.ENOENT: "there is no such file",
}
_REMEDIES = {
    **dict.fromkeys(_FULL, "Free some space, then try again."),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS),
        "Ask for permission to read and write there, or choose a folder of your own.",
    ),
}
