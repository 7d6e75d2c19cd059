"""By what an image or a label map is recognised: a hash of its voxels, which says nothing of whose they are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

#: (I, J, K), or (C, I, J, K), or the channels of the latter one by one, as views of however they lie in memory.
Voxels = np.ndarray | Sequence[np.ndarray]

#: In file order (I changes fastest), which is how readers, Slicer and job folders keep voxels: no copy is made of them.
CURRENT = 2
#: In the order of the array (K changes fastest). Its hashes carry no version; stores and models have them for good.
FIRST = 1
_CHUNK_BYTES = 2**24


def version_of(recorded: str) -> int:
    """The version that a recorded hash was made by."""
    version, colon, _digest = recorded.partition(":")
    return int(version) if colon and version.isdecimal() else FIRST


def voxel_hash(voxels: Voxels, version: int = CURRENT) -> str:
    """SHA-256 of shape, type and voxels, whatever the layout in memory: "2:" and 64 hexadecimal digits."""
    if isinstance(voxels, np.ndarray):
        shape, dtype, channels = voxels.shape, voxels.dtype, list(voxels) if voxels.ndim == 4 else [voxels]
    else:
        shape, dtype, channels = (len(voxels), *voxels[0].shape), np.result_type(*voxels), list(voxels)
    digest = hashlib.sha256(f"{shape}{dtype.str}".encode())
    for channel in channels:
        ordered = channel if version == FIRST else channel.T
        step = max(1, _CHUNK_BYTES // max(1, ordered[:1].nbytes))
        for start in range(0, len(ordered), step):
            digest.update(np.ascontiguousarray(ordered[start : start + step], dtype).data)
    return digest.hexdigest() if version == FIRST else f"{version}:{digest.hexdigest()}"


class VoxelHashes:
    """The hashes of one image; each version is computed when something recorded by it is first compared."""

    def __init__(self, voxels: Voxels) -> None:
        self._voxels = voxels
        self.computed: dict[int, str] = {}

    @property
    def current(self) -> str:
        """What to record."""
        return self._of(CURRENT)

    def among(self, recorded: Iterable[str]) -> set[str]:
        """Those of the `recorded` hashes, of any version, that are this image's."""
        return {one for one in recorded if self._of(version_of(one)) == one}

    def _of(self, version: int) -> str:
        if version not in (FIRST, CURRENT):  # recorded by a version to come
            return ""
        if version not in self.computed:
            self.computed[version] = voxel_hash(self._voxels, version)
        return self.computed[version]
