"""Entries of Slicer's Sample Data module, registered with a stand-in for it; nothing is downloaded here."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from urllib.parse import urlparse
from urllib.request import url2pathname

import pytest
import slicer

from MAESegmentLib import samples

REPOSITORY = Path(__file__).resolve().parents[3]
#: What `registerCustomSampleDataSource` takes in Slicer 5.10 and 5.12.
PARAMETERS = {
    "category", "sampleName", "uris", "fileNames", "nodeNames", "customDownloader", "thumbnailFileName",
    "loadFileTypes", "loadFiles", "loadFileProperties", "checksums", "loadFileType",
}  # fmt: skip


def load_sample_data() -> ModuleType:
    """The module by itself: its package needs Slicer."""
    path = REPOSITORY / "MAESegment/MAESegmentPlugin/sample_data.py"
    spec = importlib.util.spec_from_file_location("sample_data_alone", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def entries(monkeypatch) -> list[SimpleNamespace]:
    registered: list[SimpleNamespace] = []

    class SampleDataLogic:
        @staticmethod
        def registerCustomSampleDataSource(**entry):  # noqa: N802, as Slicer names it
            assert set(entry) <= PARAMETERS
            registered.append(SimpleNamespace(**entry))

    monkeypatch.setitem(sys.modules, "SampleData", SimpleNamespace(SampleDataLogic=SampleDataLogic))
    load_sample_data().register()
    return registered


def test_every_file_of_an_entry_has_a_name_a_node_a_type_and_a_checksum(entries):
    assert {entry.category for entry in entries} == {"MAESegment"}
    for entry in entries:
        lists = (entry.uris, entry.fileNames, entry.nodeNames, entry.loadFileTypes, entry.checksums)
        assert len({len(values) for values in lists}) == 1
        assert all(checksum.startswith("SHA256:") and len(checksum) == 71 for checksum in entry.checksums)
        assert Path(entry.thumbnailFileName).is_file()


def test_the_head_is_the_one_that_the_demo_segments(entries):
    assert entries[0].uris[0].startswith("https://")
    assert entries[0].uris[0].endswith(samples.head_path().name)
    assert entries[0].checksums[0] == f"SHA256:{hashlib.sha256(samples.head_path().read_bytes()).hexdigest()}"


def test_the_boxes_are_those_of_the_demo(entries):
    boxes = {}
    for uri, node in zip(entries[0].uris[1:], entries[0].nodeNames[1:], strict=True):
        (roi,) = json.loads(Path(url2pathname(urlparse(uri).path)).read_text())["markups"]
        assert (roi["type"], roi["coordinateSystem"]) == ("ROI", "LPS")
        left, posterior, superior = roi["center"]
        low_and_high = (
            (middle - size / 2, middle + size / 2)
            for middle, size in zip((-left, -posterior, superior), roi["size"], strict=True)
        )
        boxes[node.split()[0]] = ",".join(f"{value:g}" for pair in low_and_high for value in pair)
    assert boxes == {"Left": samples.ROI_LEFT, "Right": samples.ROI_RIGHT}


def test_slicer_reads_the_boxes_and_the_cache_would_notice_another_one(entries):
    for uri, checksum in zip(entries[0].uris[1:], entries[0].checksums[1:], strict=True):
        path = Path(url2pathname(urlparse(uri).path))
        assert checksum == f"SHA256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
        scene, node = slicer.vtkMRMLScene(), slicer.vtkMRMLMarkupsROINode()
        storage = slicer.vtkMRMLMarkupsROIJsonStorageNode()
        scene.AddNode(slicer.vtkMRMLSelectionNode())
        scene.AddNode(node)
        scene.AddNode(storage)
        storage.SetFileName(str(path))
        assert storage.ReadData(node) == 1
        bounds = [0.0] * 6
        node.GetRASBounds(bounds)
        expected = samples.ROI_LEFT if "left" in path.name else samples.ROI_RIGHT
        assert ",".join(f"{value:g}" for value in bounds) == expected


def test_a_slicer_without_sample_data_is_left_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "SampleData", None)
    load_sample_data().register()
