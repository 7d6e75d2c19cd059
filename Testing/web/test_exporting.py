"""Files that the browser saves: one for each thing that was asked for, whatever people called it."""

from __future__ import annotations

import asyncio
import csv
import string
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import slicer
from hypothesis import given
from hypothesis import strategies as st

from MAESegmentLib import mrml
from MAESegmentLib.errors import NodeError, OutputError
from MAESegmentLib.images.reading import read_label_map, read_segments
from MAESegmentLib.images.volume import Volume
from MAESegmentLib.storage.file_names import file_name, unique_file_names, uploaded_name
from MAESegmentLib.web import exporting
from MAESegmentLib.web.door.downloads import Downloads
from MAESegmentLib.web.panels.export import ExportPanel
from MAESegmentLib.web.panels.improve import ImprovePanel
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


def opened(scan):
    """As it is open on the page; not from DICOM."""
    return Scan(scan, Volume(np.zeros((1, 1, 1, 1)), np.eye(4)))


def exported(scan, node, ending, folder: Path, **how):
    return asyncio.run(exporting.export(opened(scan), node, ending, folder, **how))


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


def test_statistics_are_a_row_for_each_structure_and_empty_ones_on_request(tmp_path):
    scan = volume(GRIDS["oblique"])
    node, labels = segmented(scan, labels_for((9, 11, 13))), labels_for((9, 11, 13))
    for with_empty, names in ((False, ["front", "back, left"]), (True, ["front", "back, left", "never there"])):
        path, notes = exported(scan, node, ".csv", tmp_path, with_empty=with_empty)
        rows = list(csv.DictReader(path.open()))
        assert ([row["Segment"] for row in rows], notes) == (names, ())
        assert [int(row["Voxel count"]) for row in rows[:2]] == [np.sum(labels == value) for value in (1, 3)]
        assert float(rows[0]["Mean"]) == pytest.approx(slicer.util.arrayFromVolume(scan)[labels == 1].mean())


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
    node.SetName("left/right")
    assert exported(scan, node, ending, tmp_path)[0].name == f"left_right{ending}"


@pytest.mark.parametrize("with_empty", [False, True])
def test_a_structure_without_voxels_is_left_out_and_named_unless_asked_for(with_empty, tmp_path):
    scan, node = drawn(("A", "B"))
    node.GetSegmentation().AddEmptySegment("Segment_1", "Nothing")
    path, notes = exported(scan, node, ".seg.nrrd", tmp_path, with_empty=with_empty)
    assert notes == (() if with_empty else ("Left out because they are empty: Nothing.",))
    header = path.read_bytes().partition(b"\n\n")[0].decode()
    assert ("Nothing" in header) is with_empty
    assert header.count("_Name:=") == 2 + with_empty
    # The number that is the empty one's is nobody else's.
    assert set(np.unique(read_label_map(path).array)) == {0, 2, 3}


@pytest.mark.parametrize("ending", [".seg.nrrd", ".nii.gz", ".zip"])
def test_a_background_of_scribbles_is_no_structure_and_that_is_said(ending, tmp_path):
    scan, node = drawn(("A", "Background"))
    path, notes = exported(scan, node, ending, tmp_path, with_empty=True)
    assert "the background, which is no structure" in " ".join(notes)
    if ending == ".zip":
        with zipfile.ZipFile(path) as archive:
            assert archive.namelist() == ["A.stl"]
        return
    label_map, labels = read_segments(path)
    assert [label.name for label in labels] == (["A"] if ending == ".seg.nrrd" else [])
    assert len(np.unique(label_map.array)) == 2
    scan, node = drawn(("background",))
    with pytest.raises(NodeError, match="Nothing is drawn"):
        exported(scan, node, ending, tmp_path)


def test_exported_surfaces_are_not_shown(tmp_path):
    scan, node = drawn(("A",))
    exported(scan, node, ".zip", tmp_path)
    assert not node.GetDisplayNode().GetVisibility3D()
    mrml.show_in_3d(node, True)
    exported(scan, node, ".zip", tmp_path)
    assert node.GetDisplayNode().GetVisibility3D()


@given(st.lists(st.text(st.characters() | st.sampled_from("aA/\\. " + string.digits), max_size=300), max_size=8))
def test_no_name_is_lost_or_leads_elsewhere(names):
    found = unique_file_names(names, ".stl")
    assert len({name.casefold() for name in found}) == len(names)
    for name in [*found, *map(uploaded_name, names)]:
        assert Path(name).name == name
        assert 0 < len(name.encode()) <= 255
        assert name == name.strip()
        assert not set('/\\:*?"<>|\0\n') & set(name)


