"""One request's folder: the volume goes in (with a label map, for a case), the labels come out, as .npy files that both
sides map into memory."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import uuid
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import OutputError, VolumeReadError
from ..images.volume import LabelMap, Volume
from ..storage.lock import FileLock, is_abandoned
from ..storage.user_folders import make_private_folder
from ..translation import tr as _

_NAME = re.compile(r"maesegment-\d+-[0-9a-f]+")
_HEADER = "volume.json"
_LOCK = ".lock"
_LABELS = "labels.npy"
_LABELS_IN = "labels_in.npy"
_LABELS_BEFORE = "labels_before.npy"
#: Written in one turn of the client's event loop, in a few milliseconds.
_STEP_BYTES = 8 * 2**20
#: What reading a file or an answer of another process may raise (a file without a byte: EOFError).
_UNREADABLE = (OSError, EOFError, ValueError, OverflowError, KeyError, TypeError)


class JobFolder:
    """Arrays are (K, J, I) in the files, as Slicer and VTK keep them, so that neither side has to reorder voxels."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock = FileLock(self.path / _LOCK)

    @classmethod
    def create(cls, parent: Path) -> JobFolder:
        """A new folder that nobody else may read; `OutputError` if it cannot be made.

        `remove_stale` deletes it once this process is gone.
        """
        folder = cls(parent / f"maesegment-{os.getpid()}-{uuid.uuid4().hex[:12]}")
        try:
            make_private_folder(parent)
            folder.path.mkdir(mode=0o700)
        except OSError as error:
            raise _cannot_write("The volume", parent, error) from error
        with suppress(OutputError):  # a disk without locks: then it is never taken for left behind
            folder._lock.try_acquire()
        return folder

    def write_volume(self, channels: Sequence[np.ndarray], ijk_to_ras: np.ndarray) -> Iterator[float]:
        """Write (K, J, I) `channels` of one grid a few MiB a step, yielding the share done; complete only at the end.

        The arrays may be views that change later: only what is there when its step comes is written.
        """
        total = sum(channel.nbytes for channel in channels) or 1
        done = 0
        for number, channel in enumerate(channels):
            with self._placing("The volume", f"image_{number}.npy") as temporary:
                for written in _write_array(temporary, channel):
                    yield min((done + written) / total, 1.0)
            done += channel.nbytes
        header = {"channels": len(channels), "ijk_to_ras": np.asarray(ijk_to_ras, float).tolist()}
        with self._placing("The volume", _HEADER) as temporary:
            temporary.write_text(json.dumps(header))

    def change_notes(self, channels: Sequence[np.ndarray]) -> Generator[float, None, tuple[str, ...]]:
        """What a user has to know if `channels` are no longer what was written; compared a few MiB a step."""
        total = sum(channel.nbytes for channel in channels) or 1
        for number, channel in enumerate(channels):
            with self._reading("The volume", "Segment it again."):
                written = self._load(f"image_{number}.npy")
            same = (written.shape, written.dtype) == (channel.shape, channel.dtype)
            for one, other in zip(_parts(written), _parts(channel), strict=same) if same else ():
                same = one.tobytes() == other.tobytes()
                if not same:
                    break
                yield one.nbytes / total
            if not same:
                return (
                    _(
                        "The scan's voxels were changed while it was being segmented: the result need not fit what the "
                        "scan shows now. Segment it again."
                    ),
                )
        return ()

    def read_volume(self) -> Volume:
        """(C, I, J, K), mapped into memory where there is one channel; `MemoryError` if that is too small."""
        with self._reading("The volume", "Segment it again."):
            header = json.loads((self.path / _HEADER).read_text())
            channels = [self._load(f"image_{number}.npy") for number in range(int(header["channels"]))]
            matrix = np.array(header["ijk_to_ras"], dtype=float).reshape(4, 4)
            if not channels or any(channel.ndim != 3 for channel in channels):
                raise ValueError("it is not a 3D image")
            array = channels[0][None] if len(channels) == 1 else np.stack(channels)
        return Volume(array.transpose(0, 3, 2, 1), matrix)

    def write_label_map(self, array: np.ndarray, *, before: bool = False) -> Iterator[float]:
        """Write a label map (K, J, I) of the volume's grid, uint8 or uint16, as `write_volume` writes the volume;
        `before`: the one that it was made from."""
        with self._placing("The label map", _LABELS_BEFORE if before else _LABELS_IN) as temporary:
            for written in _write_array(temporary, array):
                yield min(written / (array.nbytes or 1), 1.0)

    def read_label_map(self, volume: Volume, *, before: bool = False) -> LabelMap:
        """The label map that was written beside `volume`: (I, J, K), mapped into memory."""
        with self._reading("The label map", "Try it again."):
            array = self._load_labels(_LABELS_BEFORE if before else _LABELS_IN)
        return LabelMap(array.transpose(2, 1, 0), volume.ijk_to_ras)

    def write_labels(self, label_map: LabelMap) -> dict[str, Any]:
        """Write the smallest block that holds every label; returns what `read_labels` needs, ready for JSON."""
        array = label_map.array
        block = tuple(_bounds(array))
        cropped = _transposed(array[block])
        with self._placing("The label map", _LABELS) as temporary:
            for _written in _write_array(temporary, cropped):
                pass
        origin = [int(part.start) for part in block]
        return {"file": _LABELS, "origin_ijk": origin, "shape_ijk": [int(n) for n in array.shape]}

    def read_labels(self, data: Mapping[str, Any]) -> tuple[np.ndarray, tuple[int, int, int]]:
        """The block (K, J, I) of labels and the voxel (i, j, k) it begins at."""
        with self._reading("The worker's label map", "Segment it again."):
            name = str(data["file"])
            if Path(name).name != name or (self.path / name).is_symlink():
                raise ValueError(f"{name!r} is not a file of this folder")
            block = self._load_labels(name)
            i, j, k = (int(index) for index in data["origin_ijk"])
            width, height, depth = (int(size) for size in data["shape_ijk"])
            ends = np.add((i, j, k), block.shape[::-1])
            if min(i, j, k) < 0 or np.any(ends > (width, height, depth)):
                raise ValueError("the labels reach beyond the volume")
        return block, (i, j, k)

    def remove(self) -> None:
        """Delete the folder; what another process still holds open is left to `remove_stale`."""
        self._lock.remove()
        shutil.rmtree(self.path, ignore_errors=True)

    @contextmanager
    def _placing(self, what: str, name: str) -> Iterator[Path]:
        """As `storage.atomic_file.replacing`, but not down to the disk: no job outlives a power cut."""
        temporary = self.path / f".{name}.part"
        try:
            yield temporary
            temporary.replace(self.path / name)
        except OSError as error:
            raise _cannot_write(what, self.path.parent, error) from error

    @contextmanager
    def _reading(self, what: str, advice: str) -> Iterator[None]:
        try:
            yield
        except _UNREADABLE as error:
            if getattr(error, "errno", None) == errno.ENOMEM:
                raise MemoryError(f"{what} cannot be mapped: {error}") from None
            raise VolumeReadError(
                f"{what} in the job folder {self.path.name} cannot be read: {error}", advice
            ) from None

    def _load_labels(self, name: str) -> np.ndarray:
        array = self._load(name)
        if array.ndim != 3 or array.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"labels of {array.ndim} dimensions and type {array.dtype}")
        return array

    def _load(self, name: str) -> np.ndarray:
        try:
            array = np.load(self.path / name, mmap_mode="r", allow_pickle=False)
        except ValueError:
            # An empty array cannot be mapped; anything else fails again.
            array = np.load(self.path / name, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            array.close()
            raise ValueError(f"{name} is an archive")
        return array


def full_label_array(block: np.ndarray, origin_ijk: Sequence[int], shape_ijk: Sequence[int]) -> np.ndarray:
    """The block (K, J, I) on the whole grid, (K, J, I), background elsewhere."""
    whole = np.zeros(tuple(shape_ijk)[::-1], block.dtype)
    starts = tuple(origin_ijk)[::-1]
    whole[tuple(slice(start, start + size) for start, size in zip(starts, block.shape, strict=True))] = block
    return whole


def remove_stale(parent: Path) -> list[Path]:
    """Delete the job folders of processes that are gone, on this computer or another; returns those."""
    try:
        folders = sorted(path for path in parent.iterdir() if _NAME.fullmatch(path.name))
    except OSError:
        return []
    removed = [folder for folder in folders if is_abandoned(folder, _LOCK)]
    for folder in removed:
        shutil.rmtree(folder, ignore_errors=True)
    return [folder for folder in removed if not os.path.lexists(folder)]


def _write_array(path: Path, array: np.ndarray) -> Iterator[int]:
    """Write in .npy format, a few slices or some rows of one at a time; yields the bytes written so far."""
    done = 0
    with path.open("wb") as stream:
        header = np.lib.format.header_data_from_array_1_0(np.empty((0,), array.dtype))
        header.update(fortran_order=False, shape=tuple(int(n) for n in array.shape))
        np.lib.format.write_array_header_1_0(stream, header)
        for part in _parts(array):
            stream.write(np.ascontiguousarray(part).data)
            done += part.nbytes
            yield done


def _parts(array: np.ndarray) -> Iterator[np.ndarray]:
    """`array` along its first axis in parts of about `_STEP_BYTES`; of huge slices along the next axis."""
    each = array[:1].nbytes
    if each > _STEP_BYTES and array.ndim > 1:
        for inner in array:
            yield from _parts(inner)
        return
    count = max(1, _STEP_BYTES // max(1, each))
    for start in range(0, len(array), count):
        yield array[start : start + count]


def _transposed(array: np.ndarray) -> np.ndarray:  # (I, J, K) -> (K, J, I)
    """Plane by plane: a transposed copy of the whole misses the cache for every voxel (256^3: 0.4 s, not 0.02 s)."""
    result = np.empty(array.shape[::-1], array.dtype)
    for row in range(array.shape[1]):
        result[:, row] = array[:, row].copy(order="K").T
    return result


def _bounds(array: np.ndarray) -> Iterator[slice]:
    """The smallest block (I, J, K) that holds every voxel that is not 0; of size 0 if there is none."""
    for axis in range(array.ndim):
        others = tuple(other for other in range(array.ndim) if other != axis)
        found = np.flatnonzero(array.any(axis=others))
        yield slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 0)


def _cannot_write(what: str, folder: Path, error: OSError) -> OutputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(
            f"{what} cannot be handed over: the disk with {folder} is full.",
            "Free some space, or choose another working folder (Advanced).",
        )
    return OutputError(
        f"{what} cannot be handed over: {error.strerror or error} ({folder}).",
        "Choose a working folder that you can write to (Advanced).",
    )
