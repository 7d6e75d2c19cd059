"""An image is recognised by its voxels, by hashes of this version and of those that were recorded before."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from MAESegmentLib.images.hashing import FIRST, VoxelHashes, version_of, voxel_hash


def first_hash(array: np.ndarray) -> str:
    """As the first version recorded it."""
    return hashlib.sha256(f"{array.shape}{array.dtype.str}".encode() + array.tobytes()).hexdigest()


ARRAY = np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5)


@pytest.mark.parametrize("version", [FIRST, 2])
def test_contents_are_told_apart_but_not_layouts_in_memory(version: int) -> None:
    for array in (ARRAY, ARRAY[0]):
        known = voxel_hash(array, version)
        assert known == voxel_hash(np.asfortranarray(array), version)
        others = (array + 1, array.astype(np.int32), array.reshape(*array.shape[::-1]), array[..., ::-1])
        assert known not in [voxel_hash(other, version) for other in others]
    as_nodes = [np.ascontiguousarray(channel.T) for channel in ARRAY]
    assert voxel_hash([channel.T for channel in as_nodes], version) == voxel_hash(ARRAY, version)


def test_large_images_are_hashed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [voxel_hash(ARRAY, version) for version in (FIRST, 2)]
    monkeypatch.setattr("MAESegmentLib.images.hashing._CHUNK_BYTES", 50)
    assert [voxel_hash(ARRAY, version) for version in (FIRST, 2)] == whole


def test_each_version_is_recognised_and_computed_only_when_something_was_recorded_by_it() -> None:
    hashes = VoxelHashes(ARRAY)
    assert hashes.among(["2:0", "9:0"]) == set()
    assert hashes.among([hashes.current, "2:0"]) == {hashes.current}
    assert set(hashes.computed) == {2}
    assert hashes.among([first_hash(ARRAY), first_hash(ARRAY[0])]) == {first_hash(ARRAY)}
    assert [version_of(one) for one in (first_hash(ARRAY), hashes.current)] == [FIRST, 2]