# What is offered -----------------------------------------------------------------------------------------------------


class Page(dict):
    """The state that a page shares."""

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        return None

    def change(self, _name):
        return lambda callback: callback


@pytest.fixture
def panel(tmp_path):
    """The section Export over a segmentation of A and B, and its scan."""
    scan, node = drawn(("A", "B"))
    workspace = SimpleNamespace(scan=opened(scan), segmentation=node, add_listener=lambda _update: None)
    downloads = Downloads(tmp_path / "export")
    app = SimpleNamespace(state=Page(), workspace=workspace, logic=None, session=None, downloads=downloads)
    panel = ExportPanel(app)
    panel.update()
    return panel


def offered(panel):
    """Where the file is that can be saved, or None; nothing that is offered no more stays on the disk."""
    url, files = panel.get("url"), [*panel.app.downloads._root.rglob("*.*")]
    assert [*panel.app.downloads._offered] == ([url.rpartition("/")[2]] if url else [])
    assert len(files) == bool(url)
    return files[0] if files else None


def paint(node):
    segment_id = node.GetSegmentation().GetNthSegmentID(0)
    array = slicer.util.arrayFromSegmentBinaryLabelmap(node, segment_id).copy()
    array[0, 0, 0] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, segment_id, None)


def segment(node, number=0):
    return node.GetSegmentation().GetNthSegment(number)


CHANGES = {
    "voxels": paint,
    "a name": lambda node: segment(node).SetName("C"),
    "the name of all": lambda node: node.SetName("Other"),
    "a colour": lambda node: segment(node).SetColor(0.1, 0.2, 0.3),
    "a segment more": lambda node: node.GetSegmentation().AddEmptySegment("", "D"),
    "a segment less": lambda node: node.GetSegmentation().RemoveSegment(node.GetSegmentation().GetNthSegmentID(1)),
    "the order": lambda node: node.GetSegmentation().SetSegmentIndex(node.GetSegmentation().GetNthSegmentID(0), 1),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("ending", [".seg.nrrd", ".zip"])
def test_a_file_is_offered_until_what_it_holds_is_changed(panel, ending, change):
    number = [one.ending for one in exporting.FORMATS].index(ending)
    asyncio.run(panel._export(number))
    node = panel.workspace.segmentation
    node.GetDisplayNode().SetVisibility(False)
    node.CreateClosedSurfaceRepresentation()
    assert offered(panel) is not None
    change(node)
    assert offered(panel) is None
    assert not panel.get("file")
    asyncio.run(panel._export(number))
    assert offered(panel) is not None


def test_a_file_is_offered_until_another_segmentation_is_chosen(panel):
    asyncio.run(panel._export(0))
    first = panel.workspace.segmentation
    panel.workspace.segmentation = drawn(("C",))[1]
    panel.update()
    assert offered(panel) is None
    asyncio.run(panel._export(0))
    paint(first)
    assert offered(panel) is not None


@pytest.mark.parametrize("is_other", [False, True])
def test_what_is_changed_while_it_is_written_is_not_offered(panel, is_other, monkeypatch):
    asyncio.run(panel._export(0))
    write = exporting.export

    async def slow(scan, node, ending, folder, **how):
        assert offered(panel) is None
        found = await write(scan, node, ending, folder, **how)
        if is_other:
            panel.workspace.segmentation = drawn(("C",))[1]
            panel.update()
        else:
            paint(node)
        return found

    monkeypatch.setattr("MAESegmentLib.web.panels.export.export", slow)
    with pytest.raises(NodeError, match="changed while"):
        asyncio.run(panel._export(0))
    assert not panel.get("url")
    assert not panel.get("busy")
    assert panel.app.downloads._offered == {}


def test_no_model_is_offered_while_the_next_one_is_written(tmp_path):
    class Versions(ImprovePanel):
        def __init__(self):
            self.app = SimpleNamespace(state=Page(), downloads=Downloads(tmp_path / "export"))
            state = SimpleNamespace(row=lambda _name: "listed", is_exporting=False)
            self.versions = SimpleNamespace(state=state, export=self.export, forget=lambda: None)

        def export(self, _version, path, done):
            seen.append(self.get("url"))
            path.write_bytes(b"model")
            done(path)

    seen = []
    panel = Versions()
    for version in ("1.0.0", "1.1.0"):
        panel.export_version(f"tiny@{version}")
        assert offered(panel).name == f"tiny-{version}.zip"
    assert seen == ["", ""]
