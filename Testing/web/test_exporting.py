"""Files that the browser saves: one for each thing that was asked for, whatever people called it."""

from __future__ import annotations

import asyncio
import string
import zipfile
from pathlib import Path

import numpy as np
import pytest
import slicer
from hypothesis import given
from hypothesis import strategies as st

from MAESegmentLib import mrml
from MAESegmentLib.errors import OutputError
from MAESegmentLib.web import exporting
from MAESegmentLib.web.file_names import file_name, unique_file_names, uploaded_name
from MAESegmentLib.web.workspace import Scan
from Testing import slicer_core
from Testing.mrml.nodes import GRIDS, TRANSFORMS, labels_for, segmented, volume

NAMES = {
    "twice the same": ("A", "A"),
    "case alone": ("Front", "front"),
    "a slash": ("a/b", "c/b", "a\\b"),
    "too long for a file system": ("x" * 300, "x" * 299 + "y"),
    "long, of more bytes than letters": ("海" * 200, "海" * 201),
    "spaces": (" ", "", "A ", " A", "A\t"),
    "control characters": ("a\tb", "a\nb", "a\x1b[31mb"),
    "accents written in two ways": ("caf\u00e9", "cafe\u0301"),
    "leading elsewhere": ("..", "../../etc/passwd", "/etc/passwd", "C:\\x"),
    "devices of Windows": ("CON", "nul.txt", "com1"),
    "numbered like ours": ("A", "A (2)", "A", "a (2)"),
}


@pytest.fixture(autouse=True)
def scene():
    slicer_core.fresh_scene()
    yield
    slicer_core.fresh_scene()


def drawn(names, grid="oblique"):
    """(scan, segmentation): a small body for each name, side by side."""
    scan = volume(GRIDS[grid], shape=(6, 7, 4 * len(names)))
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Result")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(scan)
    for number, name in enumerate(names):
        array = np.zeros((6, 7, 4 * len(names)), np.uint8)
        array[2:5, 2:5, 4 * number + 1 : 4 * number + 3] = 1
        segment_id = node.GetSegmentation().AddEmptySegment("", name)
        node.GetSegmentation().GetSegment(segment_id).SetName(name)
        slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, segment_id, scan)
    return scan, node


def exported(scan, node, ending, folder: Path):
    work = Scan(scan, None)
    return asyncio.run(exporting.export(work, node, ending, folder))


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_every_segment_has_a_surface_of_its_own_in_the_zip(names, tmp_path):
    scan, node = drawn(names)
    path, notes = exported(scan, node, ".zip", tmp_path)
    assert notes == ()
    with zipfile.ZipFile(path) as archive:
        found = archive.namelist()
        assert len({name.casefold() for name in found}) == len(found) == len(names)
        assert len({archive.read(name) for name in found}) == len(names)
        archive.extractall(tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == len(names)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_surfaces_are_those_that_slicer_writes(transform, tmp_path):
    scan = volume(GRIDS["oblique, left-handed"], TRANSFORMS[transform])
    node = segmented(scan, labels_for((9, 11, 13)))
    node.CreateClosedSurfaceRepresentation()
    logic = slicer.modules.segmentations.logic()
    (tmp_path / "slicer").mkdir()
    assert logic.ExportSegmentsClosedSurfaceRepresentationToFiles(str(tmp_path / "slicer"), node, None, "STL", True)
    path, notes = exported(scan, node, ".zip", tmp_path)
    assert notes == ("never there is empty: it has no surface.",)
    with zipfile.ZipFile(path) as archive:
        ours = {archive.read(name)[80:] for name in archive.namelist()}
    assert ours == {file.read_bytes()[80:] for file in (tmp_path / "slicer").iterdir() if file.stat().st_size > 84}


def test_a_surface_that_is_not_written_whole_is_an_error_and_leaves_no_zip(tmp_path, monkeypatch):
    scan, node = drawn(("A", "B"))

    def cut_off(_surface, path):
        path.write_bytes(b"half")
        raise OutputError("A surface could not be written whole.")

    monkeypatch.setattr(mrml, "write_stl", cut_off)
    with pytest.raises(OutputError):
        exported(scan, node, ".zip", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_stl_that_the_disk_cuts_off_is_an_error(tmp_path):
    _scan, node = drawn(("A",))
    node.CreateClosedSurfaceRepresentation()
    surface = mrml.world_surface(node, node.GetSegmentation().GetNthSegmentID(0))
    with pytest.raises(OutputError):
        mrml.write_stl(surface, tmp_path / "no such folder" / "x.stl")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Liver L/R", "Liver L_R"), ("", "unnamed"), ("..", "unnamed"), ("a\0b", "a_b"), ("CON", "_CON")],
)
def test_an_exported_name_is_not_cut_at_a_slash(name, expected):
    assert file_name(name) == expected


@pytest.mark.parametrize("ending", [".nii.gz", ".seg.nrrd"])
def test_a_name_of_300_letters_is_written_too(ending, tmp_path):
    scan, node = drawn(("A",))
    node.SetName("/" + "海" * 300)
    path, _notes = exported(scan, node, ending, tmp_path)
    assert path.is_file()
    assert path.name.endswith(ending)


@given(st.lists(st.text(st.characters() | st.sampled_from("aA/\\. " + string.digits), max_size=300), max_size=8))
def test_no_name_is_lost_or_leads_elsewhere(names):
    found = unique_file_names(names, ".stl")
    assert len({name.casefold() for name in found}) == len(names)
    for name in [*found, *map(uploaded_name, names)]:
        assert Path(name).name == name
        assert 0 < len(name.encode()) <= 255
        assert name == name.strip()
        assert not set('/\\:*?"<>|\0\n') & set(name)
