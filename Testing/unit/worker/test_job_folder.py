"""What one side writes into a job folder is what the other reads, or an error that says why."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from MAESegmentLib.errors import OutputError, VolumeReadError
from MAESegmentLib.images.volume import LabelMap
from MAESegmentLib.storage.user_folders import default_working_folder
from MAESegmentLib.worker.job_folder import JobFolder, full_label_array, remove_stale
from Testing.children import become_nobody, no_file_beyond, run

MATRIX = np.array([[-0.8, 0.1, 0, 7], [0.1, 0.8, 0, -3], [0, 0, 2.5, 11], [0, 0, 0, 1.0]])
DTYPES = ["?", "i1", "u1", "<i2", ">i2", "<u2", "<i4", ">i4", "<u4", "<i8", ">u8", "<f2", "<f4", ">f4", "<f8", ">f8"]


@pytest.fixture
def folder(tmp_path) -> JobFolder:
    return JobFolder.create(tmp_path / "work")


def write(folder: JobFolder, *channels: np.ndarray) -> list[float]:
    return [*folder.write_volume(channels, MATRIX)]


def voxels(shape=(4, 5, 6), dtype="<i2", seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(0, 40, shape)).astype(np.int8).astype(dtype)


# Volumes -------------------------------------------------------------------------------------------------------------


def notes(folder: JobFolder, *channels: np.ndarray) -> tuple[str, ...]:
    steps = folder.change_notes(channels)
    while True:
        try:
            next(steps)
        except StopIteration as over:
            return over.value


def test_voxels_that_are_not_what_was_written_are_noted(folder):
    first, second = voxels(), voxels(dtype="<f4", seed=1)
    second[1, 2, 3] = np.nan
    write(folder, first, second)
    assert notes(folder, first, second) == ()
    changed = second.copy()
    changed[-1, -1, -1] += 1
    for other in (changed, second[:-1], second.astype("<f8")):
        (note,) = notes(folder, first, other)
        assert "changed while it was being segmented" in note


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_real_type_comes_back_as_it_was(folder, dtype):
    array = voxels(dtype=dtype)
    write(folder, array)
    volume = folder.read_volume()
    assert volume.array.dtype == np.dtype(dtype)
    assert volume.array.shape == (1, 6, 5, 4)
    assert np.array_equal(volume.array[0], array.T)
    assert np.array_equal(volume.ijk_to_ras, MATRIX)


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[::-1, :, ::-1],
        lambda a: a[1:3, 2:, ::2],
        lambda a: a.T,
        np.asfortranarray,
        lambda a: np.broadcast_to(a[:1], a.shape),
    ],
    ids=["flipped", "cropped", "transposed", "fortran", "broadcast"],
)
def test_views_are_written_as_they_look(folder, view):
    array = view(voxels())
    write(folder, array)
    assert np.array_equal(folder.read_volume().array[0], array.T)


def test_channels_keep_their_order(folder):
    channels = [voxels(seed=seed) for seed in range(3)]
    fractions = write(folder, *channels)
    array = folder.read_volume().array
    assert array.shape == (3, 6, 5, 4)
    assert all(np.array_equal(read, channel.T) for read, channel in zip(array, channels, strict=True))
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_channels_of_different_types_meet_in_one_that_holds_both(folder):
    write(folder, voxels(dtype="<i2"), voxels(dtype="<f4") + 0.5)
    array = folder.read_volume().array
    assert np.array_equal(array[0], voxels().T)
    assert np.array_equal(array[1], voxels().T + 0.5)


@given(array=arrays.arrays(np.int16, arrays.array_shapes(min_dims=3, max_dims=3, max_side=7)))
def test_any_shape_comes_back(tmp_path_factory, array):
    folder = JobFolder.create(tmp_path_factory.mktemp("any"))
    write(folder, array)
    assert np.array_equal(folder.read_volume().array[0], array.T)


@pytest.mark.parametrize("shape", [(40, 512, 512), (2, 2048, 2560)], ids=["many slices", "huge slices"])
def test_no_step_writes_more_than_8_mib(folder, shape):
    """It runs between two events of a GUI."""
    array = np.zeros(shape, np.float32)
    array[:, -1, -1] = 7
    size, steps = 0, []
    for _fraction in folder.write_volume([array], MATRIX):
        written = sum(file.stat().st_size for file in folder.path.iterdir())
        steps.append(written - size)
        size = written
    assert max(steps) <= 9 * 2**20
    assert np.array_equal(folder.read_volume().array[0], array.T)


def test_large_volume_is_mapped_and_not_copied(folder):
    write(folder, np.zeros((64, 64, 64), np.int16))
    array = folder.read_volume().array
    while isinstance(array, np.ndarray) and not isinstance(array, np.memmap):
        array = array.base
    assert isinstance(array, np.memmap)


@given(steps=st.integers(0, 8))
def test_half_written_volume_is_none(tmp_path_factory, steps):
    folder = JobFolder.create(tmp_path_factory.mktemp("half"))
    writing = folder.write_volume([np.zeros((3, 1024, 2048), np.int16)] * 2, MATRIX)
    for _ in range(steps):
        if next(writing, None) is None:
            break
    else:
        with pytest.raises(VolumeReadError, match="Segment it again"):
            folder.read_volume()
        return
    assert folder.read_volume().array.shape[0] == 2


@pytest.mark.parametrize(
    "damage", ["cut", "empty", "pickle", "zip", "flat", "other shape", "matrix", "no json", "list"]
)
def test_damaged_volume_is_refused(folder, damage):
    write(folder, voxels(), voxels())
    image, header = folder.path / "image_1.npy", folder.path / "volume.json"
    if damage == "cut":
        image.write_bytes(image.read_bytes()[:-9])
    elif damage == "empty":
        image.write_bytes(b"")
    elif damage == "pickle":
        np.save(image, np.array([{}], dtype=object), allow_pickle=True)
    elif damage == "zip":
        with image.open("wb") as stream:
            np.savez(stream, voxels())
    elif damage == "flat":
        np.save(image, voxels().ravel())
    elif damage == "other shape":
        np.save(image, voxels((4, 5, 7)))
    else:
        text = {"matrix": '{"channels": 2, "ijk_to_ras": [1, 2]}', "no json": "{", "list": "[]"}[damage]
        header.write_text(text)
    with pytest.raises(VolumeReadError):
        folder.read_volume()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_label_map_comes_back_on_the_grid_of_its_scan(folder, dtype):
    array = voxels(dtype=dtype)
    write(folder, voxels())
    assert [*folder.write_label_map(array)][-1] == 1.0
    label_map = folder.read_label_map(folder.read_volume())
    assert label_map.array.dtype == dtype
    assert np.array_equal(label_map.array, array.T)
    assert np.array_equal(label_map.ijk_to_ras, MATRIX)


def test_large_label_map_is_written_in_steps_and_half_of_it_is_none(folder):
    write(folder, voxels())
    steps = folder.write_label_map(np.zeros((40, 1024, 1024), np.uint8))
    first = next(steps)
    with pytest.raises(VolumeReadError, match="Try it again"):
        folder.read_label_map(folder.read_volume())
    shares = [first, *steps]
    assert len(shares) > 3
    assert shares == sorted(shares)
    assert folder.read_label_map(folder.read_volume()).array.shape == (1024, 1024, 40)


@pytest.mark.parametrize(
    "array", [np.zeros((4, 5, 6), np.float32), np.zeros((4, 30), np.uint8), np.array([[["a"]]], dtype=object)]
)
def test_what_is_not_a_label_map_is_refused(folder, array):
    write(folder, voxels())
    np.save(folder.path / "labels_in.npy", array, allow_pickle=True)
    with pytest.raises(VolumeReadError):
        folder.read_label_map(folder.read_volume())


# Labels --------------------------------------------------------------------------------------------------------------


def shapes_and_blocks(draw):
    shape = draw(st.tuples(*[st.integers(1, 9)] * 3))
    starts = [draw(st.integers(0, n - 1)) for n in shape]
    stops = [draw(st.integers(start + 1, n)) for start, n in zip(starts, shape, strict=True)]
    return shape, tuple(map(slice, starts, stops))


@given(
    grid=st.composite(shapes_and_blocks)(),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    order=st.sampled_from("CF"),
)
def test_labels_come_back_on_the_whole_grid(tmp_path_factory, grid, dtype, order):
    shape, block = grid
    array = np.zeros(shape, dtype, order=order)
    array[block] = np.iinfo(dtype).max
    folder = JobFolder.create(tmp_path_factory.mktemp("labels"))
    data = json.loads(json.dumps(folder.write_labels(LabelMap(array, MATRIX))))
    read, origin = folder.read_labels(data)
    assert read.flags.c_contiguous
    assert read.dtype == dtype
    assert read.shape == array[block].T.shape
    assert origin == tuple(part.start for part in block)
    assert np.array_equal(full_label_array(read, origin, data["shape_ijk"]), array.T)


def test_no_label_at_all(folder):
    data = folder.write_labels(LabelMap(np.zeros((4, 5, 6), np.uint8), MATRIX))
    block, origin = folder.read_labels(data)
    assert block.size == 0
    whole = full_label_array(block, origin, data["shape_ijk"])
    assert whole.shape == (6, 5, 4)
    assert not whole.any()


GOOD = {"file": "labels.npy", "origin_ijk": [1, 0, 0], "shape_ijk": [4, 3, 2]}


@pytest.fixture
def with_labels(folder) -> JobFolder:
    np.save(folder.path / "labels.npy", np.ones((2, 3, 3), np.uint8))
    return folder


def test_the_good_example_is_read(with_labels):
    block, origin = with_labels.read_labels(GOOD)
    assert (block.shape, origin) == ((2, 3, 3), (1, 0, 0))


@pytest.mark.parametrize(
    "name",
    ["../labels.npy", "/etc/passwd", "a/labels.npy", "", ".", "..", "labels.npy\0", "none.npy", None, 3, "link.npy"],
)
def test_label_files_outside_the_folder_are_refused(with_labels, name):
    np.save(with_labels.path.parent / "labels.npy", np.ones((2, 3, 3), np.uint8))
    (with_labels.path / "link.npy").symlink_to(with_labels.path.parent / "labels.npy")
    with pytest.raises(VolumeReadError):
        with_labels.read_labels({**GOOD, "file": name})


@pytest.mark.parametrize(
    "data",
    [
        {},
        None,
        [],
        {**GOOD, "origin_ijk": [2, 0, 0]},
        {**GOOD, "origin_ijk": [-1, 0, 0]},
        {**GOOD, "origin_ijk": [1, 0]},
        {**GOOD, "origin_ijk": [float("inf"), 0, 0]},
        {**GOOD, "origin_ijk": None},
        {**GOOD, "shape_ijk": [9]},
        {**GOOD, "shape_ijk": [4, 3]},
        {**GOOD, "shape_ijk": "abc"},
    ],
)
def test_answers_that_do_not_fit_are_refused(with_labels, data):
    with pytest.raises(VolumeReadError):
        with_labels.read_labels(data)


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def npz() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, np.ones((2, 3, 3), np.uint8))
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"no array",
        npy(np.ones((2, 3, 3), np.uint8))[:-1],
        npy(np.ones((2, 3, 3), np.float32)),
        npy(np.ones((2, 3, 3), np.int64)),
        npy(np.ones((2, 9), np.uint8)),
        npy(np.array([[[{}]]], dtype=object)),
        npz(),
        npy(np.ones((2, 3, 3), np.uint8)).replace(b"(2, 3, 3)", b"(9**9,3,)"),
        npy(np.ones((2, 3, 3), np.uint8)).replace(b"(2, 3, 3)", b"(-2,3,3)"),
    ],
    ids=["empty", "magic", "garbage", "cut", "floats", "int64", "flat", "pickle", "zip", "code", "negative"],
)
def test_foreign_label_files_are_refused(with_labels, content):
    (with_labels.path / "labels.npy").write_bytes(content)
    with pytest.raises(VolumeReadError):
        with_labels.read_labels(GOOD)


# Disks ---------------------------------------------------------------------------------------------------------------

LARGE = np.ones((128, 128, 128), np.uint8)


@pytest.mark.parametrize(
    ("write", "read", "what"),
    [
        (
            lambda folder: list(folder.write_volume([LARGE.astype(np.int16)], MATRIX)),
            lambda folder: folder.read_volume(),
            "The volume",
        ),
        (
            lambda folder: folder.write_labels(LabelMap(LARGE, MATRIX)),
            lambda folder: folder.read_labels({**GOOD, "shape_ijk": LARGE.shape}),
            "The label map",
        ),
        (
            lambda folder: list(folder.write_label_map(LARGE)),
            lambda folder: folder.read_label_map(SimpleNamespace(ijk_to_ras=MATRIX)),
            "The label map",
        ),
    ],
    ids=["volume", "labels", "label map of a case"],
)
def test_what_does_not_fit_on_the_disk(folder, write, read, what):
    with no_file_beyond(2**20), pytest.raises(OutputError, match=f"{what} cannot be handed over") as caught:
        write(folder)
    assert "working folder" in caught.value.hint
    with pytest.raises(VolumeReadError):
        read(folder)


def test_full_disk_is_called_that(folder):
    (folder.path / ".image_0.npy.part").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"disk with .* is full") as caught:
        write(folder, np.zeros((8, 128, 128), np.int16))
    assert "Free some space" in caught.value.hint


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="working folder"):
        JobFolder.create(tmp_path / "file" / "work")


def test_folder_that_vanished(folder):
    folder.remove()
    with pytest.raises(OutputError):
        write(folder, voxels())
    with pytest.raises(VolumeReadError):
        folder.read_volume()
    with pytest.raises(OutputError):
        folder.write_labels(LabelMap(np.ones((2, 2, 2), np.uint8), MATRIX))


# Their lives ---------------------------------------------------------------------------------------------------------


def test_removing_twice_is_fine(folder):
    write(folder, voxels())
    folder.remove()
    folder.remove()
    assert not folder.path.exists()


def test_only_folders_of_processes_that_are_gone_are_stale(tmp_path):
    """By their locks: numbers say nothing of a process in another container or on another computer."""
    folder = JobFolder.create(tmp_path)
    alive = tmp_path / "maesegment-1-0a"
    folder.path.rename(alive)
    gone = [tmp_path / "maesegment-2-0a", tmp_path / "maesegment-3-1b"]
    kept = [alive, *(tmp_path / name for name in ("maesegment-x-abc", "maesegment-5", "other"))]
    for path in (*kept[1:], *gone):
        path.mkdir()
        (path / ".lock").touch()
    (tmp_path / "maesegment-4-2c").write_text("a file")
    (tmp_path / "maesegment-4-3d").symlink_to(tmp_path / "other")
    assert remove_stale(tmp_path) == gone
    assert all(path.is_dir() for path in kept)
    assert not any(path.exists() for path in gone)
    folder._lock.release()
    assert remove_stale(tmp_path) == [alive]
    assert remove_stale(tmp_path / "none") == []


def test_folder_of_another_user_is_left_alone():
    parent = Path(tempfile.mkdtemp(prefix="shared-"))
    parent.chmod(0o1777)
    folder = parent / "maesegment-1-0a"
    folder.mkdir(mode=0o700)
    (folder / ".lock").touch()

    def work() -> None:
        become_nobody()
        if folder.stat().st_uid != os.getuid():
            assert remove_stale(parent) == []
        JobFolder.create(parent).remove()

    run(work)
    shutil.rmtree(parent)


def test_only_its_owner_may_read_a_folder(tmp_path):
    parent = tmp_path / "new" / "work"
    path = JobFolder.create(parent).path
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (path, parent, parent.parent)] == [0o700] * 3


def test_each_user_has_a_working_folder_of_their_own(monkeypatch):
    """The folder for temporary files is shared: the second user could not write into the first one's."""
    mine = default_working_folder()
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    assert default_working_folder() != mine
